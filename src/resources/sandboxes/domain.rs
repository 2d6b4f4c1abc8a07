//! Gets, updates, starts, stops and deletes sandboxes. `create` creates them.

use serde_json::json;

use super::cleanup::{self, DeleteScope, SandboxDependents};
use super::leftovers;
use super::store;
pub use super::store::SandboxMeta;
pub use super::worker::{compare_all, read_metas};
use crate::access::action::Action;
use crate::ctx::{Ctx, GatewayRef};
use crate::db::Conn;
use crate::db::types::SandboxName;
use crate::error::{Error, ResourceKind};
use crate::etag;
use crate::labels::Labels;
use crate::openshell::Gateway;
use crate::openshell::sandbox::Sandbox;
use crate::outbox::{EventType, event_types};
use crate::resources::approvals::domain as approvals;
use crate::resources::approvals::gate::{self, Asked, GateCall};

/// A sandbox of a gateway, with the metadata that Shoreguard stores about it.
#[derive(Debug)]
pub struct SandboxWithMeta {
    /// Name of its gateway.
    pub gateway: String,
    /// State that the gateway reports.
    pub sandbox: Sandbox,
    /// Stored metadata.
    pub meta: Option<SandboxMeta>,
}

/// A partial update of the metadata. `None` leaves a field unchanged.
#[derive(Debug, Default)]
pub struct SandboxUpdate {
    /// New description. An inner `None` removes it.
    pub description: Option<Option<String>>,
    /// New labels. They replace all labels.
    pub labels: Option<Labels>,
}

pub(super) async fn connect(ctx: &Ctx) -> Result<Gateway, Error> {
    Ok(Gateway::connect(ctx.app(), ctx.required_gateway()?).await?.on_behalf_of(ctx))
}

/// Reaches the gateway for a call that changes state there. Checks the caller again after the wait.
pub(super) async fn connect_for_change(ctx: &Ctx) -> Result<Gateway, Error> {
    let gateway = connect(ctx).await?;
    ctx.recheck()?;
    Ok(gateway)
}

pub(super) async fn with_meta(ctx: &Ctx, sandbox: Sandbox) -> Result<SandboxWithMeta, Error> {
    let gateway = &ctx.required_gateway()?.name;
    let mut conn = ctx.db().read().await?;
    let meta = store::get(&mut conn, gateway, &sandbox.full_name).await?;
    // Metadata of a former sandbox of that name, whose deletion was not noticed, is not shown for this one.
    let meta = meta.filter(|meta| is_meta_of(meta, &sandbox));
    Ok(SandboxWithMeta { gateway: gateway.to_string(), sandbox, meta })
}

/// Returns whether the metadata belongs to this sandbox and not to a former one of its name.
#[must_use]
pub fn is_meta_of(meta: &SandboxMeta, sandbox: &Sandbox) -> bool {
    is_id_of(meta.sandbox_id.as_deref(), sandbox)
}

/// Returns whether a stored id is that of this sandbox. A row without an id belongs to the sandbox of its name.
#[must_use]
pub fn is_id_of(stored: Option<&str>, sandbox: &Sandbox) -> bool {
    stored.is_none_or(|id| id == sandbox.id)
}

/// Returns a sandbox.
pub async fn get(ctx: &Ctx, place: &SandboxName) -> Result<SandboxWithMeta, Error> {
    let sandbox = connect(ctx).await?.get_sandbox(place).await?;
    with_meta(ctx, sandbox).await
}

/// Updates the metadata of a sandbox, which must exist.
pub async fn update(
    ctx: &Ctx,
    place: &SandboxName,
    change: SandboxUpdate,
    given_etag: &str,
) -> Result<SandboxWithMeta, Error> {
    let gateway = &ctx.required_gateway()?.name;
    let sandbox = connect(ctx).await?.get_sandbox(place).await?;
    ctx.recheck()?;
    let now = ctx.now();
    let kept = store::get(&mut ctx.db().read().await?, gateway, place).await?;
    if let Some(kept) = kept.filter(|kept| !is_meta_of(kept, &sandbox)) {
        // The metadata belongs to a former sandbox whose deletion was not noticed.
        let seen = leftovers::last_seen(ctx, &kept);
        leftovers::delete_leftovers(ctx, None, &kept, seen).await?;
    }
    let meta = ctx
        .transaction(async |tx| {
            let mut meta = store::insert_seen(tx, gateway, place, &sandbox.id, now).await?;
            if !is_meta_of(&meta, &sandbox) {
                return Err(Error::conflict(ResourceKind::Sandbox, &place.name));
            }
            etag::check(given_etag, meta.version, ResourceKind::Sandbox, &place.name)?;
            store::set_sandbox_id(tx, meta.id, &sandbox.id).await?;
            let labels = change
                .labels
                .clone()
                .unwrap_or_else(|| Labels::from_json(meta.labels_json.as_deref()));
            let description = change.description.as_ref().unwrap_or(&meta.description).clone();
            if !store::update_meta(tx, &meta, description.as_deref(), &labels, now).await? {
                return Err(Error::conflict(ResourceKind::Sandbox, &place.name));
            }
            let payload = event_payload(place, json!({ "labels": labels.clone().into_map() }));
            tx.emit(ctx.new_event(event_types::SANDBOX_METADATA_UPDATED, payload)).await?;
            meta.labels_json = labels.to_json()?;
            (meta.description, meta.updated_at) = (description, Some(now));
            meta.version += 1;
            meta.sandbox_id = Some(sandbox.id.clone());
            Ok(meta)
        })
        .await?;
    Ok(SandboxWithMeta { gateway: gateway.to_string(), sandbox, meta: Some(meta) })
}

/// Builds the payload of an event about a sandbox.
#[must_use]
pub fn event_payload(place: &SandboxName, mut more: serde_json::Value) -> serde_json::Value {
    if let Some(more) = more.as_object_mut() {
        more.insert("workspace".to_owned(), place.workspace.as_str().into());
        more.insert("sandbox".to_owned(), place.name.as_str().into());
    }
    more
}

/// Starts a stopped sandbox.
pub async fn start(ctx: &Ctx, place: &SandboxName) -> Result<SandboxWithMeta, Error> {
    let sandbox = connect_for_change(ctx).await?.start_sandbox(place).await?;
    emit_event(ctx, event_types::SANDBOX_STARTED, place).await?;
    with_meta(ctx, sandbox).await
}

/// Stops a sandbox.
pub async fn stop(ctx: &Ctx, place: &SandboxName) -> Result<SandboxWithMeta, Error> {
    let sandbox = connect_for_change(ctx).await?.stop_sandbox(place).await?;
    emit_event(ctx, event_types::SANDBOX_STOPPED, place).await?;
    with_meta(ctx, sandbox).await
}

async fn emit_event(ctx: &Ctx, event: EventType, place: &SandboxName) -> Result<(), Error> {
    let event = ctx.new_event(event, event_payload(place, json!({})));
    ctx.record_change(async |tx| tx.emit(event.clone()).await).await?;
    Ok(())
}

/// Deletes a sandbox and what is stored under its name. With `validate_only`, only returns what would be deleted.
pub async fn delete(
    ctx: &Ctx,
    place: &SandboxName,
    validate_only: bool,
) -> Result<SandboxDependents, Error> {
    let gateway = &ctx.required_gateway()?.name;
    let reached = connect_for_change(ctx).await?;
    ctx.add_audit_detail("workspace", place.workspace.as_str());
    let call = GateCall::new(Asked::Delete(place.clone()), Action::SANDBOX_DELETE);
    if validate_only {
        ctx.add_audit_detail("validate_only", true);
        gate::check(ctx, &reached, &call).await?;
        reached.get_sandbox(place).await?;
        let mut conn = ctx.db().read().await?;
        return cleanup::count_dependents(&mut conn, gateway, place).await;
    }
    let before = stored_before(ctx, place).await?;
    let passed = gate::pass(ctx, &reached, &call).await?;
    let deleted = reached.delete_sandbox(place, passed.until).await;
    gate::finish(ctx, passed).await;
    if !deleted? {
        return Err(Error::not_found(ResourceKind::Sandbox, &place.name));
    }
    record_deletion(ctx, place, before.as_ref()).await
}

/// Returns what is stored about a sandbox before its deletion is sent, for [`record_deletion`].
pub(super) async fn stored_before(
    ctx: &Ctx,
    place: &SandboxName,
) -> Result<Option<SandboxMeta>, Error> {
    let gateway = &ctx.required_gateway()?.name;
    store::get(&mut ctx.db().read().await?, gateway, place).await
}

/// Records that the caller has deleted a sandbox, directly or through the proxy, and deletes what is stored under its
/// name. If the next sandbox of that name was recorded meanwhile, what is stored is kept: without its owner, its owner
/// could approve changes of it (T12).
pub async fn record_deletion(
    ctx: &Ctx,
    place: &SandboxName,
    before: Option<&SandboxMeta>,
) -> Result<SandboxDependents, Error> {
    let GatewayRef { id, name: gateway } = ctx.required_gateway()?;
    let gone = ctx
        .record_change(async |tx| {
            let now = store::get(tx, gateway, place).await?;
            let gone = if is_of_next(before, now.as_ref()) {
                SandboxDependents::default()
            } else {
                let why = "the sandbox was deleted";
                approvals::withdraw_all(ctx, tx, *id, Some(place), why).await?;
                let all = DeleteScope::All;
                cleanup::delete_dependents(tx, gateway, place, all, all).await?
            };
            let payload = event_payload(place, json!({ "removed": gone.to_json() }));
            tx.emit(ctx.new_event(event_types::SANDBOX_DELETED, payload)).await?;
            Ok(gone)
        })
        .await?;
    ctx.add_audit_detail("removed", gone.to_json());
    Ok(gone)
}

/// Returns whether a row is that of a sandbox that was recorded after `before` was read.
fn is_of_next(before: Option<&SandboxMeta>, now: Option<&SandboxMeta>) -> bool {
    let row = |meta: &SandboxMeta| (meta.id, meta.sandbox_id.clone());
    now.is_some() && now.map(row) != before.map(row)
}

/// Records that a creation was undone. Deletes the metadata of the sandbox; hooks and an SBOM that were written for the
/// name before stay.
pub(super) async fn record_undo(ctx: &Ctx, place: &SandboxName) -> Result<(), Error> {
    let gateway = &ctx.required_gateway()?.name;
    ctx.record_change(async |tx| {
        // A sandbox without a row was never announced by an event.
        let noted = store::lock(tx, gateway, place).await?.is_some();
        let gone =
            cleanup::delete_dependents(tx, gateway, place, DeleteScope::None, DeleteScope::None)
                .await?;
        if noted {
            let payload = event_payload(place, json!({ "removed": gone.to_json() }));
            tx.emit(ctx.new_event(event_types::SANDBOX_DELETED, payload)).await?;
        }
        Ok(())
    })
    .await?;
    Ok(())
}

/// Counts what is deleted with a gateway: sandboxes with metadata, and SSH sessions.
pub async fn count_on_gateway(conn: &mut Conn, gateway: &str) -> Result<(i64, i64), Error> {
    store::count_on_gateway(conn, gateway).await
}
