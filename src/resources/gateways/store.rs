//! Rows of gateways. Secrets are sealed before they get here.

use std::ops::Bound;

use diesel::dsl::exists;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use futures_util::future::{self, BoxFuture};

use crate::access::principal::PrincipalId;
use crate::access::snapshot::VisibleGateways;
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::{
    approval_workflows as w, gateway_former_endpoints as f, gateway_labels, gateways,
    policy_pins as p,
};
use crate::db::types::GatewayId;
use crate::db::{Conn, OpeningConn, on_conn};
use crate::error::Error;
use crate::labels::{Labels, Requirement, Selector};
use crate::resources::access_bindings::effect::store::{
    LockMode, OwnRole, lock_and_own_role_postgres, own_role_sqlite,
};
use crate::upstream::endpoint::spellings;
use crate::upstream::generation::DetectedGeneration;
use crate::upstream::row::{GatewayRow, GatewayStatus};
pub use crate::upstream::store::{by_id, by_name, lock};
use crate::upstream::store::{lock_postgres, lock_sqlite};

/// What [`lock_first`] has read.
#[derive(Debug)]
pub struct ReadFirst {
    /// The role of the caller without its groups. `None` if it was not read or does not exist.
    pub own: Option<OwnRole>,
    /// The locked gateway. `None` if it was not read or does not exist.
    pub row: Option<GatewayRow>,
}

/// Takes the shared lock for changes of access, reads the role of `caller` without its groups, and then locks and reads
/// the gateway `row`, as [`lock`] does. A `caller` or `row` that is not given is left out. For the first statements of
/// a transaction.
#[must_use]
pub fn lock_first(
    conn: OpeningConn<'_>,
    caller: Option<PrincipalId>,
    row: Option<GatewayId>,
) -> BoxFuture<'_, Result<ReadFirst, Error>> {
    Box::pin(async move {
        match conn {
            OpeningConn::Pg(c) => {
                let row = async {
                    match row {
                        Some(id) => lock_postgres(c, id).await,
                        None => Ok(None),
                    }
                };
                let own = lock_and_own_role_postgres(c, LockMode::Shared, caller);
                // The server executes the statements in the order in which they are polled first.
                let (own, row) = future::join(own, row).await;
                Ok(ReadFirst { own: own?, row: row? })
            }
            OpeningConn::Sqlite(c) => {
                let own = match caller {
                    Some(caller) => own_role_sqlite(c, caller).await?,
                    None => None,
                };
                let row = match row {
                    Some(id) => lock_sqlite(c, id).await?,
                    None => None,
                };
                Ok(ReadFirst { own, row })
            }
        }
    })
}

/// Returns the name of the gateway with this endpoint, whether or not its host has a dot at its end. If there are
/// several, returns that of the first registered.
pub async fn name_by_endpoint(conn: &mut Conn, endpoint: &str) -> Result<Option<String>, Error> {
    let (plain, dotted) = spellings(endpoint);
    Ok(on_conn!(conn, |c| gateways::table
        .filter(gateways::endpoint.eq(&plain).or(gateways::endpoint.eq(&dotted)))
        .select(gateways::name)
        .order(gateways::id)
        .first(c)
        .await
        .optional())?)
}

/// Returns the ids and names of the gateways to which a pin or a workflow may apply and that have this endpoint or had
/// it under a rule, whether or not its host has a dot at its end. They are in the order of their registration, after an
/// id, at most `limit`.
pub async fn governed_at_endpoint(
    conn: &mut Conn,
    endpoint: &str,
    after: GatewayId,
    limit: i64,
) -> Result<Vec<(GatewayId, String)>, Error> {
    let (plain, dotted) = spellings(endpoint);
    let found: Vec<(i64, String)> = on_conn!(conn, |c| {
        let pinned = exists(p::table.filter(p::gateway_name.eq(gateways::name)));
        // A workflow of a selector may apply to any gateway.
        let of_gateway =
            w::gateway_name.is_null().or(w::gateway_name.eq(gateways::name.nullable()));
        let governed = exists(w::table.filter(of_gateway));
        let had = f::endpoint.eq(&plain).or(f::endpoint.eq(&dotted));
        let of_other = f::gateway_id.eq(gateways::id).and(had);
        let had_endpoint = exists(f::table.filter(of_other));
        gateways::table
            .filter(
                gateways::endpoint.eq(&plain).or(gateways::endpoint.eq(&dotted)).or(had_endpoint),
            )
            .filter(gateways::id.gt(after.get()))
            .filter(pinned.or(governed))
            .select((gateways::id, gateways::name))
            .order(gateways::id)
            .limit(limit)
            .load(c)
            .await
    })?;
    Ok(found.into_iter().map(|(id, name)| (GatewayId(id), name)).collect())
}

/// Stores an endpoint that a gateway no longer has.
pub async fn keep_former_endpoint(
    conn: &mut Conn,
    id: GatewayId,
    endpoint: &str,
) -> Result<(), Error> {
    let row = (f::gateway_id.eq(id.get()), f::endpoint.eq(endpoint));
    on_conn!(conn, |c| diesel::insert_into(f::table)
        .values(row)
        .on_conflict_do_nothing()
        .execute(c)
        .await)?;
    Ok(())
}

/// Returns the number of the stored former endpoints of a gateway.
pub async fn count_former_endpoints(conn: &mut Conn, id: GatewayId) -> Result<i64, Error> {
    Ok(on_conn!(conn, |c| f::table.filter(f::gateway_id.eq(id.get())).count().get_result(c).await)?)
}

/// Returns the ids and names of the gateways that a caller can see.
pub async fn names(
    conn: &mut Conn,
    visible: &VisibleGateways,
) -> Result<Vec<(i64, String)>, Error> {
    Ok(on_conn!(conn, |c| {
        let mut query = gateways::table.select((gateways::id, gateways::name)).into_boxed();
        if let VisibleGateways::Only(ids) = visible {
            let ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
            query = query.filter(gateways::id.eq_any(ids));
        }
        query.load(c).await
    })?)
}

/// Stores a new gateway with its labels. Returns `Exists` if the name is in use.
pub async fn insert(
    conn: &mut Conn,
    row: &GatewayRow,
    labels: &Labels,
) -> Result<GatewayRow, Error> {
    let stored: Result<i64, _> = on_conn!(conn, |c| diesel::insert_into(gateways::table)
        .values(row)
        .returning(gateways::id)
        .get_result(c)
        .await);
    let id = stored.map_err(|error| crate::db::error::with_name(error.into(), &row.name))?;
    insert_labels(conn, id, labels).await?;
    let stored = by_id(conn, GatewayId(id)).await?;
    stored.ok_or_else(|| Error::internal("a gateway that was just stored"))
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

/// Updates a gateway if its stored version is `row.version - 1`. Returns whether it was updated. `labels` replaces all
/// labels; `None` leaves them unchanged.
pub async fn update(
    conn: &mut Conn,
    row: &GatewayRow,
    labels: Option<&Labels>,
) -> Result<bool, Error> {
    let at =
        gateways::table.filter(gateways::id.eq(row.id).and(gateways::version.eq(row.version - 1)));
    let changed = on_conn!(conn, |c| cached(diesel::update(at).set(row)).execute(c).await)?;
    if changed == 1
        && let Some(labels) = labels
    {
        let old = gateway_labels::table.filter(gateway_labels::gateway_id.eq(row.id));
        on_conn!(conn, |c| diesel::delete(old).execute(c).await)?;
        insert_labels(conn, row.id, labels).await?;
    }
    Ok(changed == 1)
}

/// Resets the status, generation and server certificate that probes found, after a change of the destination. Does not
/// increment the version.
pub async fn reset_probe_results(conn: &mut Conn, row: &mut GatewayRow) -> Result<(), Error> {
    row.observed.wire_generation = DetectedGeneration::Unknown;
    row.observed.last_status = GatewayStatus::Unknown;
    row.observed.server_cert_ends_at = None;
    let at = gateways::table.find(row.id);
    let to = (
        gateways::wire_generation.eq(row.observed.wire_generation),
        gateways::last_status.eq(row.observed.last_status),
        gateways::server_cert_ends_at.eq(row.observed.server_cert_ends_at),
    );
    on_conn!(conn, |c| cached(diesel::update(at).set(to)).execute(c).await)?;
    Ok(())
}

/// Deletes a gateway if its version is still `version`. Returns whether it was deleted.
pub async fn delete(conn: &mut Conn, id: GatewayId, version: i64) -> Result<bool, Error> {
    let at = gateways::table.filter(gateways::id.eq(id.get()).and(gateways::version.eq(version)));
    Ok(on_conn!(conn, |c| diesel::delete(at).execute(c).await)? == 1)
}

/// Result of a probe. A `None` field leaves the stored value unchanged.
#[derive(Debug, Clone, AsChangeset)]
#[diesel(table_name = gateways)]
pub struct ProbeResult {
    /// Status.
    pub last_status: GatewayStatus,
    /// When the probe began.
    pub probed_at: Timestamp,
    /// When the gateway answered; `None` if it did not.
    pub last_seen: Option<Timestamp>,
    /// Detected generation; `None` if the gateway did not answer.
    pub wire_generation: Option<DetectedGeneration>,
    /// Reported version; `None` if the gateway did not answer.
    pub gateway_version: Option<String>,
    /// Latency in microseconds; `None` if the gateway did not answer.
    pub latency_us: Option<i64>,
    /// Expiry of the server certificate; `None` if unknown.
    pub server_cert_ends_at: Option<Timestamp>,
}

impl ProbeResult {
    /// Writes the result of the probe to a row; `error` says why the probe failed.
    pub fn apply_to(&self, row: &mut GatewayRow, error: Option<String>) {
        let (probed, found) = (self.clone(), &mut row.observed);
        found.last_status = probed.last_status;
        found.probed_at = Some(probed.probed_at);
        found.last_seen = probed.last_seen.or(found.last_seen);
        found.wire_generation = probed.wire_generation.unwrap_or(found.wire_generation);
        found.gateway_version = probed.gateway_version.or_else(|| found.gateway_version.take());
        found.latency_us = probed.latency_us.or(found.latency_us);
        found.server_cert_ends_at = probed.server_cert_ends_at.or(found.server_cert_ends_at);
        found.last_error = error;
    }
}

/// Returns the gateways that did not answer their last probe, least recently probed first.
pub async fn list_unresponsive(conn: &mut Conn) -> Result<Vec<GatewayId>, Error> {
    let ids: Vec<i64> = on_conn!(conn, |c| gateways::table
        .filter(gateways::last_status.eq(GatewayStatus::Unreachable))
        .select(gateways::id)
        .order((gateways::probed_at, gateways::id))
        .load(c)
        .await)?;
    Ok(ids.into_iter().map(GatewayId).collect())
}

/// Stores the result of a probe. Does not increment the version.
pub async fn store_probe(
    conn: &mut Conn,
    id: GatewayId,
    probed: &ProbeResult,
    error: Option<&str>,
) -> Result<(), Error> {
    let at = gateways::table.filter(gateways::id.eq(id.get()));
    let to = (probed, gateways::last_error.eq(error));
    on_conn!(conn, |c| cached(diesel::update(at).set(to)).execute(c).await)?;
    Ok(())
}

/// Sets the status of a gateway to degraded, with the reason. Does not increment the version.
pub async fn degrade(conn: &mut Conn, id: GatewayId, why: &str) -> Result<(), Error> {
    let at = gateways::table.filter(gateways::id.eq(id.get()));
    let to = (gateways::last_status.eq(GatewayStatus::Degraded), gateways::last_error.eq(why));
    on_conn!(conn, |c| cached(diesel::update(at).set(to)).execute(c).await)?;
    Ok(())
}

/// Returns a page of the gateways that the caller can see and the selector matches, ordered by name and starting at
/// `from`.
pub async fn page(
    conn: &mut Conn,
    visible: &VisibleGateways,
    selector: &Selector,
    from: Bound<&str>,
    limit: i64,
) -> Result<Vec<GatewayRow>, Error> {
    use gateway_labels as l;
    let rows = on_conn!(conn, |c| {
        let mut query = gateways::table
            .select(GatewayRow::as_select())
            .order(gateways::name)
            .limit(limit)
            .into_boxed();
        query = match from {
            Bound::Unbounded => query,
            Bound::Included(name) => query.filter(gateways::name.ge(name)),
            Bound::Excluded(name) => query.filter(gateways::name.gt(name)),
        };
        if let VisibleGateways::Only(ids) = visible {
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
