//! The end of an expired pin, with its event and audit entry.

use serde_json::json;

use super::domain;
use super::store;
use super::worker::CLOCK;
use crate::access::action::Action;
use crate::access::policy::AuditSubject;
use crate::audit::{Ending, Intent, Outcome};
use crate::ctx::{Ctx, GatewayRef};
use crate::db::leases::{self, Lease};
use crate::db::types::SandboxRef;
use crate::error::Error;
use crate::outbox::event_types;
use crate::resources::approvals::rule_changes::outdated::end_outdated;
use crate::resources::stored_rules::domain::{Pin, delete_pin};
use crate::resources::write_intents::domain as write_intents;
use crate::status::code_and_reason;

/// Ends the pin of a sandbox if it has expired. The clock is the actor, even if a caller pins the
/// sandbox again.
pub(super) async fn end_at(ctx: &Ctx, place: &SandboxRef) -> Result<(), Error> {
    let (found, now) = {
        let mut conn = ctx.db().read().await?;
        let now = ctx.db().now(&mut conn).await?;
        (store::by_place(&mut conn, &place.gateway.name, &place.name).await?, now)
    };
    let Some(expired) = found.filter(|pin| !pin.lock().is_in_force(now)) else { return Ok(()) };
    let clock = Ctx::system(ctx.app(), CLOCK.name);
    end(&clock, None, &place.gateway, &expired).await?;
    Ok(())
}

/// Deletes the row of an expired pin. The audit entry is opened before and closed after, as for a call. Returns `false`
/// if the pin has changed meanwhile.
pub(super) async fn end(
    ctx: &Ctx,
    lease: Option<&Lease>,
    gateway: &GatewayRef,
    pin: &Pin,
) -> Result<bool, Error> {
    let ctx = ctx.clone().with_gateway(gateway.clone());
    let audit = &ctx.app().audit;
    let intent = intent(&ctx, pin);
    let at = intent.at;
    let entry = audit.open(intent).await?;
    let ended = delete(&ctx, lease, gateway, pin).await;
    let now = ctx.now();
    let (ending, code) = match &ended {
        Ok(_) => (Ending::Ok, 0),
        Err(error) => (Ending::Failed, code_and_reason(error).0 as i32),
    };
    let unchanged = matches!(ended, Ok(false));
    let detail = unchanged.then(|| json!({ "outcome": "noop" }));
    let outcome = Outcome { took: now.since(at), detail, ..Outcome::new(now, ending, code) };
    audit.close(entry, outcome).await?;
    ended
}

async fn delete(
    ctx: &Ctx,
    lease: Option<&Lease>,
    gateway: &GatewayRef,
    pin: &Pin,
) -> Result<bool, Error> {
    ctx.transaction(async |tx| {
        if let Some(lease) = lease {
            leases::check_held(tx, lease).await?;
        }
        write_intents::lock_exclusive(tx, gateway.id).await?;
        let is_deleted = delete_pin(tx, pin.id, pin.version).await?;
        if is_deleted {
            domain::emit(ctx, tx, gateway, event_types::POLICY_PIN_EXPIRED, pin).await?;
            let place = SandboxRef { gateway: gateway.clone(), name: pin.sandbox.clone() };
            end_outdated(ctx, tx, &place).await?;
        }
        Ok(is_deleted)
    })
    .await
}

fn intent(ctx: &Ctx, pin: &Pin) -> Intent {
    let about = AuditSubject::new(Action::POLICY_PIN_EXPIRE, pin.sandbox.to_string());
    let detail = json!({
        "workspace": pin.sandbox.workspace,
        "pinned_by": pin.pinned_by,
        "reason": pin.reason,
        "expires_at": pin.expires_at.map(|at| at.to_string()),
    });
    Intent { detail: Some(detail), ..ctx.new_intent(about) }
}
