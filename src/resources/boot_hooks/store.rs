//! Rows of boot hooks. Every query filters by gateway, workspace and sandbox (T08).

use diesel::dsl::auto_type;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::input::{HookPhase, HookStatus};
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::sandbox_boot_hooks as t;
use crate::db::types::{BootHookId, Json, SandboxName, SandboxRef};
use crate::db::{Conn, on_conn};
use crate::error::Error;

/// Advisory lock on PostgreSQL that serializes creating and reordering hooks, so that their number and order are
/// consistent.
const HOOKS_LOCK: i64 = 0x5348_4f52_4548_4f4b;

/// A hook.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = t)]
pub struct Hook {
    /// Permanent id.
    pub id: BootHookId,
    /// Name of the gateway.
    pub gateway_name: String,
    /// Workspace of the sandbox.
    pub workspace: String,
    /// Name of the sandbox.
    pub sandbox_name: String,
    /// Name, unique in the sandbox and phase.
    pub name: String,
    /// When and where it runs.
    pub phase: HookPhase,
    /// Command.
    pub command: String,
    /// Working directory inside the sandbox.
    pub workdir: String,
    /// Sealed variables; `None` if there are none.
    pub env_json: Option<Vec<u8>>,
    /// Names of the variables.
    pub env_names: Json<Vec<String>>,
    /// Timeout, in seconds.
    pub timeout_seconds: i64,
    /// Position; hooks run in ascending order.
    pub order: i64,
    /// Whether it runs when a sandbox is created.
    pub enabled: bool,
    /// Whether the creation continues after it has failed.
    pub continue_on_failure: bool,
    /// Actor that created it.
    pub created_by: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// When it last ran.
    pub last_run_at: Option<Timestamp>,
    /// Result of the last run.
    pub last_status: Option<HookStatus>,
    /// Output of the last run; the reason if it failed without output.
    pub last_output: Option<String>,
    /// Version.
    pub version: i64,
}

#[auto_type]
fn of_sandbox<'a>(place: &'a SandboxRef) -> _ {
    let gateway: &'a str = &place.gateway.name;
    let workspace: &'a str = place.workspace();
    let sandbox: &'a str = place.sandbox();
    t::gateway_name.eq(gateway).and(t::workspace.eq(workspace)).and(t::sandbox_name.eq(sandbox))
}

#[auto_type]
fn by_key<'a>(place: &'a SandboxRef, id: BootHookId) -> _ {
    let id: i64 = id.get();
    let here: of_sandbox<'a> = of_sandbox(place);
    here.and(t::id.eq(id))
}

/// Returns a hook of a sandbox by id.
pub async fn by_id(
    conn: &mut Conn,
    place: &SandboxRef,
    id: BootHookId,
) -> Result<Option<Hook>, Error> {
    Ok(on_conn!(conn, |c| t::table
        .filter(by_key(place, id))
        .select(Hook::as_select())
        .first(c)
        .await
        .optional())?)
}

/// Cursor of a page: phase, order and id of the last hook.
pub type PageCursor = (HookPhase, i64, i64);

/// Returns hooks of a sandbox in the order in which they run.
pub async fn page(
    conn: &mut Conn,
    place: &SandboxRef,
    phase: Option<HookPhase>,
    after: Option<PageCursor>,
    limit: i64,
) -> Result<Vec<Hook>, Error> {
    Ok(on_conn!(conn, |c| {
        // Descending, since `pre_create` sorts after `post_create`.
        let mut query = t::table
            .filter(of_sandbox(place))
            .select(Hook::as_select())
            .order((t::phase.desc(), t::order.asc(), t::id.asc()))
            .limit(limit)
            .into_boxed();
        if let Some(phase) = phase {
            query = query.filter(t::phase.eq(phase.as_str()));
        }
        if let Some((phase, order, id)) = after {
            let later = t::order.gt(order).or(t::order.eq(order).and(t::id.gt(id)));
            let phase = phase.as_str();
            query = query.filter(t::phase.lt(phase).or(t::phase.eq(phase).and(later)));
        }
        query.load(c).await
    })?)
}

/// Takes the lock for creating or reordering hooks, until the end of the transaction.
pub async fn lock(conn: &mut Conn) -> Result<(), Error> {
    conn.advisory_lock(HOOKS_LOCK).await
}

/// Returns the number of hooks of a sandbox.
pub async fn count(conn: &mut Conn, place: &SandboxRef) -> Result<i64, Error> {
    Ok(on_conn!(conn, |c| t::table.filter(of_sandbox(place)).count().get_result(c).await)?)
}

/// Returns the number of hooks on a gateway.
pub async fn count_on_gateway(conn: &mut Conn, gateway: &str) -> Result<i64, Error> {
    let query = t::table.filter(t::gateway_name.eq(gateway)).count();
    Ok(on_conn!(conn, |c| query.get_result(c).await)?)
}

/// Returns the position after the last hook of a phase.
pub async fn next_order(
    conn: &mut Conn,
    place: &SandboxRef,
    phase: HookPhase,
) -> Result<i64, Error> {
    let last: Option<i64> = on_conn!(conn, |c| t::table
        .filter(of_sandbox(place))
        .filter(t::phase.eq(phase.as_str()))
        .select(diesel::dsl::max(t::order))
        .first(c)
        .await)?;
    Ok(last.map_or(0, |last| last.saturating_add(1)))
}

/// Stores a new hook; the database assigns its id. Returns `Exists` if the name is in use.
pub async fn insert(conn: &mut Conn, new: &Hook) -> Result<Hook, Error> {
    let row = (
        (
            t::gateway_name.eq(&new.gateway_name),
            t::workspace.eq(&new.workspace),
            t::sandbox_name.eq(&new.sandbox_name),
            t::name.eq(&new.name),
            t::phase.eq(new.phase.as_str()),
            t::command.eq(&new.command),
            t::workdir.eq(&new.workdir),
            t::env_json.eq(&new.env_json),
            t::env_names.eq(&new.env_names),
        ),
        (
            t::timeout_seconds.eq(new.timeout_seconds),
            t::order.eq(new.order),
            t::enabled.eq(new.enabled),
            t::continue_on_failure.eq(new.continue_on_failure),
            t::created_by.eq(&new.created_by),
            t::created_at.eq(new.created_at),
            t::updated_at.eq(new.updated_at),
        ),
    );
    let stored: Result<Hook, _> = on_conn!(conn, |c| diesel::insert_into(t::table)
        .values(row)
        .returning(Hook::as_returning())
        .get_result(c)
        .await);
    stored.map_err(|error| crate::db::error::with_name(error.into(), &new.name))
}

/// Updates a hook if its stored version is `hook.version - 1`. Returns whether it was updated.
pub async fn update(conn: &mut Conn, place: &SandboxRef, hook: &Hook) -> Result<bool, Error> {
    let row = t::table.filter(by_key(place, hook.id)).filter(t::version.eq(hook.version - 1));
    let set = (
        t::command.eq(&hook.command),
        t::workdir.eq(&hook.workdir),
        t::env_json.eq(&hook.env_json),
        t::env_names.eq(&hook.env_names),
        t::timeout_seconds.eq(hook.timeout_seconds),
        t::order.eq(hook.order),
        t::enabled.eq(hook.enabled),
        t::continue_on_failure.eq(hook.continue_on_failure),
        t::updated_at.eq(hook.updated_at),
        t::version.eq(hook.version),
    );
    Ok(on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)? == 1)
}

/// Stores the result of a run, without incrementing the version. Returns whether the hook still exists.
pub async fn store_run(
    conn: &mut Conn,
    place: &SandboxRef,
    id: BootHookId,
    at: Timestamp,
    status: HookStatus,
    output: &str,
) -> Result<bool, Error> {
    let row = t::table.filter(by_key(place, id));
    let set =
        (t::last_run_at.eq(at), t::last_status.eq(status.as_str()), t::last_output.eq(output));
    Ok(on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)? == 1)
}

/// Deletes a hook if its version is still `version`. Returns whether it was deleted.
pub async fn delete(
    conn: &mut Conn,
    place: &SandboxRef,
    id: BootHookId,
    version: i64,
) -> Result<bool, Error> {
    let row = t::table.filter(by_key(place, id)).filter(t::version.eq(version));
    Ok(on_conn!(conn, |c| diesel::delete(row).execute(c).await)? == 1)
}

/// Returns the number of hooks of a sandbox.
pub async fn count_of_sandbox(
    conn: &mut Conn,
    gateway: &str,
    workspace: &str,
    sandbox: &str,
) -> Result<usize, Error> {
    let of = t::gateway_name.eq(gateway).and(t::workspace.eq(workspace));
    let of = of.and(t::sandbox_name.eq(sandbox));
    let count: i64 = on_conn!(conn, |c| t::table.filter(of).count().get_result(c).await)?;
    Ok(usize::try_from(count).unwrap_or_default())
}

/// Deletes the hooks of a deleted sandbox, in the transaction that records the deletion. If `written_by` is given,
/// deletes only hooks created at or before that time. Returns the number of deleted hooks.
pub async fn delete_of_sandbox(
    conn: &mut Conn,
    gateway: &str,
    sandbox: &SandboxName,
    written_by: Option<Timestamp>,
) -> Result<usize, Error> {
    let of = t::gateway_name.eq(gateway).and(t::workspace.eq(&sandbox.workspace));
    let of = of.and(t::sandbox_name.eq(&sandbox.name));
    Ok(match written_by {
        None => on_conn!(conn, |c| diesel::delete(t::table.filter(of)).execute(c).await)?,
        Some(by) => {
            let old = t::table.filter(of.and(t::created_at.le(by)));
            on_conn!(conn, |c| diesel::delete(old).execute(c).await)?
        }
    })
}
