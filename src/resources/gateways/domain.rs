//! Gateways: registering, finding, changing and unregistering them.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;

use super::input::{AuthMode, Credentials, Endpoint, Scheme};
use super::store::{self, Row};
use super::targets::{self, Generation};
use super::worker;
use crate::access::snapshot::GatewayFacts;
use crate::app::App;
use crate::ctx::{Ctx, FleetCtx};
use crate::db::page::{PageScope, PageSize, PageToken};
use crate::db::types::{GatewayId, Timestamp};
use crate::error::{Error, Kind, Reason};
use crate::etag;
use crate::labels::{Labels, Selector, UNLABELLED};
use crate::net;
use crate::openshell::Probe;
use crate::resources::access_bindings::difference;
use crate::resources::access_bindings::domain::changed;
use crate::resources::access_bindings::feed::{Subject, store::log_change};
use crate::resources::access_bindings::store as bindings;
use crate::resources::events::domain::{self as events, NewEvent};
use crate::resources::{boot_hooks::domain as boot_hooks, sboms::domain as sboms};

/// A gateway to register; valid.
#[derive(Debug)]
pub struct NewGateway {
    /// Unique name.
    pub name: String,
    /// Where it is.
    pub endpoint: Endpoint,
    /// How it is reached.
    pub scheme: Scheme,
    /// How we identify ourselves.
    pub auth_mode: AuthMode,
    /// PEM.
    pub ca_cert: Option<Vec<u8>>,
    /// What the auth mode needs.
    pub credentials: Credentials,
    /// A JSON object.
    pub metadata_json: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Its labels.
    pub labels: Labels,
}

/// What is to change of a gateway; none is what stays.
#[derive(Debug, Default)]
pub struct Change {
    /// New endpoint.
    pub endpoint: Option<Endpoint>,
    /// New scheme.
    pub scheme: Option<Scheme>,
    /// New auth mode.
    pub auth_mode: Option<AuthMode>,
    /// New CA.
    pub ca_cert: Option<Option<Vec<u8>>>,
    /// New credentials, all of them.
    pub credentials: Option<Credentials>,
    /// New metadata.
    pub metadata_json: Option<Option<String>>,
    /// New description.
    pub description: Option<Option<String>>,
    /// New labels, all of them.
    pub labels: Option<Labels>,
}

impl Change {
    fn moves_destination(&self) -> bool {
        self.endpoint.is_some()
            || self.scheme.is_some()
            || self.ca_cert.is_some()
            || self.auth_mode.is_some()
    }
}

fn new_row(app: &App, new: &NewGateway, at: Timestamp) -> Result<Row, Error> {
    let mut row = Row {
        id: 0,
        name: new.name.clone(),
        endpoint: new.endpoint.shown(),
        scheme: new.scheme.as_str().to_owned(),
        auth_mode: Some(new.auth_mode.as_str().to_owned()),
        ca_cert: new.ca_cert.clone(),
        client_cert: None,
        client_key: None,
        bearer_token: None,
        metadata_json: new.metadata_json.clone(),
        description: new.description.clone(),
        labels_json: new.labels.to_json()?,
        registered_at: at,
        last_seen: None,
        last_status: "unknown".to_owned(),
        wire_generation: Generation::Unknown.as_str().to_owned(),
        gateway_version: None,
        latency_us: None,
        last_error: None,
        probed_at: None,
        version: 1,
    };
    targets::seal_into(app, &mut row, &new.credentials)?;
    Ok(row)
}

/// Registers a gateway. It is probed first: a forbidden address is refused and nothing is stored, a silent gateway is
/// registered as unreachable.
pub async fn register(ctx: &Ctx, new: NewGateway) -> Result<Row, Error> {
    ctx.detail("endpoint", new.endpoint.shown());
    ctx.detail("auth_mode", new.auth_mode.as_str());
    ctx.detail("labels", json!(new.labels.clone().into_map()));
    let (app, now) = (ctx.app(), ctx.now());
    let mut row = new_row(app, &new, now)?;
    if store::by_name(&mut ctx.db().read().await?, &row.name).await?.is_some() {
        return Err(Error::exists(Kind::Gateway, &row.name));
    }
    let target = targets::from_row(app, &row)?;
    let found = worker::probe(app, &target).await;
    refuse_forbidden(&found)?;
    note_probe(&mut row, now, &found);
    let stored = ctx
        .db()
        .transaction(async |conn| {
            let stored = store::insert(conn, &row, &new.labels).await?;
            let payload = json!({ "gateway": stored.name, "endpoint": stored.endpoint });
            let on = (GatewayId(stored.id), Arc::from(stored.name.as_str()));
            events::enqueue(conn, NewEvent::of(ctx, "gateway.registered", payload).on(on)).await?;
            log_change(conn, Subject::Gateway(GatewayId(stored.id)), now).await?;
            Ok(stored)
        })
        .await?;
    difference::note(ctx, GatewayId(stored.id), &UNLABELLED, &new.labels);
    changed(ctx).await?;
    Ok(stored)
}

fn refuse_forbidden(found: &Result<Probe, Error>) -> Result<(), Error> {
    match found {
        Err(Error::Refused { reason: Reason::AddressForbidden, why }) => {
            Err(Error::refused(Reason::AddressForbidden, why.clone()))
        }
        _ => Ok(()),
    }
}

fn note_probe(row: &mut Row, now: Timestamp, found: &Result<Probe, Error>) {
    row.probed_at = Some(now);
    match found {
        Ok(probe) => {
            row.last_seen = Some(now);
            worker::status_word(probe.status).clone_into(&mut row.last_status);
            probe.generation.as_str().clone_into(&mut row.wire_generation);
            row.gateway_version = Some(probe.version.chars().take(100).collect());
            row.latency_us = i64::try_from(probe.latency.as_micros()).ok();
            row.last_error = None;
        }
        Err(error) => {
            "unreachable".clone_into(&mut row.last_status);
            row.last_error = Some(worker::shown_error(error));
        }
    }
}

/// The gateway of the call.
pub async fn get(ctx: &Ctx) -> Result<Row, Error> {
    let (id, name) = ctx.on_gateway()?;
    let found = store::by_id(&mut ctx.db().read().await?, *id).await?;
    found.ok_or_else(|| Error::missing(Kind::Gateway, name))
}

/// A page by name of those that the caller may see and the selector picks.
pub async fn list(
    ctx: &FleetCtx,
    selector: &str,
    size: PageSize,
    token: &str,
) -> Result<(Vec<Row>, String), Error> {
    let picked = Selector::parse("label_selector", selector)?;
    let principal = ctx.principal_text();
    let scope = PageScope {
        method: "ListGateways",
        principal: &principal,
        filter: selector.as_bytes(),
        order: "name",
    };
    let key = &ctx.app().page_key;
    let after = PageToken::<String>::open(key, &scope, token)?;
    let after = after.as_ref().map(|token| token.position().as_str());
    let mut conn = ctx.db().read().await?;
    let rows = store::page(&mut conn, &ctx.visible(), &picked, after, size.limit()).await?;
    let (page, more) = size.cut(rows);
    let next = match page.last().filter(|_| more) {
        None => String::new(),
        Some(last) => PageToken::after(last.name.clone()).seal(key, &scope)?,
    };
    Ok((page, next))
}

/// Applies a change to a row. Whatever moves the destination drops the secrets that are not given anew (T04).
fn apply(app: &App, row: &mut Row, change: &Change) -> Result<(), Error> {
    let destination = targets::destination(row);
    if let Some(endpoint) = &change.endpoint {
        row.endpoint = endpoint.shown();
    }
    if let Some(scheme) = change.scheme {
        scheme.as_str().clone_into(&mut row.scheme);
    }
    if let Some(mode) = change.auth_mode {
        row.auth_mode = Some(mode.as_str().to_owned());
    }
    if let Some(ca) = &change.ca_cert {
        row.ca_cert.clone_from(ca);
    }
    if let Some(metadata) = &change.metadata_json {
        row.metadata_json.clone_from(metadata);
    }
    if let Some(description) = &change.description {
        row.description.clone_from(description);
    }
    if let Some(labels) = &change.labels {
        row.labels_json = labels.to_json()?;
    }
    let moved = targets::destination(row) != destination;
    if moved {
        (row.client_cert, row.client_key, row.bearer_token) = (None, None, None);
    }
    let (mode, scheme) =
        (AuthMode::stored(row.auth_mode.as_deref())?, Scheme::stored(&row.scheme)?);
    if let Some(credentials) = &change.credentials {
        credentials.fit(mode, scheme)?;
        targets::seal_into(app, row, credentials)?;
    } else if moved {
        // Fits only where none are needed: what was stored was meant for another destination.
        Credentials::default().fit(mode, scheme)?;
    }
    Ok(())
}

/// Changes the gateway of the call.
pub async fn update(ctx: &Ctx, change: Change, given_etag: &str) -> Result<Row, Error> {
    let (id, name) = ctx.on_gateway()?.clone();
    let (app, now, global) = (ctx.app(), ctx.now(), ctx.is_global_admin());
    if change.moves_destination() && !global {
        let why = "an endpoint, scheme, CA or auth mode is changed by a global admin only";
        return Err(Error::Denied { why: why.to_owned() });
    }
    if let Some(endpoint) = &change.endpoint {
        let gateways = &app.config.gateways;
        let (networks, timeout) = (&gateways.allowed_networks, gateways.connect_timeout());
        net::connect::check(&endpoint.host, endpoint.port, networks, timeout).await?;
    }
    let (updated, before) = ctx
        .db()
        .transaction(async |conn| {
            let missing = || Error::missing(Kind::Gateway, &name);
            let mut row = store::by_id(conn, id).await?.ok_or_else(missing)?;
            etag::check(given_etag, row.version, Kind::Gateway, &name)?;
            let before = Labels::from_json(row.labels_json.as_deref());
            if let Some(labels) = &change.labels
                && labels.of_access() != before.of_access()
                && !global
            {
                let why = "labels under `access/` are changed by a global admin only";
                return Err(Error::Denied { why: why.to_owned() });
            }
            let destination = targets::destination(&row);
            apply(app, &mut row, &change)?;
            if targets::destination(&row) != destination {
                Generation::Unknown.as_str().clone_into(&mut row.wire_generation);
                "unknown".clone_into(&mut row.last_status);
            }
            row.version += 1;
            if !store::update(conn, &row, change.labels.as_ref()).await? {
                return Err(Error::conflict(Kind::Gateway, &name));
            }
            let payload = json!({ "gateway": row.name, "endpoint": row.endpoint });
            let on = (id, Arc::clone(&name));
            events::enqueue(conn, NewEvent::of(ctx, "gateway.updated", payload).on(on)).await?;
            log_change(conn, Subject::Gateway(id), now).await?;
            Ok((row, before))
        })
        .await?;
    if let Some(after) = &change.labels {
        difference::note(ctx, id, &before, after);
    }
    changed(ctx).await?;
    if change.moves_destination() || change.credentials.is_some() {
        // What it found stands in the row; that it did not answer fails no update.
        let _found = worker::probe_and_store(ctx, id).await?;
        return get(ctx).await;
    }
    Ok(updated)
}

/// Takes a gateway out, with the roles on it; answers how many those were.
pub async fn unregister(ctx: &Ctx, name: &str, given_etag: &str) -> Result<u32, Error> {
    let now = ctx.now();
    let roles = ctx
        .db()
        .transaction(async |conn| {
            let missing = || Error::missing(Kind::Gateway, name);
            let row = store::by_name(conn, name).await?.ok_or_else(missing)?;
            let id = GatewayId(row.id);
            etag::check(given_etag, row.version, Kind::Gateway, name)?;
            let holders = bindings::holders_on(conn, id).await?;
            ctx.detail("boot_hooks_removed", boot_hooks::count_on(conn, name).await?);
            ctx.detail("sboms_removed", sboms::count_on(conn, name).await?);
            if !store::delete(conn, id, row.version).await? {
                return Err(Error::conflict(Kind::Gateway, name));
            }
            let payload = json!({ "gateway": name });
            let event = NewEvent::of(ctx, "gateway.unregistered", payload);
            events::enqueue(conn, event.on((id, Arc::from(name)))).await?;
            for holder in &holders {
                log_change(conn, holder.changed(), now).await?;
            }
            log_change(conn, Subject::Gateway(id), now).await?;
            Ok(u32::try_from(holders.len()).unwrap_or(u32::MAX))
        })
        .await?;
    ctx.detail("gateway_roles_removed", roles);
    changed(ctx).await?;
    Ok(roles)
}

/// Probes the gateway of the call now, with what is stored.
pub async fn test(ctx: &Ctx) -> Result<(Result<Probe, String>, Row), Error> {
    let (id, _) = *ctx.on_gateway()?;
    let found = worker::probe_and_store(ctx, id).await?;
    Ok((found, get(ctx).await?))
}

/// Fills the targets from the database, at start.
pub async fn load_targets(app: &App) -> Result<(), Error> {
    for row in store::all(&mut app.db.read().await?).await? {
        match targets::from_row(app, &row) {
            Ok(target) => {
                app.targets.put(GatewayId(row.id), Some(target));
            }
            // One gateway whose secrets don't open must not keep the others from being served.
            Err(error) => {
                tracing::error!(
                    gateway = row.name,
                    error = &error as &dyn std::error::Error,
                    "a gateway can't be used"
                );
            }
        }
    }
    Ok(())
}

/// Reads gateways anew after they have changed, here or on another replica. Answers what access needs to know of them;
/// of one that is gone that is nothing.
pub async fn refresh_targets(
    app: &App,
    ids: &[GatewayId],
) -> Result<Vec<(GatewayId, Option<GatewayFacts>)>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = store::by_ids(&mut app.db.read().await?, ids).await?;
    let mut rows: HashMap<GatewayId, Row> =
        rows.into_iter().map(|row| (GatewayId(row.id), row)).collect();
    let refreshed = ids.iter().map(|id| {
        let row = rows.remove(id);
        refresh_target(app, *id, row.as_ref());
        let labels = |row: &Row| Labels::from_json(row.labels_json.as_deref()).of_access();
        (*id, row.map(|row| GatewayFacts { labels: labels(&row), name: row.name.into() }))
    });
    Ok(refreshed.collect())
}

fn refresh_target(app: &App, id: GatewayId, row: Option<&Row>) {
    let target = match row.map(|row| targets::from_row(app, row)).transpose() {
        Ok(target) => target,
        Err(error) => {
            tracing::error!(gateway = %id, error = &error as &dyn std::error::Error, "a gateway can't be used");
            None
        }
    };
    let endpoint = target.as_ref().map(targets::Target::address);
    let before = app.targets.put(id, target);
    if let Some(before) = before
        && Some(before.address()) != endpoint
    {
        // What was opened to another address must not go on as if it were this gateway's (T04).
        app.live.end_gateway(id, crate::access::live::Ended::GatewayChanged);
    }
}

/// The gateway as the proxy reaches it.
#[must_use]
pub fn resolve(app: &App, id: GatewayId) -> Option<Arc<targets::Target>> {
    app.targets.get(id)
}
