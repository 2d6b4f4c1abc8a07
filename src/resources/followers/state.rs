//! Sandboxes that appear, disappear and change their phase.
//!
//! Invariants
//! - what was reported is stored in the transaction of its event, so that it is reported once;
//! - the sandboxes of a gateway that is compared for the first time were not created now, and cause no event;
//! - a new sandbox is reported when it is listed for the second time: a creation through Shoreguard is reported by its
//!   own call, which may still be running at the first time.

use futures_util::future::BoxFuture;
use serde_json::json;

use super::pass::Pass;
use super::settled::{ListDigest, Positions, StoredDrafts, is_settled};
use super::store::Stamp;
use crate::clock::Timestamp;
use crate::ctx::Tx;
use crate::db::Conn;
use crate::db::types::GatewayId;
use crate::error::Error;
use crate::openshell::sandbox::{Phase, Sandbox};
use crate::outbox::event_types;
use crate::resources::approvals::drafts::store as drafts;
use crate::resources::sandboxes::domain::{SandboxMeta, compare_all, event_payload, read_metas};
use crate::resources::sandboxes::positions::store as positions;

/// Changes that one transaction stores.
const BATCH: usize = 50;

/// Stored state, read before the gateway was called.
struct Known {
    metas: Vec<SandboxMeta>,
    positions: Positions,
    /// Whether the sandboxes of the gateway were compared before.
    is_followed: bool,
}

/// A difference.
enum Change<'s> {
    /// A sandbox that is older than the first comparison.
    First(&'s Sandbox),
    /// A new sandbox.
    Created(&'s Sandbox),
    /// A sandbox in another phase than this one.
    PhaseChanged(&'s Sandbox, Phase),
}

/// Reads the stored rows about drafts of a gateway. Reads no table that the counts show to be empty.
///
/// # Errors
/// Those of the database.
pub(super) async fn read_drafts(
    conn: &mut Conn,
    gateway: GatewayId,
    stamp: &Stamp,
) -> Result<StoredDrafts, Error> {
    let mut stored = StoredDrafts::default();
    if stamp.rounds.marked > 0 {
        stored.open = drafts::open_by_sandbox(conn, gateway).await?.into_iter().collect();
    }
    if stamp.states.number > 0 {
        stored.noted = drafts::sandboxes_with_state(conn, gateway).await?;
    }
    Ok(stored)
}

/// Lists the sandboxes, reports what has changed, and deletes what is stored of sandboxes that are missing for long
/// enough. Returns the list.
///
/// What is known is read before the list: a sandbox that is created in between is not taken for a deleted one. If the
/// last pass had nothing to do and nothing has changed in the database since, it is read only if the list differs, and
/// the list once more after it.
///
/// # Errors
/// Those of the gateway and of the database.
pub(super) fn follow<'a>(pass: &'a mut Pass<'_>) -> BoxFuture<'a, Result<Vec<Sandbox>, Error>> {
    Box::pin(async move {
        if let Some(before) = pass.list {
            let sandboxes = pass.list_sandboxes().await?;
            if ListDigest::of(&sandboxes) == before {
                return Ok(sandboxes);
            }
        }
        (pass.list, pass.positions) = (None, None);
        let known = read(pass).await?;
        let sandboxes = pass.list_sandboxes().await?;
        if known.is_followed && is_settled(&known.metas, &known.positions, &sandboxes) {
            pass.list = Some(ListDigest::of(&sandboxes));
            pass.positions = Some(known.positions);
        } else {
            compare(pass, known, &sandboxes).await?;
        }
        Ok(sandboxes)
    })
}

/// Reads what is known of the sandboxes of the gateway.
///
/// # Errors
/// Those of the database.
async fn read(pass: &Pass<'_>) -> Result<Known, Error> {
    let on = &pass.gateway_ref;
    let mut conn = pass.ctx.db().read().await?;
    let metas = read_metas(&mut conn, on).await?;
    let rows = positions::of_gateway(&mut conn, on.id).await?;
    let positions = rows.into_iter().map(|position| (position.full_name(), position)).collect();
    Ok(Known { metas, positions, is_followed: pass.stamp.followed.number > 0 })
}

/// Compares a complete list of sandboxes with what was known: reports differences, and deletes what is stored of
/// sandboxes that are missing for long enough.
///
/// # Errors
/// Those of the database.
fn compare<'a>(
    pass: &'a mut Pass<'_>,
    known: Known,
    sandboxes: &'a [Sandbox],
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(async move {
        pass.note_written();
        compare_all(pass.ctx, Some(pass.lease), &known.metas, sandboxes).await?;
        let changes = changes(pass, &known, sandboxes);
        for batch in changes.chunks(BATCH) {
            report(pass, batch).await?;
        }
        if known.is_followed {
            return Ok(());
        }
        let ctx = pass.ctx;
        ctx.transaction(async |tx| {
            pass.check_held(tx).await?;
            let now = ctx.db().now(tx).await?;
            positions::set_followed(tx, pass.gateway_ref.id, now).await
        })
        .await
    })
}

/// Returns the differences. The sandboxes that they concern are read first.
fn changes<'s>(pass: &mut Pass<'_>, known: &Known, sandboxes: &'s [Sandbox]) -> Vec<Change<'s>> {
    let mut changes = Vec::new();
    for sandbox in sandboxes {
        let name = &sandbox.full_name;
        let position = known.positions.get(name).filter(|known| known.sandbox_uid == sandbox.id);
        let change = match position {
            Some(position) if position.phase == sandbox.phase => None,
            Some(position) => Some(Change::PhaseChanged(sandbox, position.phase)),
            // The end of a sandbox whose deletion was reported.
            None if sandbox.phase == Phase::Deleting => None,
            None if !known.is_followed => Some(Change::First(sandbox)),
            None => {
                let memory = pass.memory.sandboxes.entry(name.clone()).or_default();
                let before = memory.first_seen.replace(sandbox.id.clone());
                (before.as_ref() == Some(&sandbox.id)).then_some(Change::Created(sandbox))
            }
        };
        if let Some(change) = change {
            pass.hinted.insert(name.clone());
            changes.push(change);
        }
    }
    changes
}

async fn report(pass: &Pass<'_>, batch: &[Change<'_>]) -> Result<(), Error> {
    let id = pass.gateway_ref.id;
    pass.ctx
        .transaction(async |tx| {
            pass.check_held(tx).await?;
            for change in batch {
                match change {
                    Change::First(sandbox) => {
                        positions::insert(tx, id, sandbox, None).await?;
                    }
                    Change::Created(sandbox) => {
                        if positions::insert(tx, id, sandbox, Some(Timestamp::EPOCH)).await? {
                            emit_created(pass, tx, sandbox).await?;
                        }
                    }
                    Change::PhaseChanged(sandbox, before) => {
                        if positions::set_phase(tx, id, sandbox).await? {
                            emit_phase(pass, tx, sandbox, *before).await?;
                        }
                    }
                }
            }
            Ok(())
        })
        .await
}

async fn emit_created(pass: &Pass<'_>, tx: &mut Tx<'_>, sandbox: &Sandbox) -> Result<(), Error> {
    let facts = json!({
        "gateway": &*pass.gateway_ref.name,
        "sandbox_id": sandbox.id,
        "phase": sandbox.phase.as_str(),
        "image": sandbox.image,
        "gpu": sandbox.gpu,
        "providers": sandbox.providers,
        "noticed": true,
    });
    let payload = event_payload(&sandbox.full_name, facts);
    tx.emit(pass.ctx.new_event(event_types::SANDBOX_CREATED, payload)).await
}

async fn emit_phase(
    pass: &Pass<'_>,
    tx: &mut Tx<'_>,
    sandbox: &Sandbox,
    before: Phase,
) -> Result<(), Error> {
    let facts = json!({
        "gateway": &*pass.gateway_ref.name,
        "sandbox_id": sandbox.id,
        "previous_phase": before.as_str(),
        "phase": sandbox.phase.as_str(),
    });
    let payload = event_payload(&sandbox.full_name, facts);
    tx.emit(pass.ctx.new_event(event_types::SANDBOX_PHASE_CHANGED, payload)).await
}
