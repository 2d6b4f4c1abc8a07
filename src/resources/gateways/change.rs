//! Updates of a gateway.

use serde_json::json;

use super::store;
use super::{certificates, domain, findings, worker};
use crate::app::App;
use crate::ctx::{Ctx, Tx};
use crate::db::types::GatewayRef;
use crate::error::{Error, ResourceKind};
use crate::etag;
use crate::labels::Labels;
use crate::outbox::AccessSubject;
use crate::outbox::event_types;
use crate::resources::access_bindings::{effect, label_changes};
use crate::upstream::credentials::{AuthMode, Credentials, check_oidc_client};
use crate::upstream::endpoint::{Endpoint, OidcClient, Scheme};
use crate::upstream::generation::{Generation, PinnedGeneration};
use crate::upstream::row::GatewayRow;
use crate::upstream::sealed;
use crate::upstream::targets;

/// A partial update of a gateway. `None` leaves the field unchanged.
#[derive(Debug, Default)]
pub struct GatewayUpdate {
    /// New endpoint.
    pub endpoint: Option<Endpoint>,
    /// New scheme.
    pub scheme: Option<Scheme>,
    /// New auth mode.
    pub auth_mode: Option<AuthMode>,
    /// New OIDC client settings; `Some(None)` removes them.
    pub oidc_client: Option<Option<OidcClient>>,
    /// Generation to pin; `Some(None)` removes the pin.
    pub pinned_generation: Option<Option<Generation>>,
    /// New CA certificates; `Some(None)` removes them.
    pub ca_cert: Option<Option<Vec<u8>>>,
    /// New credentials; they replace all stored ones.
    pub credentials: Option<Credentials>,
    /// New metadata.
    pub metadata_json: Option<Option<String>>,
    /// New description.
    pub description: Option<Option<String>>,
    /// New labels; they replace all stored ones.
    pub labels: Option<Labels>,
}

impl GatewayUpdate {
    fn changes_destination(&self) -> bool {
        self.endpoint.is_some()
            || self.scheme.is_some()
            || self.ca_cert.is_some()
            || self.auth_mode.is_some()
            || self.oidc_client.is_some()
            || self.pinned_generation.is_some()
    }

    /// Returns the names of the fields to change.
    fn fields(&self) -> Vec<&'static str> {
        let named = [
            ("endpoint", self.endpoint.is_some()),
            ("scheme", self.scheme.is_some()),
            ("auth_mode", self.auth_mode.is_some()),
            ("oidc_client", self.oidc_client.is_some()),
            ("pinned_generation", self.pinned_generation.is_some()),
            ("ca_cert", self.ca_cert.is_some()),
            ("credentials", self.credentials.is_some()),
            ("metadata_json", self.metadata_json.is_some()),
            ("description", self.description.is_some()),
            ("labels", self.labels.is_some()),
        ];
        named.into_iter().filter_map(|(field, named)| named.then_some(field)).collect()
    }
}

/// Applies a change to a row. A change of the destination drops all secrets that the request does not include (T04).
fn apply(app: &App, row: &mut GatewayRow, change: &GatewayUpdate) -> Result<(), Error> {
    let destination = sealed::destination(row);
    if let Some(endpoint) = &change.endpoint {
        row.endpoint = endpoint.display();
    }
    if let Some(scheme) = change.scheme {
        row.scheme = scheme;
    }
    if let Some(mode) = change.auth_mode {
        row.auth_mode = Some(mode);
    }
    if let Some(client) = &change.oidc_client {
        row.set_oidc_client(client.as_ref());
    } else if change.auth_mode.is_some_and(|mode| mode != AuthMode::OidcClient) {
        row.set_oidc_client(None);
    }
    if let Some(pinned) = change.pinned_generation {
        row.pinned_generation = pinned.map(PinnedGeneration);
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
    let moved = sealed::destination(row) != destination;
    if moved {
        sealed::seal_credentials(&app.master, row, &Credentials::default())?;
    }
    let (mode, scheme) = (row.auth_mode(), row.scheme);
    check_oidc_client(mode, row.oidc_client().as_ref())?;
    if let Some(credentials) = &change.credentials {
        credentials.check_mode(mode, scheme)?;
        credentials.check_not_expired(app.clock.now())?;
        sealed::seal_credentials(&app.master, row, credentials)?;
    } else if moved {
        // Valid only if the auth mode needs no credentials: the stored ones were given for another destination.
        Credentials::default().check_mode(mode, scheme)?;
    }
    Ok(())
}

/// Adds the changes to the audit entry: settings of the connection and of authentication with the old and the new
/// value, certificates and secrets only as replaced or dropped, texts and labels only as changed.
fn add_to_audit(ctx: &Ctx, before: &GatewayRow, after: &GatewayRow) {
    let told = |row: &GatewayRow| {
        [
            ("endpoint", Some(row.endpoint.clone())),
            ("scheme", Some(row.scheme.to_string())),
            ("auth_mode", row.auth_mode.map(|mode| mode.to_string())),
            ("token_url", row.oidc_token_url.clone()),
            ("scope", row.oidc_scope.clone()),
            ("audience", row.oidc_audience.clone()),
            ("pinned_generation", row.pinned_generation.map(|pinned| pinned.0.to_string())),
        ]
    };
    for ((key, from), (_, to)) in told(before).into_iter().zip(told(after)) {
        if from != to {
            ctx.add_audit_detail(key, json!({ "from": from, "to": to }));
        }
    }
    for (key, from, to) in [
        ("ca_cert", vec![&before.ca_cert], vec![&after.ca_cert]),
        ("credentials", before.encrypted_credentials(), after.encrypted_credentials()),
    ] {
        let none = to.iter().all(|part| part.is_none());
        if from != to {
            ctx.add_audit_detail(key, if none { "dropped" } else { "replaced" });
        }
    }
    for (key, from, to) in [
        ("metadata_json", &before.metadata_json, &after.metadata_json),
        ("description", &before.description, &after.description),
        ("labels", &before.labels_json, &after.labels_json),
    ] {
        if from != to {
            ctx.add_audit_detail(key, "changed");
        }
    }
}

/// Rejects a change of the destination unless the caller is a global admin.
fn check_destination_change(change: &GatewayUpdate, is_global_admin: bool) -> Result<(), Error> {
    if is_global_admin || !change.changes_destination() {
        return Ok(());
    }
    let why = "only a global admin can change endpoint, scheme, CA, auth mode, OIDC client or pinned generation";
    Err(Error::Denied { why: why.to_owned() })
}

/// Returns whether a change affects what replicas hold of the gateway in memory: its labels, and what the proxy needs,
/// which is the generation and what connections depend on.
fn changes_memory(before: &GatewayRow, after: &GatewayRow, reconnects: bool) -> bool {
    reconnects
        || before.labels_json != after.labels_json
        || before.effective_generation() != after.effective_generation()
}

/// Rejects a change of the labels that bindings use unless the caller is a global admin.
fn check_label_change(
    change: &GatewayUpdate,
    row: &GatewayRow,
    is_global_admin: bool,
) -> Result<(), Error> {
    let before = Labels::from_json(row.labels_json.as_deref()).access_labels();
    let changed = change.labels.as_ref().is_some_and(|labels| labels.access_labels() != before);
    if changed && !is_global_admin {
        let why = "only a global admin can change labels under `access/`";
        return Err(Error::Denied { why: why.to_owned() });
    }
    Ok(())
}

/// Stores a change of a locked row. Returns the row after and before it.
async fn change_row(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    change: &GatewayUpdate,
    before: GatewayRow,
) -> Result<(GatewayRow, GatewayRow), Error> {
    let GatewayRef { id, name } = ctx.required_gateway()?.clone();
    let mut row = before.clone();
    apply(ctx.app(), &mut row, change)?;
    if sealed::destination(&row) != sealed::destination(&before) {
        store::reset_probe_results(tx, &mut row).await?;
    }
    let connection = targets::connection_version(&before);
    let reconnects = targets::connection_version(&row) != connection;
    if reconnects {
        findings::close_credential_finding(ctx, tx, &mut row).await?;
    }
    if certificates::may_differ(&before, &row) {
        certificates::record(ctx, tx, &row).await?;
    }
    row.version += 1;
    if !store::update(tx, &row, change.labels.as_ref()).await? {
        return Err(Error::conflict(ResourceKind::Gateway, &name));
    }
    let payload = json!({ "gateway": row.name, "endpoint": row.endpoint });
    let on = GatewayRef { id, name };
    tx.emit(ctx.new_event(event_types::GATEWAY_UPDATED, payload).with_gateway(on)).await?;
    if changes_memory(&before, &row, reconnects) {
        tx.log_access_change(AccessSubject::Gateway(id)).await?;
    }
    Ok((row, before))
}

/// Updates the gateway of the call.
pub async fn update(
    ctx: &Ctx,
    change: GatewayUpdate,
    given_etag: &str,
) -> Result<GatewayRow, Error> {
    let GatewayRef { id, name } = ctx.required_gateway()?.clone();
    ctx.add_audit_detail("fields", change.fields());
    check_destination_change(&change, ctx.is_global_admin())?;
    let oidc_client = change.oidc_client.as_ref().and_then(Option::as_ref);
    domain::check_addresses(ctx.app(), change.endpoint.as_ref(), oidc_client).await?;
    let caller = effect::principal_to_check(ctx)?;
    // The locks of rules are taken before that of the row, as in every transaction that takes both.
    let locked_first = change.endpoint.is_none().then_some(id);
    // The lock of access is taken before both, as in every transaction that changes access. Shared, since the change
    // relies on the caller's role and changes the role of no principal: only labels can, for which the row is locked.
    let (updated, before) = ctx
        .transaction_after(
            move |conn| store::lock_first(conn, caller, locked_first),
            async |tx, first| {
                let global = effect::is_global_admin(ctx, tx, first.own).await?;
                check_destination_change(&change, global)?;
                let row = if let Some(endpoint) = &change.endpoint {
                    domain::check_second_name(ctx, tx, &endpoint.display(), Some(id)).await?;
                    store::lock(tx, id).await?
                } else {
                    first.row
                };
                let missing = || Error::not_found(ResourceKind::Gateway, &name);
                let row = row.ok_or_else(missing)?;
                etag::check(given_etag, row.version, ResourceKind::Gateway, &name)?;
                check_label_change(&change, &row, global)?;
                if change.endpoint.as_ref().is_some_and(|new| new.display() != row.endpoint) {
                    domain::keep_former_endpoint(tx, id, &row.endpoint).await?;
                }
                change_row(ctx, tx, &change, row).await
            },
        )
        .await?;
    add_to_audit(ctx, &before, &updated);
    if let Some(after) = &change.labels {
        label_changes::record_access_changes(
            ctx,
            id,
            &Labels::from_json(before.labels_json.as_deref()),
            after,
        );
    }
    if change.changes_destination() || change.credentials.is_some() {
        worker::probe_changed(ctx, id).await;
        return Ok(domain::reload_changed(ctx, updated).await);
    }
    Ok(updated)
}
