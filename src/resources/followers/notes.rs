//! The stored state of the drafts of a sandbox besides their rounds, and the event about new rounds.

use std::time::Duration;

use serde_json::json;

use super::pass::Pass;
use crate::clock::Timestamp;
use crate::ctx::Tx;
use crate::db::types::SandboxRef;
use crate::error::Error;
use crate::outbox::event_types;
use crate::resources::approvals::drafts::open::OPEN_OF_SANDBOX_MAX;
use crate::resources::approvals::drafts::store;
use crate::resources::approvals::rounds::Round;

/// Interval at which new rounds of a sandbox are announced.
const ANNOUNCE_EVERY: Duration = Duration::from_mins(1);
/// New rounds that an event names.
const NAMED_MAX: usize = 20;

/// Stores what was seen of a sandbox, and announces its new rounds.
pub(super) async fn note(
    pass: &mut Pass<'_>,
    place: &SandboxRef,
    counts: (i32, i32, bool),
) -> Result<(), Error> {
    let has_open = pass.stored.open.contains_key(&place.name);
    let is_noted = pass.stored.noted.contains(&place.name);
    let memory = pass.memory.sandboxes.entry(place.name.clone()).or_default();
    // After a takeover, it is not known what was announced.
    let is_unannounced = memory.is_unannounced || (memory.stored.is_none() && has_open);
    let is_unchanged = match memory.stored {
        Some(stored) => stored == counts,
        None => !is_noted && counts == (0, 0, false),
    };
    if is_unchanged && !is_unannounced {
        return Ok(());
    }
    let ctx = pass.ctx;
    let all_announced = ctx
        .transaction(async |tx| {
            pass.check_held(tx).await?;
            let now = ctx.db().now(tx).await?;
            store::set_state(tx, place, counts, now).await?;
            if is_unannounced { announce(&*pass, tx, place, now).await } else { Ok(true) }
        })
        .await?;
    let memory = pass.memory.sandboxes.entry(place.name.clone()).or_default();
    memory.stored = Some(counts);
    memory.is_unannounced = !all_announced;
    Ok(())
}

/// Announces the rounds that were opened since the last announcement, by one event. Returns false if it is too early.
async fn announce(
    pass: &Pass<'_>,
    tx: &mut Tx<'_>,
    place: &SandboxRef,
    now: Timestamp,
) -> Result<bool, Error> {
    let announced_at = store::state(tx, place).await?.and_then(|state| state.announced_at);
    if announced_at.is_some_and(|at| now.since(at) < ANNOUNCE_EVERY) {
        return Ok(false);
    }
    let open = store::open_of(tx, place, OPEN_OF_SANDBOX_MAX * 2).await?;
    let new: Vec<&Round> =
        open.iter().filter(|round| announced_at.is_none_or(|at| round.opened_at > at)).collect();
    store::set_announced(tx, place, now).await?;
    let Some(first) = new.first() else { return Ok(true) };
    let named: Vec<_> = new
        .iter()
        .take(NAMED_MAX)
        .map(|round| json!({ "approval": round.id.get(), "chunk_id": round.chunk_id }))
        .collect();
    let payload = json!({
        "approval": first.id.get(),
        "action": first.action.as_str(),
        "gateway": &*place.gateway.name,
        "workspace": place.workspace(),
        "sandbox": place.sandbox(),
        "actor": &*pass.ctx.actor(),
        "new_chunks": new.len(),
        "total_pending": open.len(),
        "drafts": named,
        "summary": "",
    });
    let event = pass.ctx.new_event(event_types::APPROVAL_PENDING, payload);
    tx.emit(event.with_gateway(place.gateway.clone())).await?;
    Ok(true)
}
