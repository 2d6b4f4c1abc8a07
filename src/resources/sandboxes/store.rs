//! Rows of sandbox metadata and SSH sessions.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::{sandbox_labels, sandbox_meta, ssh_sessions};
use crate::db::types::SandboxName;
use crate::db::{Conn, on_conn};
use crate::delete_first;
use crate::error::Error;
use crate::labels::{Labels, Requirement, Selector};

/// Metadata of one sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = sandbox_meta)]
pub struct SandboxMeta {
    /// Id of the row.
    pub id: i64,
    /// Workspace on the gateway.
    pub workspace: String,
    /// Name on the gateway.
    pub sandbox_name: String,
    /// The gateway's id of the sandbox. `None` if it was never seen there.
    pub sandbox_id: Option<String>,
    /// Description of its purpose.
    pub description: Option<String>,
    /// Labels: a JSON object of strings.
    pub labels_json: Option<String>,
    /// Time at which it was first known here.
    pub created_at: Timestamp,
    /// Time of the last change of description or labels.
    pub updated_at: Option<Timestamp>,
    /// Time at which its gateway was first seen not to list it.
    pub missing_since: Option<Timestamp>,
    /// Incremented by each change of description or labels.
    pub version: i64,
}

impl SandboxMeta {
    /// Returns the place of the sandbox.
    #[must_use]
    pub fn full_name(&self) -> SandboxName {
        SandboxName { workspace: self.workspace.clone(), name: self.sandbox_name.clone() }
    }
}

/// Selects the row of one sandbox.
macro_rules! meta_at {
    ($gateway:expr, $place:expr) => {
        sandbox_meta::table
            .filter(sandbox_meta::gateway_name.eq($gateway))
            .filter(sandbox_meta::workspace.eq(&$place.workspace))
            .filter(sandbox_meta::sandbox_name.eq(&$place.name))
    };
}

/// Selects the SSH sessions of one sandbox.
macro_rules! ssh_of {
    ($gateway:expr, $place:expr) => {
        ssh_sessions::table
            .filter(ssh_sessions::gateway_name.eq($gateway))
            .filter(ssh_sessions::workspace.eq(&$place.workspace))
            .filter(ssh_sessions::sandbox_name.eq(&$place.name))
    };
}

/// Returns the metadata of one sandbox.
pub async fn get(
    conn: &mut Conn,
    gateway: &str,
    place: &SandboxName,
) -> Result<Option<SandboxMeta>, Error> {
    Ok(on_conn!(conn, |c| meta_at!(gateway, place)
        .select(SandboxMeta::as_select())
        .first(c)
        .await
        .optional())?)
}

/// Returns the metadata of one sandbox and locks the row until the transaction ends.
pub async fn lock(
    conn: &mut Conn,
    gateway: &str,
    place: &SandboxName,
) -> Result<Option<SandboxMeta>, Error> {
    match conn {
        Conn::Pg(c) => {
            let row = meta_at!(gateway, place).select(SandboxMeta::as_select());
            Ok(row.for_update().first(c).await.optional()?)
        }
        // The transaction already holds the database's only write lock.
        Conn::Sqlite(c) => {
            let row = meta_at!(gateway, place).select(SandboxMeta::as_select());
            Ok(row.first(c).await.optional()?)
        }
    }
}

/// Returns the rows of a gateway that the selector matches, by place. An empty selector matches all rows.
pub async fn list_matching(
    conn: &mut Conn,
    gateway: &str,
    selector: &Selector,
) -> Result<Vec<SandboxMeta>, Error> {
    use sandbox_labels as l;
    use sandbox_meta as t;
    let rows = on_conn!(conn, |c| {
        let mut query = t::table
            .filter(t::gateway_name.eq(gateway))
            .select(SandboxMeta::as_select())
            .order((t::workspace, t::sandbox_name))
            .into_boxed();
        for requirement in &selector.0 {
            query = match requirement {
                Requirement::In(key, values) => query.filter(t::id.eq_any(
                    l::table.filter(l::key.eq(key).and(l::value.eq_any(values))).select(l::meta_id),
                )),
                Requirement::NotIn(key, values) => query.filter(t::id.ne_all(
                    l::table.filter(l::key.eq(key).and(l::value.eq_any(values))).select(l::meta_id),
                )),
                Requirement::Exists(key) => {
                    query.filter(t::id.eq_any(l::table.filter(l::key.eq(key)).select(l::meta_id)))
                }
                Requirement::Missing(key) => {
                    query.filter(t::id.ne_all(l::table.filter(l::key.eq(key)).select(l::meta_id)))
                }
            };
        }
        query.load(c).await
    })?;
    Ok(rows)
}

/// Returns the places of a gateway's sandboxes that have a row, with the gateway's id of the sandbox if it was seen.
pub async fn places(
    conn: &mut Conn,
    gateway: &str,
) -> Result<BTreeMap<SandboxName, Option<String>>, Error> {
    use sandbox_meta as t;
    let rows: Vec<(String, String, Option<String>)> = on_conn!(conn, |c| t::table
        .filter(t::gateway_name.eq(gateway))
        .select((t::workspace, t::sandbox_name, t::sandbox_id))
        .load(c)
        .await)?;
    let place = |(workspace, name, id)| (SandboxName { workspace, name }, id);
    Ok(rows.into_iter().map(place).collect())
}

/// Inserts a row for a sandbox that was seen or created on its gateway. An existing row stays as it is.
pub async fn insert_seen(
    conn: &mut Conn,
    gateway: &str,
    place: &SandboxName,
    sandbox_id: &str,
    now: Timestamp,
) -> Result<SandboxMeta, Error> {
    use sandbox_meta as t;
    let row = (
        t::gateway_name.eq(gateway),
        t::workspace.eq(&place.workspace),
        t::sandbox_name.eq(&place.name),
        t::sandbox_id.eq(sandbox_id),
        t::created_at.eq(now),
    );
    on_conn!(conn, |c| diesel::insert_into(t::table)
        .values(row)
        .on_conflict_do_nothing()
        .execute(c)
        .await)?;
    lock(conn, gateway, place).await?.ok_or_else(|| Error::internal("a row that was just written"))
}

/// Stores the id under which the gateway lists a sandbox, and marks it as not missing.
pub async fn set_sandbox_id(conn: &mut Conn, id: i64, sandbox_id: &str) -> Result<(), Error> {
    use sandbox_meta as t;
    let set = (t::sandbox_id.eq(sandbox_id), t::missing_since.eq(None::<Timestamp>));
    on_conn!(conn, |c| cached(diesel::update(t::table.find(id)).set(set)).execute(c).await)?;
    Ok(())
}

/// Stores the owner of a sandbox, unless an owner is stored already.
pub async fn set_owner(conn: &mut Conn, id: i64, owner: PrincipalId) -> Result<(), Error> {
    use sandbox_meta as t;
    let row = t::table.filter(t::id.eq(id).and(t::owner.is_null()));
    let set = t::owner.eq(owner.to_string());
    on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)?;
    Ok(())
}

/// Stores since when the gateway has not listed a sandbox.
pub async fn set_missing_since(conn: &mut Conn, id: i64, since: Timestamp) -> Result<(), Error> {
    use sandbox_meta as t;
    on_conn!(conn, |c| diesel::update(t::table.find(id))
        .set(t::missing_since.eq(since))
        .execute(c)
        .await)?;
    Ok(())
}

/// Changes description and labels if the version is still that of `meta`. Returns whether they were changed.
pub async fn update_meta(
    conn: &mut Conn,
    meta: &SandboxMeta,
    description: Option<&str>,
    labels: &Labels,
    now: Timestamp,
) -> Result<bool, Error> {
    use sandbox_meta as t;
    let (id, version) = (meta.id, meta.version);
    let row = t::table.filter(t::id.eq(id).and(t::version.eq(version)));
    let set = (
        t::description.eq(description),
        t::labels_json.eq(labels.to_json()?),
        t::updated_at.eq(now),
        t::version.eq(version + 1),
    );
    if on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)? != 1 {
        return Ok(false);
    }
    let old = sandbox_labels::table.filter(sandbox_labels::meta_id.eq(id));
    on_conn!(conn, |c| diesel::delete(old).execute(c).await)?;
    let rows: Vec<_> = labels
        .iter()
        .map(|(key, value)| {
            (
                sandbox_labels::meta_id.eq(id),
                sandbox_labels::key.eq(key),
                sandbox_labels::value.eq(value),
            )
        })
        .collect();
    for row in rows {
        on_conn!(conn, |c| diesel::insert_into(sandbox_labels::table)
            .values(row)
            .execute(c)
            .await)?;
    }
    Ok(true)
}

/// Deletes the row of a sandbox with its labels. Returns whether a row was deleted.
pub async fn delete(conn: &mut Conn, gateway: &str, place: &SandboxName) -> Result<bool, Error> {
    let row = meta_at!(gateway, place);
    Ok(on_conn!(conn, |c| diesel::delete(row).execute(c).await)? == 1)
}

/// Stores an SSH session under the SHA-256 of its token, in hexadecimal.
pub async fn insert_ssh(
    conn: &mut Conn,
    gateway: &str,
    place: &SandboxName,
    token_hash: &str,
    created_at: Timestamp,
    expires_at: Timestamp,
) -> Result<(), Error> {
    use ssh_sessions as t;
    let row = (
        t::gateway_name.eq(gateway),
        t::workspace.eq(&place.workspace),
        t::sandbox_name.eq(&place.name),
        t::token_hash.eq(token_hash),
        t::created_at.eq(created_at),
        t::expires_at.eq(expires_at),
    );
    on_conn!(conn, |c| diesel::insert_into(t::table)
        .values(row)
        .on_conflict_do_nothing()
        .execute(c)
        .await)?;
    Ok(())
}

/// Returns whether an SSH session of this sandbox was opened through Shoreguard.
pub async fn has_ssh(
    conn: &mut Conn,
    gateway: &str,
    place: &SandboxName,
    token_hash: &str,
) -> Result<bool, Error> {
    let row = ssh_of!(gateway, place).filter(ssh_sessions::token_hash.eq(token_hash));
    let found: i64 = on_conn!(conn, |c| row.count().get_result(c).await)?;
    Ok(found > 0)
}

/// Deletes an SSH session.
pub async fn delete_ssh(conn: &mut Conn, gateway: &str, token_hash: &str) -> Result<(), Error> {
    use ssh_sessions as t;
    let row = t::table.filter(t::gateway_name.eq(gateway).and(t::token_hash.eq(token_hash)));
    on_conn!(conn, |c| diesel::delete(row).execute(c).await)?;
    Ok(())
}

/// Deletes all SSH sessions of a sandbox and returns their number.
pub async fn delete_ssh_of(
    conn: &mut Conn,
    gateway: &str,
    place: &SandboxName,
) -> Result<usize, Error> {
    let rows = ssh_of!(gateway, place);
    Ok(on_conn!(conn, |c| diesel::delete(rows).execute(c).await)?)
}

/// Deletes up to `limit` expired SSH sessions and returns their number.
pub async fn delete_expired_ssh(
    conn: &mut Conn,
    now: Timestamp,
    limit: i64,
) -> Result<usize, Error> {
    use ssh_sessions as t;
    Ok(delete_first!(conn, t, t::expires_at.le(now), t::expires_at, limit)?)
}

/// Counts the stored SSH sessions of a sandbox.
pub async fn count_ssh_of(
    conn: &mut Conn,
    gateway: &str,
    place: &SandboxName,
) -> Result<usize, Error> {
    let rows = ssh_of!(gateway, place);
    let count: i64 = on_conn!(conn, |c| rows.count().get_result(c).await)?;
    Ok(usize::try_from(count).unwrap_or_default())
}

/// Counts the rows of a gateway: sandboxes with metadata, and SSH sessions.
pub async fn count_on_gateway(conn: &mut Conn, gateway: &str) -> Result<(i64, i64), Error> {
    let kept = sandbox_meta::table.filter(sandbox_meta::gateway_name.eq(gateway)).count();
    let kept = on_conn!(conn, |c| kept.get_result(c).await)?;
    let sessions = ssh_sessions::table.filter(ssh_sessions::gateway_name.eq(gateway)).count();
    Ok((kept, on_conn!(conn, |c| sessions.get_result(c).await)?))
}
