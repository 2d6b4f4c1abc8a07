//! Reports the marks that a gateway has dropped of a policy that it has written.
//!
//! The policy is in force, and its sandbox does not refuse private addresses for what an agent proposed. The write is
//! not repeated, since the gateway would drop them again, and is not undone, since the rest was approved.

use serde_json::json;

use super::found::Written;
use super::store;
use crate::access::action::Action;
use crate::access::policy::AuditSubject;
use crate::audit::Intent;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, Tx};
use crate::error::Error;
use crate::outbox::event_types;
use crate::resources::approvals::rounds::{Round, events};
use crate::upstream::errors::sanitize;

/// Maximum length of a path that is named, in characters. It contains the name of a rule, which an agent can choose.
const PATH_CHARACTERS_MAX: usize = 300;
/// Maximum length of the gateway's hash, in characters.
const HASH_CHARACTERS_MAX: usize = 1_024;

/// Emits the event about lost marks, with an audit entry, in the transaction that stores that the round is written, so
/// that it is reported once. Later reviews of marks on the gateway show the time.
pub(super) async fn report(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    round: &Round,
    written: &Written,
    now: Timestamp,
) -> Result<(), Error> {
    store::set_marks_lost(tx, round.place.gateway.id, now).await?;
    let named = written.lost_marks.named.iter();
    let named: Vec<String> = named.map(|path| sanitize(path, PATH_CHARACTERS_MAX)).collect();
    let detail = json!({
        "approval": round.id.get(),
        "workspace": round.place.workspace(),
        "version": written.version,
        "current_hash": sanitize(&written.policy_hash, HASH_CHARACTERS_MAX),
        "lost_marks": named,
        "total_lost_marks": written.lost_marks.total,
    });
    let mut more = detail.clone();
    more["detected_at"] = now.to_string().into();
    events::emit(ctx, tx, event_types::POLICY_DRIFT_DETECTED, round, more).await?;
    let about = AuditSubject::new(Action::POLICY_DETECT_DRIFT, round.place.name.to_string());
    tx.record(Intent { detail: Some(detail), ..ctx.new_intent(about) }).await
}
