//! Gateways: registration, lookup and connection tests.

use std::ops::Bound;

use serde_json::json;

use super::health::{self, mark_stale};
use super::store;
use super::{certificates, findings, worker};
use crate::access::action::Action;
use crate::app::App;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, FleetCtx, ListKey};
use crate::db::Conn;
use crate::db::leases::{self, Lease};
use crate::db::page::PageSize;
use crate::db::types::{GatewayId, GatewayRef};
use crate::error::{Error, Reason, ResourceKind};
use crate::governance::WideKind;
use crate::labels::{Labels, Selector, UNLABELLED};
use crate::net;
use crate::outbox::AccessSubject;
use crate::outbox::event_types;
use crate::resources::access_bindings::label_changes;
use crate::resources::approvals::gate::{self, Asked, GateCall};
use crate::upstream::credentials::{AuthMode, Credentials};
use crate::upstream::endpoint::{Endpoint, OidcClient, Scheme};
use crate::upstream::probe::Probe;
use crate::upstream::row::{GatewayRow, ObservedState};
use crate::upstream::sealed;
use crate::upstream::targets;

/// Number of the gateways of one endpoint that are read at once to find those with a rule in force.
const SECOND_NAMES_MAX: usize = 50;

/// Maximum number of former endpoints of a gateway that are kept.
const FORMER_ENDPOINTS_MAX: i64 = 100;

/// A validated gateway to register.
#[derive(Debug)]
pub struct NewGateway {
    /// Unique name.
    pub name: String,
    /// Host and port.
    pub endpoint: Endpoint,
    /// HTTP or HTTPS.
    pub scheme: Scheme,
    /// How Shoreguard authenticates to the gateway.
    pub auth_mode: AuthMode,
    /// Token endpoint, scope and audience for the OIDC auth mode.
    pub oidc_client: Option<OidcClient>,
    /// CA certificates, PEM.
    pub ca_cert: Option<Vec<u8>>,
    /// Credentials that the auth mode needs.
    pub credentials: Credentials,
    /// Metadata, a JSON object.
    pub metadata_json: Option<String>,
    /// Description for people.
    pub description: Option<String>,
    /// Labels.
    pub labels: Labels,
}

fn new_row(app: &App, new: &NewGateway, at: Timestamp) -> Result<GatewayRow, Error> {
    let mut row = GatewayRow {
        id: 0,
        name: new.name.clone(),
        endpoint: new.endpoint.display(),
        scheme: new.scheme,
        auth_mode: Some(new.auth_mode),
        ca_cert: new.ca_cert.clone(),
        client_cert: None,
        client_key: None,
        bearer_token: None,
        metadata_json: new.metadata_json.clone(),
        description: new.description.clone(),
        labels_json: new.labels.to_json()?,
        registered_at: at,
        version: 1,
        oidc_token_url: None,
        oidc_scope: None,
        oidc_audience: None,
        oidc_client_id: None,
        oidc_client_secret: None,
        pinned_generation: None,
        observed: ObservedState::default(),
    };
    row.set_oidc_client(new.oidc_client.as_ref());
    new.credentials.check_not_expired(at)?;
    sealed::seal_credentials(&app.master, &mut row, &new.credentials)?;
    Ok(row)
}

/// Registers a gateway after probing it. A forbidden address is rejected and nothing is stored. An unreachable gateway
/// is registered as unreachable. A gateway that rejects the credential is registered as degraded, with a finding.
pub async fn register(ctx: &Ctx, new: NewGateway) -> Result<GatewayRow, Error> {
    ctx.add_audit_detail("endpoint", new.endpoint.display());
    ctx.add_audit_detail("auth_mode", new.auth_mode.as_str());
    ctx.add_audit_detail("labels", json!(new.labels.clone().into_map()));
    add(ctx, new, None).await
}

/// Like [`register`], without audit details. If `lease` is given, the transaction verifies that it is still held.
pub async fn add(ctx: &Ctx, new: NewGateway, lease: Option<&Lease>) -> Result<GatewayRow, Error> {
    let (app, now) = (ctx.app(), ctx.now());
    let mut row = new_row(app, &new, now)?;
    if store::by_name(&mut ctx.db().read().await?, &row.name).await?.is_some() {
        return Err(Error::already_exists(ResourceKind::Gateway, &row.name));
    }
    // Checked before the probe: a probe that gets no token fails before it connects to the gateway's own address.
    check_addresses(app, Some(&new.endpoint), new.oidc_client.as_ref()).await?;
    let target = targets::from_row(&app.target_context(), &row)?;
    let found = worker::probe(app, &target).await;
    check_not_forbidden(&found)?;
    let probed = worker::probe_result(&found, now, ctx.now());
    probed.apply_to(&mut row, worker::problem(&found));
    let usable = worker::credential_usable(&found);
    let stored = ctx
        .transaction(async |tx| {
            if let Some(lease) = lease {
                leases::check_held(tx, lease).await?;
            }
            check_second_name(ctx, tx, &row.endpoint, None).await?;
            let mut stored = store::insert(tx, &row, &new.labels).await?;
            certificates::record(ctx, tx, &stored).await?;
            health::record_probe(tx, &stored, &probed, row.observed.last_error.as_deref()).await?;
            let payload = json!({ "gateway": stored.name, "endpoint": stored.endpoint });
            let on = stored.gateway();
            tx.emit(ctx.new_event(event_types::GATEWAY_REGISTERED, payload).with_gateway(on))
                .await?;
            findings::record_credential_check(ctx, tx, &mut stored, usable).await?;
            tx.log_access_change(AccessSubject::Gateway(GatewayId(stored.id))).await?;
            Ok(stored)
        })
        .await?;
    label_changes::record_access_changes(ctx, GatewayId(stored.id), &UNLABELLED, &new.labels);
    Ok(stored)
}

/// Returns the gateway of the call after a committed change. If it cannot be read, returns `left`, the row as the
/// change wrote it.
pub(super) async fn reload_changed(ctx: &Ctx, left: GatewayRow) -> GatewayRow {
    get(ctx).await.unwrap_or_else(|error| {
        tracing::warn!(error = &error as &dyn std::error::Error, "a changed gateway was not read");
        left
    })
}

/// Rejects an endpoint or OIDC token host whose address must not be connected to.
pub(super) async fn check_addresses(
    app: &App,
    endpoint: Option<&Endpoint>,
    oidc_client: Option<&OidcClient>,
) -> Result<(), Error> {
    let config = &app.config.gateways;
    let (networks, within) = (&config.allowed_networks, config.connect_timeout());
    let hosts = endpoint.map(|endpoint| endpoint.host.clone());
    for host in hosts.into_iter().chain(oidc_client.and_then(OidcClient::token_host)) {
        net::connect::check_host(&app.fleet.names, &host, networks, within).await?;
    }
    Ok(())
}

/// Refuses an endpoint of another gateway with pins or workflows, which would not apply to writes under a second name,
/// also an endpoint that it had under a rule (T01). `own` is the gateway that gets the endpoint. Takes the locks of the
/// others with rules, so it precedes the lock of a row. A rule that is stored for another gateway meanwhile counts as
/// stored after this change.
pub(super) async fn check_second_name(
    ctx: &Ctx,
    conn: &mut Conn,
    endpoint: &str,
    own: Option<GatewayId>,
) -> Result<(), Error> {
    // A second name takes a gateway out of its rules as its removal does.
    let call = GateCall::new(Asked::Wide(WideKind::Unregister, None), Action::GATEWAY_REGISTER);
    let limit = i64::try_from(SECOND_NAMES_MAX).unwrap_or(i64::MAX);
    let mut after = GatewayId(0);
    loop {
        let names = store::governed_at_endpoint(conn, endpoint, after, limit).await?;
        for (id, name) in &names {
            if own == Some(*id) {
                continue;
            }
            let checked = gate::check_in(ctx, conn, (*id, name), &call).await;
            checked.map_err(|error| {
                if let Error::Explained { reason: reason @ Reason::Governed, why, facts } = error {
                    let why = format!("gateway `{name}` has or had this endpoint: {why}");
                    return Error::explained(reason, why, facts);
                }
                error
            })?;
        }
        // More of them had only pins that have ended.
        match names.last() {
            Some((id, _)) if names.len() == SECOND_NAMES_MAX => after = *id,
            Some(_) | None => return Ok(()),
        }
    }
}

/// Keeps an endpoint that a gateway loses, if a pin or workflow may apply to it: under another name, writes to this
/// endpoint would not be subject to it (T01). Its row is locked.
pub(super) async fn keep_former_endpoint(
    conn: &mut Conn,
    id: GatewayId,
    endpoint: &str,
) -> Result<(), Error> {
    let before = GatewayId(id.get() - 1);
    let governed = store::governed_at_endpoint(conn, endpoint, before, 1).await?;
    if governed.first().is_none_or(|(found, _)| *found != id) {
        return Ok(());
    }
    if store::count_former_endpoints(conn, id).await? >= FORMER_ENDPOINTS_MAX {
        let why = format!(
            "the gateway has had {FORMER_ENDPOINTS_MAX} endpoints under pins or workflows: remove them before it gets \
             another one"
        );
        return Err(Error::refused(Reason::Governed, why));
    }
    store::keep_former_endpoint(conn, id, endpoint).await
}

fn check_not_forbidden(found: &Result<Probe, Error>) -> Result<(), Error> {
    match found {
        Err(Error::Refused { reason: Reason::AddressForbidden, why }) => {
            Err(Error::refused(Reason::AddressForbidden, why.clone()))
        }
        _ => Ok(()),
    }
}

/// Returns the gateway of the call.
pub async fn get(ctx: &Ctx) -> Result<GatewayRow, Error> {
    let GatewayRef { id, name } = ctx.required_gateway()?;
    let found = store::by_id(&mut ctx.db().read().await?, *id).await?;
    let found = found.ok_or_else(|| Error::not_found(ResourceKind::Gateway, name))?;
    Ok(mark_stale(found, &ctx.app().config.gateways, ctx.now()))
}

/// Returns a page of the gateways that the caller can see and the selector matches, ordered by name.
pub async fn list(
    ctx: &FleetCtx,
    selector: &str,
    size: PageSize,
    token: &str,
) -> Result<(Vec<GatewayRow>, String), Error> {
    let picked = Selector::parse("label_selector", selector)?;
    let list = ListKey { method: "ListGateways", filter: selector.as_bytes(), order: "name" };
    let page = ctx.page_request::<String>(list, size, token)?;
    let from = page.after().map_or(Bound::Unbounded, |name| Bound::Excluded(name.as_str()));
    let visible = ctx.visible_gateways();
    let mut conn = ctx.db().read().await?;
    let rows = store::page(&mut conn, &visible, &picked, from, page.limit()).await?;
    let (config, now) = (&ctx.app().config.gateways, ctx.now());
    let rows = rows.into_iter().map(|row| mark_stale(row, config, now)).collect();
    page.finish(rows, |last: &GatewayRow| last.name.clone())
}

/// Probes the gateway of the call now, with the stored settings, and checks the credential.
pub async fn test(ctx: &Ctx) -> Result<(Result<Probe, String>, GatewayRow), Error> {
    let id = ctx.required_gateway()?.id;
    let found = worker::probe_and_store(ctx, id).await?;
    Ok((found, get(ctx).await?))
}
