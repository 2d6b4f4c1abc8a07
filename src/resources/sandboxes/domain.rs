//! Sandboxes: finding, describing, starting, stopping and deleting them. Making one is in `create`.

use std::collections::BTreeMap;

use serde_json::json;

use super::cleanup::{self, Gone};
use super::store::{self, Meta};
use crate::ctx::{Ctx, FleetCtx, OnGateway};
use crate::db::Conn;
use crate::db::page::{PageScope, PageSize, PageToken};
use crate::error::{Error, Kind};
use crate::etag;
use crate::labels::{Labels, Selector, UNLABELLED};
use crate::openshell::Gateway;
use crate::openshell::sandbox::{Place, Sandbox};
use crate::resources::events::domain::{self as events, NewEvent};
use crate::seal::joined;

/// A sandbox, as its gateway tells, and what is kept about it.
#[derive(Debug)]
pub struct Described {
    /// Name of its gateway.
    pub gateway: String,
    /// As its gateway tells.
    pub sandbox: Sandbox,
    /// What is kept about it.
    pub meta: Option<Meta>,
}

/// What is to change of what is kept; none is what stays, none inside clears (WP94).
#[derive(Debug, Default)]
pub struct Change {
    /// New description.
    pub description: Option<Option<String>>,
    /// New labels, all of them.
    pub labels: Option<Labels>,
}

/// Which sandboxes to list.
#[derive(Debug)]
pub struct Query {
    /// Name of the gateway.
    pub gateway: String,
    /// Only of this workspace.
    pub workspace: Option<String>,
    /// Only those that it picks.
    pub selector: Selector,
}

pub(super) async fn reach(ctx: &Ctx) -> Result<Gateway, Error> {
    let (id, _) = ctx.on_gateway()?;
    Gateway::reach(ctx.app(), *id).await
}

pub(super) async fn described(ctx: &Ctx, sandbox: Sandbox) -> Result<Described, Error> {
    let (_, gateway) = ctx.on_gateway()?;
    let mut conn = ctx.db().read().await?;
    let meta = store::get(&mut conn, gateway, &sandbox.place).await?;
    // What is kept of another sandbox of that name, which went away unnoticed, is not told of this one.
    let meta = meta.filter(|meta| is_of(meta, &sandbox));
    Ok(Described { gateway: gateway.to_string(), sandbox, meta })
}

/// Whether what is kept is kept of this very sandbox.
#[must_use]
pub fn is_of(meta: &Meta, sandbox: &Sandbox) -> bool {
    meta.sandbox_id.as_ref().is_none_or(|id| *id == sandbox.id)
}

/// One sandbox.
pub async fn get(ctx: &Ctx, place: &Place) -> Result<Described, Error> {
    let sandbox = reach(ctx).await?.get_sandbox(place).await?;
    described(ctx, sandbox).await
}

/// A page of a gateway's sandboxes. The gateway is read whole, so that a page is what is left after the selector has
/// picked (WP70), and goes on behind the last place whatever came and went meanwhile.
pub async fn list(
    ctx: &FleetCtx,
    query: &Query,
    size: PageSize,
    token: &str,
) -> Result<(Vec<Described>, String), Error> {
    let (id, gateway): OnGateway = ctx.only(&query.gateway)?;
    let principal = ctx.principal_text();
    let selector = query.selector.to_string();
    let workspace = query.workspace.as_deref().unwrap_or_default();
    let filter = joined(&[gateway.as_bytes(), workspace.as_bytes(), selector.as_bytes()]);
    let scope = PageScope {
        method: "ListSandboxes",
        principal: &principal,
        filter: &filter,
        order: "workspace, name",
    };
    let key = &ctx.app().page_key;
    let after = PageToken::<(String, String)>::open(key, &scope, token)?;
    let after = after.map(|token| {
        let (workspace, name) = token.position().clone();
        Place { workspace, name }
    });
    let reached = Gateway::reach(ctx.app(), id).await?;
    let live = reached.list_sandboxes(query.workspace.as_deref()).await?;
    let kept = kept(ctx, &gateway, &query.selector).await?;
    let picked = live
        .into_iter()
        .filter(|sandbox| after.as_ref().is_none_or(|after| sandbox.place > *after))
        .filter_map(|sandbox| kept.describe(&gateway, sandbox))
        .take(size.get() + 1);
    let (page, more) = size.cut(picked.collect::<Vec<_>>());
    let next = match page.last().filter(|_| more) {
        None => String::new(),
        Some(Described { sandbox: Sandbox { place, .. }, .. }) => {
            let position = (place.workspace.clone(), place.name.clone());
            PageToken::after(position).seal(key, &scope)?
        }
    };
    Ok((page, next))
}

/// What is kept of a gateway's sandboxes, as far as a selector picks it.
struct Kept {
    picked: BTreeMap<Place, Meta>,
    /// Where something is kept that the selector has not picked.
    left_out: std::collections::BTreeSet<Place>,
    unlabelled: bool,
}

async fn kept(ctx: &Ctx, gateway: &str, selector: &Selector) -> Result<Kept, Error> {
    let mut conn = ctx.db().read().await?;
    let picked = store::picked(&mut conn, gateway, selector).await?;
    let picked: BTreeMap<Place, Meta> =
        picked.into_iter().map(|meta| (meta.place(), meta)).collect();
    let unlabelled = selector.picks(&UNLABELLED);
    let mut left_out = std::collections::BTreeSet::new();
    if unlabelled && !selector.0.is_empty() {
        left_out = store::places(&mut conn, gateway).await?;
        left_out.retain(|place| !picked.contains_key(place));
    }
    Ok(Kept { picked, left_out, unlabelled })
}

impl Kept {
    fn describe(&self, gateway: &str, sandbox: Sandbox) -> Option<Described> {
        let meta = self.picked.get(&sandbox.place).filter(|meta| is_of(meta, &sandbox)).cloned();
        let without = self.unlabelled && !self.left_out.contains(&sandbox.place);
        (meta.is_some() || without).then(|| Described {
            gateway: gateway.to_owned(),
            sandbox,
            meta,
        })
    }
}

/// Changes what is kept about a sandbox, which must be there.
pub async fn update(
    ctx: &Ctx,
    place: &Place,
    change: Change,
    given_etag: &str,
) -> Result<Described, Error> {
    let (_, gateway) = ctx.on_gateway()?;
    let sandbox = reach(ctx).await?.get_sandbox(place).await?;
    let now = ctx.now();
    let meta = ctx
        .db()
        .transaction(async |conn| {
            let mut meta = store::see(conn, gateway, place, &sandbox.id, now).await?;
            if !is_of(&meta, &sandbox) {
                // The one that this was kept of went away unnoticed.
                cleanup::forget(conn, gateway, place, None).await?;
                meta = store::see(conn, gateway, place, &sandbox.id, now).await?;
            }
            etag::check(given_etag, meta.version, Kind::Sandbox, &place.name)?;
            store::seen_as(conn, meta.id, &sandbox.id).await?;
            let labels = change
                .labels
                .clone()
                .unwrap_or_else(|| Labels::from_json(meta.labels_json.as_deref()));
            let description = change.description.as_ref().unwrap_or(&meta.description).clone();
            let at = (meta.id, meta.version);
            if !store::describe(conn, at, description.as_deref(), &labels, now).await? {
                return Err(Error::conflict(Kind::Sandbox, &place.name));
            }
            let payload = about(place, json!({ "labels": labels.clone().into_map() }));
            events::enqueue(conn, NewEvent::of(ctx, "sandbox.metadata.updated", payload)).await?;
            meta.labels_json = labels.to_json()?;
            (meta.description, meta.updated_at) = (description, Some(now));
            meta.version += 1;
            meta.sandbox_id = Some(sandbox.id.clone());
            Ok(meta)
        })
        .await?;
    ctx.app().feed.written();
    Ok(Described { gateway: gateway.to_string(), sandbox, meta: Some(meta) })
}

/// The payload of an event about a sandbox.
#[must_use]
pub fn about(place: &Place, mut more: serde_json::Value) -> serde_json::Value {
    if let Some(more) = more.as_object_mut() {
        more.insert("workspace".to_owned(), place.workspace.as_str().into());
        more.insert("sandbox".to_owned(), place.name.as_str().into());
    }
    more
}

/// Lets a sandbox run again.
pub async fn start(ctx: &Ctx, place: &Place) -> Result<Described, Error> {
    let sandbox = reach(ctx).await?.start_sandbox(place).await?;
    announce(ctx, "sandbox.started", place).await?;
    described(ctx, sandbox).await
}

/// Lets a sandbox stand still.
pub async fn stop(ctx: &Ctx, place: &Place) -> Result<Described, Error> {
    let sandbox = reach(ctx).await?.stop_sandbox(place).await?;
    announce(ctx, "sandbox.stopped", place).await?;
    described(ctx, sandbox).await
}

async fn announce(ctx: &Ctx, event: &'static str, place: &Place) -> Result<(), Error> {
    let event = NewEvent::of(ctx, event, about(place, json!({})));
    ctx.db().transaction(async |conn| events::enqueue(conn, event.clone()).await).await?;
    ctx.app().feed.written();
    Ok(())
}

/// Deletes a sandbox, and what hangs on its name.
pub async fn delete(ctx: &Ctx, place: &Place, validate_only: bool) -> Result<Gone, Error> {
    let (_, gateway) = ctx.on_gateway()?;
    let reached = reach(ctx).await?;
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

/// A sandbox was deleted by the caller, here or through the proxy: what hangs on its name goes too.
pub async fn deleted(ctx: &Ctx, place: &Place) -> Result<Gone, Error> {
    let (_, gateway) = ctx.on_gateway()?;
    let gone = ctx
        .db()
        .transaction(async |conn| {
            let gone = cleanup::forget(conn, gateway, place, None).await?;
            let payload = about(place, json!({ "gone": gone.to_json() }));
            events::enqueue(conn, NewEvent::of(ctx, "sandbox.deleted", payload)).await?;
            Ok(gone)
        })
        .await?;
    ctx.app().feed.written();
    ctx.detail("gone", gone.to_json());
    Ok(gone)
}

/// As the audit log names a sandbox.
#[must_use]
pub fn target(place: &Place) -> String {
    crate::resources::operations::target(&place.workspace, &place.name)
}

/// What goes with a gateway: how many sandboxes something is kept about, and how many SSH sessions.
pub async fn count_on(conn: &mut Conn, gateway: &str) -> Result<(i64, i64), Error> {
    store::count_on(conn, gateway).await
}
