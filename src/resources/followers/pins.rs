//! Pinned sandboxes whose policy has moved: by a write that did not come through Shoreguard, or by an attached provider
//! (T10).

use std::collections::HashMap;

use futures_util::future::BoxFuture;
use serde_json::json;

use super::pass::{Failures, Pass};
use super::store::{self, FollowedPin, Position};
use crate::access::action::Action;
use crate::access::policy::AuditSubject;
use crate::audit::Intent;
use crate::db::types::SandboxName;
use crate::error::{Error, ResourceKind};
use crate::openshell::annotation;
use crate::openshell::sandbox::Sandbox;
use crate::outbox::event_types;
use crate::resources::write_intents::domain::{self as write_intents, IntentScope};

/// Pins that one pass compares.
const PINS_MAX: usize = 100;
/// Maximum length of a hash that is stored, in bytes. Other hashes count as not reported (T20).
const HASH_BYTES_MAX: usize = 1_024;

/// Where the policy of a pinned sandbox is.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// Not known: a write is in progress, or the sandbox does not exist any more.
    Unknown,
    /// Where it was pinned.
    Pinned,
    /// Elsewhere.
    Moved(Position),
}

/// Compares the policies of pinned sandboxes with the pinned ones. Each pass continues where the last one has ended.
///
/// # Errors
/// Those of the database, and that another replica follows the gateway.
pub(super) fn compare<'a>(
    pass: &'a mut Pass<'_>,
    sandboxes: &'a [Sandbox],
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(async move {
        if pass.stamp.pins.number == 0 {
            pass.memory.last_pin = 0;
            return Ok(());
        }
        let limit = i64::try_from(PINS_MAX).unwrap_or(i64::MAX);
        let pins = {
            let mut conn = pass.ctx.db().read().await?;
            let now = pass.ctx.db().now(&mut conn).await?;
            let gateway = &*pass.gateway_ref.name;
            store::pins(&mut conn, gateway, now, pass.memory.last_pin, limit).await?
        };
        let last = pins.last().filter(|_| pins.len() == PINS_MAX);
        pass.memory.last_pin = last.map_or(0, |last| last.pin.id.get());
        let ids: HashMap<&SandboxName, &str> =
            sandboxes.iter().map(|sandbox| (&sandbox.full_name, sandbox.id.as_str())).collect();
        let mut failures = Failures::default();
        for pin in &pins {
            // A pin is held for the next sandbox of its name, which is no movement of the pinned one.
            let live = ids.get(&pin.pin.sandbox).copied();
            if live.is_none() || live != pin.pin.sandbox_id.as_deref() {
                continue;
            }
            let outcome = compare_one(pass, pin).await;
            if failures.add(outcome, &pin.pin.sandbox)? {
                // The next pass continues with the other pins.
                pass.memory.last_pin = pin.pin.id.get();
                break;
            }
        }
        Ok(())
    })
}

async fn compare_one(pass: &mut Pass<'_>, pin: &FollowedPin) -> Result<(), Error> {
    match read(pass, pin).await? {
        Seen::Unknown => Ok(()),
        Seen::Pinned => report(pass, pin, None).await,
        Seen::Moved(position) => report(pass, pin, Some(&position)).await,
    }
}

async fn read(pass: &mut Pass<'_>, pin: &FollowedPin) -> Result<Seen, Error> {
    let sandbox = &pin.pin.sandbox;
    {
        let place = IntentScope {
            gateway: pass.gateway_ref.id,
            workspace: Some(sandbox.workspace.as_str()),
            sandbox: Some(sandbox.name.as_str()),
        };
        let mut conn = pass.ctx.db().read().await?;
        if !write_intents::in_flight(pass.ctx, &mut conn, place).await?.is_empty() {
            return Ok(Seen::Unknown);
        }
    }
    pass.wait().await;
    let newest = pass.gateway.policy_revision(sandbox, 0).await;
    pass.spend();
    let newest = match newest {
        Ok((newest, _)) => newest,
        Err(Error::NotFound {
            kind: ResourceKind::Sandbox | ResourceKind::PolicyRevision, ..
        }) => {
            return Ok(Seen::Unknown);
        }
        Err(error) => return Err(error),
    };
    pass.wait().await;
    let effective = pass.gateway.effective_policy(sandbox).await;
    pass.spend();
    let hash = match effective {
        Ok(effective) => effective.policy_hash,
        Err(Error::NotFound { .. }) => return Ok(Seen::Unknown),
        Err(error) => return Err(error),
    };
    if !(1..=HASH_BYTES_MAX).contains(&hash.len()) {
        return Ok(Seen::Unknown);
    }
    // Restoring the pinned version writes a revision with the same policy, after a review.
    let is_written_here = newest.provenance.contains_key(annotation::ROUND);
    Ok(place_of(pin, Position { version: newest.version.into(), hash }, is_written_here))
}

fn place_of(pin: &FollowedPin, found: Position, is_written_here: bool) -> Seen {
    let pin = &pin.pin;
    let same_hash = pin.pinned_hash.as_ref().is_none_or(|pinned| *pinned == found.hash);
    let is_restored = is_written_here && pin.pinned_hash.is_some();
    if same_hash && (found.version == pin.pinned_version || is_restored) {
        return Seen::Pinned;
    }
    Seen::Moved(found)
}

/// Stores that a pinned sandbox has moved, with the event and an audit entry, once for each movement; or that it is
/// where it was pinned.
async fn report(pass: &Pass<'_>, pin: &FollowedPin, moved: Option<&Position>) -> Result<(), Error> {
    if pin.drift.as_ref() == moved {
        return Ok(());
    }
    let ctx = pass.ctx;
    ctx.transaction(async |tx| {
        pass.check_held(tx).await?;
        let now = ctx.db().now(tx).await?;
        let is_new = store::set_drift(tx, pin.pin.id, pin.pin.version, moved, now).await?;
        let Some(moved) = moved.filter(|_| is_new) else { return Ok(()) };
        let detail = json!({
            "workspace": pin.pin.sandbox.workspace,
            "pinned_version": pin.pin.pinned_version,
            "version": moved.version,
            "previous_hash": pin.pin.pinned_hash,
            "current_hash": moved.hash,
        });
        let mut payload = detail.clone();
        payload["gateway"] = pin.pin.gateway.as_str().into();
        payload["sandbox"] = pin.pin.sandbox.name.as_str().into();
        payload["detected_at"] = now.to_string().into();
        payload["pinned_by"] = pin.pin.pinned_by.as_str().into();
        let event = ctx.new_event(event_types::POLICY_DRIFT_DETECTED, payload);
        tx.emit(event.with_gateway(pass.gateway_ref.clone())).await?;
        let about = AuditSubject::new(Action::POLICY_DETECT_DRIFT, pin.pin.sandbox.to_string());
        tx.record(Intent { detail: Some(detail), ..ctx.new_intent(about) }).await?;
        Ok(())
    })
    .await
}
