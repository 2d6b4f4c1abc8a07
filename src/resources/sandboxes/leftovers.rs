//! Deletes what is stored under the name of a sandbox whose deletion was not noticed. A new sandbox of that name
//! inherits none of it (T01).

use serde_json::json;
use tracing::info;

use super::cleanup::{self, DeleteScope, SandboxDependents};
use super::domain::event_payload;
use super::store::{self, SandboxMeta};
use crate::access::action::Action;
use crate::access::policy::AuditSubject;
use crate::audit::{Ending, Intent, Outcome};
use crate::clock::Timestamp;
use crate::ctx::Ctx;
use crate::db::leases::{self, Lease};
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::openshell::Gateway;
use crate::outbox::event_types;

/// Called before a sandbox is created. If a former sandbox of that name was known and no longer exists, deletes what is
/// stored under the name. Hooks and an SBOM that were written after it was last seen are for the new sandbox.
pub(super) async fn delete_leftovers_of(
    ctx: &Ctx,
    gateway: &Gateway,
    place: &SandboxName,
) -> Result<(), Error> {
    let on = &ctx.required_gateway()?.name;
    let kept = store::get(&mut ctx.db().read().await?, on, place).await?;
    let Some(kept) = kept.filter(|kept| kept.sandbox_id.is_some()) else { return Ok(()) };
    match gateway.get_sandbox(place).await {
        Err(Error::NotFound { .. }) => {}
        // The gateway will report that the name is taken.
        Ok(_) => return Ok(()),
        Err(error) => return Err(error),
    }
    delete_leftovers(ctx, None, &kept, last_seen(ctx, &kept)).await.map(|_| ())
}

/// Returns when a deleted sandbox was last known to exist: the time at which it was first missed, otherwise one sweep
/// interval ago.
pub(super) fn last_seen(ctx: &Ctx, meta: &SandboxMeta) -> Timestamp {
    let looked = ctx.now().minus(ctx.app().config.sandboxes.sweep_interval());
    meta.missing_since.unwrap_or(looked)
}

/// Deletes what is stored under the name of a sandbox whose deletion was not noticed. Hooks and an SBOM written after
/// `written_by` stay for the next sandbox. Returns `false` if the row has changed meanwhile.
pub(super) async fn delete_leftovers(
    ctx: &Ctx,
    lease: Option<&Lease>,
    meta: &SandboxMeta,
    written_by: Timestamp,
) -> Result<bool, Error> {
    let gateway = &ctx.required_gateway()?.name;
    let place = meta.full_name();
    let gone = ctx
        .record_change(async |tx| {
            if let Some(lease) = lease {
                leases::check_held(tx, lease).await?;
            }
            let now = store::lock(tx, gateway, &place).await?;
            // Another call has deleted or recreated the sandbox meanwhile, and has cleaned up.
            if now.is_none_or(|now| now.id != meta.id || now.sandbox_id != meta.sandbox_id) {
                return Ok(None);
            }
            let old = DeleteScope::WrittenBy(written_by);
            let gone = cleanup::delete_dependents(tx, gateway, &place, old, old).await?;
            let payload =
                event_payload(&place, json!({ "removed": gone.to_json(), "noticed": true }));
            tx.emit(ctx.new_event(event_types::SANDBOX_DELETED, payload)).await?;
            Ok(Some(gone))
        })
        .await?;
    let Some(gone) = gone else { return Ok(false) };
    info!(gateway = %gateway, workspace = place.workspace, sandbox = place.name, "a sandbox was deleted");
    record_deletion(ctx, &place, gone).await?;
    Ok(true)
}

async fn record_deletion(
    ctx: &Ctx,
    place: &SandboxName,
    gone: SandboxDependents,
) -> Result<(), Error> {
    let about = AuditSubject::new(Action::SANDBOX_CLEAN_UP, place.to_string());
    let intent = Intent { detail: Some(gone.to_json()), ..ctx.new_intent(about) };
    let outcome = Outcome::new(intent.at, Ending::Ok, 0);
    ctx.app().audit.record(intent, outcome).await
}
