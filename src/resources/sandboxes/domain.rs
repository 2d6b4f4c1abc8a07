//! Gets, updates, starts, stops and deletes sandboxes. `create` creates them.

use serde_json::json;

use super::cleanup::{self, Gone, Which};
use super::leftovers;
use super::store::{self, Meta};
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::db::types::SandboxName;
use crate::error::{Error, Kind};
use crate::etag;
use crate::labels::Labels;
use crate::openshell::Gateway;
use crate::openshell::sandbox::Sandbox;
use crate::outbox::{EventType, event_types};

/// A sandbox of a gateway, with the metadata that Shoreguard stores about it.
#[derive(Debug)]
pub struct Described {
    /// Name of its gateway.
    pub gateway: String,
    /// State that the gateway reports.
    pub sandbox: Sandbox,
    /// Stored metadata.
    pub meta: Option<Meta>,
}

/// A partial update of the metadata. `None` leaves a field unchanged.
#[derive(Debug, Default)]
pub struct Change {
    /// New description. An inner `None` removes it.
    pub description: Option<Option<String>>,
    /// New labels. They replace all labels.
    pub labels: Option<Labels>,
}

pub(super) async fn reach(ctx: &Ctx) -> Result<Gateway, Error> {
    let id = ctx.on_gateway()?.id;
    Ok(Gateway::reach(ctx.app(), id).await?.asked_by(ctx))
}

/// Reaches the gateway for a call that changes state there. Checks the caller again after the wait.
pub(super) async fn reach_to_act(ctx: &Ctx) -> Result<Gateway, Error> {
    let gateway = reach(ctx).await?;
    ctx.recheck()?;
    Ok(gateway)
}

pub(super) async fn described(ctx: &Ctx, sandbox: Sandbox) -> Result<Described, Error> {
    let gateway = &ctx.on_gateway()?.name;
    let mut conn = ctx.db().read().await?;
    let meta = store::get(&mut conn, gateway, &sandbox.place).await?;
    // Metadata of a former sandbox of that name, whose deletion was not noticed, is not shown for this one.
    let meta = meta.filter(|meta| is_of(meta, &sandbox));
    Ok(Described { gateway: gateway.to_string(), sandbox, meta })
}

/// Returns whether the metadata belongs to this sandbox and not to a former one of its name.
#[must_use]
pub fn is_of(meta: &Meta, sandbox: &Sandbox) -> bool {
    meta.sandbox_id.as_ref().is_none_or(|id| *id == sandbox.id)
}

/// Returns a sandbox.
pub async fn get(ctx: &Ctx, place: &SandboxName) -> Result<Described, Error> {
    let sandbox = reach(ctx).await?.get_sandbox(place).await?;
    described(ctx, sandbox).await
}

/// Updates the metadata of a sandbox, which must exist.
pub async fn update(
    ctx: &Ctx,
    place: &SandboxName,
    change: Change,
    given_etag: &str,
) -> Result<Described, Error> {
    let gateway = &ctx.on_gateway()?.name;
    let sandbox = reach(ctx).await?.get_sandbox(place).await?;
    ctx.recheck()?;
    let now = ctx.now();
    let kept = store::get(&mut ctx.db().read().await?, gateway, place).await?;
    if let Some(kept) = kept.filter(|kept| !is_of(kept, &sandbox)) {
        // The metadata belongs to a former sandbox whose deletion was not noticed.
        let seen = leftovers::last_seen(ctx, &kept);
        leftovers::forget(ctx, None, &kept, seen).await?;
    }
    let meta = ctx
        .transaction(async |tx| {
            let mut meta = store::see(tx, gateway, place, &sandbox.id, now).await?;
            if !is_of(&meta, &sandbox) {
                return Err(Error::conflict(Kind::Sandbox, &place.name));
            }
            etag::check(given_etag, meta.version, Kind::Sandbox, &place.name)?;
            store::seen_as(tx, meta.id, &sandbox.id).await?;
            let labels = change
                .labels
                .clone()
                .unwrap_or_else(|| Labels::from_json(meta.labels_json.as_deref()));
            let description = change.description.as_ref().unwrap_or(&meta.description).clone();
            if !store::describe(tx, &meta, description.as_deref(), &labels, now).await? {
                return Err(Error::conflict(Kind::Sandbox, &place.name));
            }
            let payload = about(place, json!({ "labels": labels.clone().into_map() }));
            tx.emit(ctx.event(event_types::SANDBOX_METADATA_UPDATED, payload)).await?;
            meta.labels_json = labels.to_json()?;
            (meta.description, meta.updated_at) = (description, Some(now));
            meta.version += 1;
            meta.sandbox_id = Some(sandbox.id.clone());
            Ok(meta)
        })
        .await?;
    Ok(Described { gateway: gateway.to_string(), sandbox, meta: Some(meta) })
}

/// Builds the payload of an event about a sandbox.
#[must_use]
pub fn about(place: &SandboxName, mut more: serde_json::Value) -> serde_json::Value {
    if let Some(more) = more.as_object_mut() {
        more.insert("workspace".to_owned(), place.workspace.as_str().into());
        more.insert("sandbox".to_owned(), place.name.as_str().into());
    }
    more
}

/// Starts a stopped sandbox.
pub async fn start(ctx: &Ctx, place: &SandboxName) -> Result<Described, Error> {
    let sandbox = reach_to_act(ctx).await?.start_sandbox(place).await?;
    announce(ctx, event_types::SANDBOX_STARTED, place).await?;
    described(ctx, sandbox).await
}

/// Stops a sandbox.
pub async fn stop(ctx: &Ctx, place: &SandboxName) -> Result<Described, Error> {
    let sandbox = reach_to_act(ctx).await?.stop_sandbox(place).await?;
    announce(ctx, event_types::SANDBOX_STOPPED, place).await?;
    described(ctx, sandbox).await
}

async fn announce(ctx: &Ctx, event: EventType, place: &SandboxName) -> Result<(), Error> {
    let event = ctx.event(event, about(place, json!({})));
    ctx.record(async |tx| tx.emit(event.clone()).await).await?;
    Ok(())
}

/// Deletes a sandbox and what is stored under its name. With `validate_only`, only returns what would be deleted.
pub async fn delete(ctx: &Ctx, place: &SandboxName, validate_only: bool) -> Result<Gone, Error> {
    let gateway = &ctx.on_gateway()?.name;
    let reached = reach_to_act(ctx).await?;
    ctx.detail("workspace", place.workspace.as_str());
    if validate_only {
        ctx.detail("validate_only", true);
        reached.get_sandbox(place).await?;
        let mut conn = ctx.db().read().await?;
        return cleanup::look(&mut conn, gateway, place).await;
    }
    if !reached.delete_sandbox(place).await? {
        return Err(Error::missing(Kind::Sandbox, &place.name));
    }
    deleted(ctx, place).await
}

/// Records that the caller has deleted a sandbox, directly or through the proxy, and deletes what is stored under its
/// name.
pub async fn deleted(ctx: &Ctx, place: &SandboxName) -> Result<Gone, Error> {
    let gateway = &ctx.on_gateway()?.name;
    let gone = ctx
        .record(async |tx| {
            let gone = cleanup::forget(tx, gateway, place, Which::All, Which::All).await?;
            let payload = about(place, json!({ "gone": gone.to_json() }));
            tx.emit(ctx.event(event_types::SANDBOX_DELETED, payload)).await?;
            Ok(gone)
        })
        .await?;
    ctx.detail("gone", gone.to_json());
    Ok(gone)
}

/// Records that a creation was undone. Deletes the metadata of the sandbox; hooks and an SBOM that were written for the
/// name before stay.
pub(super) async fn taken_back(ctx: &Ctx, place: &SandboxName) -> Result<(), Error> {
    let gateway = &ctx.on_gateway()?.name;
    ctx.record(async |tx| {
        // A sandbox without a row was never announced by an event.
        let noted = store::lock(tx, gateway, place).await?.is_some();
        let gone = cleanup::forget(tx, gateway, place, Which::None, Which::None).await?;
        if noted {
            let payload = about(place, json!({ "gone": gone.to_json() }));
            tx.emit(ctx.event(event_types::SANDBOX_DELETED, payload)).await?;
        }
        Ok(())
    })
    .await?;
    Ok(())
}

/// Counts what is deleted with a gateway: sandboxes with metadata, and SSH sessions.
pub async fn count_on(conn: &mut Conn, gateway: &str) -> Result<(i64, i64), Error> {
    store::count_on(conn, gateway).await
}
