//! Gateways as rows. Secrets are sealed before they come here.

use std::ops::Bound;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::input::OidcClient;
use super::targets::Generation;
use crate::access::snapshot::Visible;
use crate::clock::Timestamp;
use crate::db::schema::{gateway_labels, gateways};
use crate::db::types::GatewayId;
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::labels::{Labels, Requirement, Selector};

/// A gateway as it is stored. What callers change leaves alone what was found of it: those columns are written where it is
/// found, and by [`forget_found`].
#[derive(Debug, Clone, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = gateways, treat_none_as_null = true)]
pub struct Row {
    /// Id.
    #[diesel(skip_insertion)]
    #[diesel(skip_update)]
    pub id: i64,
    /// Unique name.
    pub name: String,
    /// `host:port`.
    pub endpoint: String,
    /// `http` or `https`.
    pub scheme: String,
    /// How we identify ourselves.
    pub auth_mode: Option<String>,
    /// PEM.
    pub ca_cert: Option<Vec<u8>>,
    /// PEM.
    pub client_cert: Option<Vec<u8>>,
    /// PEM, sealed.
    pub client_key: Option<Vec<u8>>,
    /// Sealed.
    pub bearer_token: Option<Vec<u8>>,
    /// A JSON object.
    pub metadata_json: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// A JSON object of texts.
    pub labels_json: Option<String>,
    /// When it was registered.
    pub registered_at: Timestamp,
    /// When it last answered.
    #[diesel(skip_update)]
    pub last_seen: Option<Timestamp>,
    /// How it answered its last probe.
    #[diesel(skip_update)]
    pub last_status: String,
    /// The schema family.
    #[diesel(skip_update)]
    pub wire_generation: String,
    /// The version that it reports.
    #[diesel(skip_update)]
    pub gateway_version: Option<String>,
    /// How long its last answer took, in microseconds.
    #[diesel(skip_update)]
    pub latency_us: Option<i64>,
    /// Why its last probe failed.
    #[diesel(skip_update)]
    pub last_error: Option<String>,
    /// When it was last probed.
    #[diesel(skip_update)]
    pub probed_at: Option<Timestamp>,
    /// Moves with each change by a caller.
    pub version: i64,
    /// Where tokens for it are fetched.
    pub oidc_token_url: Option<String>,
    /// The scope that is asked for.
    pub oidc_scope: Option<String>,
    /// The audience that is asked for.
    pub oidc_audience: Option<String>,
    /// Who asks.
    pub oidc_client_id: Option<String>,
    /// Sealed.
    pub oidc_client_secret: Option<Vec<u8>>,
    /// When the certificate ends that it has shown last.
    #[diesel(skip_update)]
    pub server_cert_ends_at: Option<Timestamp>,
    /// The schema family that is taken whatever its version says.
    pub pinned_generation: Option<String>,
    /// Since when it was found to approve proposals by itself.
    #[diesel(skip_update)]
    pub automatic_approvals_since: Option<Timestamp>,
    /// Since when it was found to reject our credential, or to permit it nothing.
    #[diesel(skip_update)]
    pub credential_unusable_since: Option<Timestamp>,
}

impl Row {
    /// Where tokens are fetched.
    #[must_use]
    pub fn oidc_client(&self) -> Option<OidcClient> {
        let (scope, audience) = (self.oidc_scope.clone(), self.oidc_audience.clone());
        let token_url = self.oidc_token_url.clone()?;
        Some(OidcClient { token_url, scope, audience })
    }

    /// Its credentials, as they are stored.
    #[must_use]
    pub fn sealed(&self) -> Vec<&Option<Vec<u8>>> {
        vec![&self.client_cert, &self.client_key, &self.bearer_token, &self.oidc_client_secret]
    }

    /// Takes the credentials of another state of the same gateway, sealed for the same destination.
    pub fn take_credentials(&mut self, from: &Self) {
        self.client_cert.clone_from(&from.client_cert);
        self.client_key.clone_from(&from.client_key);
        self.bearer_token.clone_from(&from.bearer_token);
        self.oidc_client_id.clone_from(&from.oidc_client_id);
        self.oidc_client_secret.clone_from(&from.oidc_client_secret);
    }

    /// Sets where tokens are fetched.
    pub fn set_oidc_client(&mut self, client: Option<&OidcClient>) {
        self.oidc_token_url = client.map(|client| client.token_url.clone());
        self.oidc_scope = client.and_then(|client| client.scope.clone());
        self.oidc_audience = client.and_then(|client| client.audience.clone());
    }
}

/// One by name.
pub async fn by_name(conn: &mut Conn, name: &str) -> Result<Option<Row>, Error> {
    Ok(on_conn!(conn, |c| gateways::table
        .filter(gateways::name.eq(name))
        .select(Row::as_select())
        .first(c)
        .await
        .optional())?)
}

/// Name of one with this endpoint; of several the first that was registered.
pub async fn name_at(conn: &mut Conn, endpoint: &str) -> Result<Option<String>, Error> {
    Ok(on_conn!(conn, |c| gateways::table
        .filter(gateways::endpoint.eq(endpoint))
        .select(gateways::name)
        .order(gateways::id)
        .first(c)
        .await
        .optional())?)
}

/// One by id.
pub async fn by_id(conn: &mut Conn, id: GatewayId) -> Result<Option<Row>, Error> {
    Ok(on_conn!(conn, |c| gateways::table
        .find(id.get())
        .select(Row::as_select())
        .first(c)
        .await
        .optional())?)
}

/// One by id, which nobody else changes or takes out until the transaction ends.
pub async fn lock(conn: &mut Conn, id: GatewayId) -> Result<Option<Row>, Error> {
    match conn {
        Conn::Pg(c) => {
            let row = gateways::table.find(id.get()).select(Row::as_select());
            // Not for update: what hangs on a gateway may be added while it is held.
            Ok(row.for_no_key_update().first(c).await.optional()?)
        }
        // The transaction has the database's one write lock already.
        Conn::Sqlite(_) => by_id(conn, id).await,
    }
}

/// Those of these ids that there are.
pub async fn by_ids(conn: &mut Conn, ids: &[GatewayId]) -> Result<Vec<Row>, Error> {
    let ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
    Ok(on_conn!(conn, |c| gateways::table
        .filter(gateways::id.eq_any(ids))
        .select(Row::as_select())
        .load(c)
        .await)?)
}

/// Ids and names of those that a caller may see.
pub async fn names(conn: &mut Conn, visible: &Visible) -> Result<Vec<(i64, String)>, Error> {
    Ok(on_conn!(conn, |c| {
        let mut query = gateways::table.select((gateways::id, gateways::name)).into_boxed();
        if let Visible::Only(ids) = visible {
            let ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
            query = query.filter(gateways::id.eq_any(ids));
        }
        query.load(c).await
    })?)
}

/// All of them.
pub async fn all(conn: &mut Conn) -> Result<Vec<Row>, Error> {
    Ok(on_conn!(conn, |c| gateways::table.select(Row::as_select()).load(c).await)?)
}

/// Stores a new one with its labels; a name that is taken is `Exists`.
pub async fn insert(conn: &mut Conn, row: &Row, labels: &Labels) -> Result<Row, Error> {
    let stored: Result<Row, _> = on_conn!(conn, |c| diesel::insert_into(gateways::table)
        .values(row)
        .returning(Row::as_returning())
        .get_result(c)
        .await);
    let stored = stored.map_err(|error| crate::db::error::about(error.into(), &row.name))?;
    insert_labels(conn, stored.id, labels).await?;
    Ok(stored)
}

async fn insert_labels(conn: &mut Conn, id: i64, labels: &Labels) -> Result<(), Error> {
    for (key, value) in labels.iter() {
        let row = (
            gateway_labels::gateway_id.eq(id),
            gateway_labels::key.eq(key),
            gateway_labels::value.eq(value),
        );
        on_conn!(conn, |c| diesel::insert_into(gateway_labels::table)
            .values(row)
            .execute(c)
            .await)?;
    }
    Ok(())
}

/// Changes one that is still at the version before `row.version`; answers whether it was. `labels` are all of them,
/// where they change.
pub async fn update(conn: &mut Conn, row: &Row, labels: Option<&Labels>) -> Result<bool, Error> {
    let at =
        gateways::table.filter(gateways::id.eq(row.id).and(gateways::version.eq(row.version - 1)));
    let changed = on_conn!(conn, |c| diesel::update(at).set(row).execute(c).await)?;
    if changed == 1
        && let Some(labels) = labels
    {
        let old = gateway_labels::table.filter(gateway_labels::gateway_id.eq(row.id));
        on_conn!(conn, |c| diesel::delete(old).execute(c).await)?;
        insert_labels(conn, row.id, labels).await?;
    }
    Ok(changed == 1)
}

/// Forgets what was found of one that is another by now. Moves no version.
pub async fn forget_found(conn: &mut Conn, row: &mut Row) -> Result<(), Error> {
    Generation::Unknown.as_str().clone_into(&mut row.wire_generation);
    "unknown".clone_into(&mut row.last_status);
    row.server_cert_ends_at = None;
    let at = gateways::table.find(row.id);
    let to = (
        gateways::wire_generation.eq(&row.wire_generation),
        gateways::last_status.eq(&row.last_status),
        gateways::server_cert_ends_at.eq(row.server_cert_ends_at),
    );
    on_conn!(conn, |c| diesel::update(at).set(to).execute(c).await)?;
    Ok(())
}

/// Deletes one that is still at `version`; answers whether it was.
pub async fn delete(conn: &mut Conn, id: GatewayId, version: i64) -> Result<bool, Error> {
    let at = gateways::table.filter(gateways::id.eq(id.get()).and(gateways::version.eq(version)));
    Ok(on_conn!(conn, |c| diesel::delete(at).execute(c).await)? == 1)
}

/// What a probe found.
#[derive(Debug, Clone, AsChangeset)]
#[diesel(table_name = gateways)]
pub struct Probed {
    /// How it answered.
    pub last_status: String,
    /// When it was asked.
    pub probed_at: Timestamp,
    /// When it answered; kept as it was where it did not.
    pub last_seen: Option<Timestamp>,
    /// Kept as it was where it did not answer.
    pub wire_generation: Option<String>,
    /// Kept as it was where it did not answer.
    pub gateway_version: Option<String>,
    /// In microseconds; kept as it was where it did not answer.
    pub latency_us: Option<i64>,
    /// Kept as it was where it did not answer.
    pub server_cert_ends_at: Option<Timestamp>,
}

impl Row {
    /// As it is once a probe has found this.
    pub fn note(&mut self, probed: &Probed, error: Option<String>) {
        let found = probed.clone();
        self.last_status = found.last_status;
        self.probed_at = Some(found.probed_at);
        self.last_seen = found.last_seen.or(self.last_seen);
        self.wire_generation =
            found.wire_generation.unwrap_or_else(|| self.wire_generation.clone());
        self.gateway_version = found.gateway_version.or_else(|| self.gateway_version.take());
        self.latency_us = found.latency_us.or(self.latency_us);
        self.server_cert_ends_at = found.server_cert_ends_at.or(self.server_cert_ends_at);
        self.last_error = error;
    }
}

/// Those that have not answered their last probe, the one first that was asked longest ago.
pub async fn silent(conn: &mut Conn) -> Result<Vec<GatewayId>, Error> {
    let ids: Vec<i64> = on_conn!(conn, |c| gateways::table
        .filter(gateways::last_status.eq("unreachable"))
        .select(gateways::id)
        .order((gateways::probed_at, gateways::id))
        .load(c)
        .await)?;
    Ok(ids.into_iter().map(GatewayId).collect())
}

/// Stores what a probe found. Moves no version.
pub async fn store_probe(
    conn: &mut Conn,
    id: GatewayId,
    probed: &Probed,
    error: Option<&str>,
) -> Result<(), Error> {
    let at = gateways::table.filter(gateways::id.eq(id.get()));
    let to = (probed, gateways::last_error.eq(error));
    on_conn!(conn, |c| diesel::update(at).set(to).execute(c).await)?;
    Ok(())
}

/// Shows a gateway as degraded, and why. Moves no version.
pub async fn degrade(conn: &mut Conn, id: GatewayId, why: &str) -> Result<(), Error> {
    let at = gateways::table.filter(gateways::id.eq(id.get()));
    let to = (gateways::last_status.eq("degraded"), gateways::last_error.eq(why));
    on_conn!(conn, |c| diesel::update(at).set(to).execute(c).await)?;
    Ok(())
}

/// A page by name, from a name on, of those that the caller may see and the selector picks.
pub async fn page(
    conn: &mut Conn,
    visible: &Visible,
    selector: &Selector,
    from: Bound<&str>,
    limit: i64,
) -> Result<Vec<Row>, Error> {
    use gateway_labels as l;
    let rows = on_conn!(conn, |c| {
        let mut query = gateways::table
            .select(Row::as_select())
            .order(gateways::name)
            .limit(limit)
            .into_boxed();
        query = match from {
            Bound::Unbounded => query,
            Bound::Included(name) => query.filter(gateways::name.ge(name)),
            Bound::Excluded(name) => query.filter(gateways::name.gt(name)),
        };
        if let Visible::Only(ids) = visible {
            query = query
                .filter(gateways::id.eq_any(ids.iter().map(|id| id.get()).collect::<Vec<i64>>()));
        }
        for requirement in &selector.0 {
            query = match requirement {
                Requirement::In(key, values) => query.filter(
                    gateways::id.eq_any(
                        l::table
                            .filter(l::key.eq(key).and(l::value.eq_any(values)))
                            .select(l::gateway_id),
                    ),
                ),
                Requirement::NotIn(key, values) => query.filter(
                    gateways::id.ne_all(
                        l::table
                            .filter(l::key.eq(key).and(l::value.eq_any(values)))
                            .select(l::gateway_id),
                    ),
                ),
                Requirement::Exists(key) => query.filter(
                    gateways::id.eq_any(l::table.filter(l::key.eq(key)).select(l::gateway_id)),
                ),
                Requirement::Missing(key) => query.filter(
                    gateways::id.ne_all(l::table.filter(l::key.eq(key)).select(l::gateway_id)),
                ),
            };
        }
        query.load(c).await
    })?;
    Ok(rows)
}
