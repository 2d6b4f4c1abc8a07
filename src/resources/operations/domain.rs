//! Operations as callers see them: get, list, wait and cancel.
//!
//! The caller that began an operation can always see it: it is recognized by its principal id, which never changes.
//! Other callers need the role `operator` on the gateway. The output of a command is shown to the caller that ran it,
//! if it still has any role on the gateway, and to the gateway's admins. A caller that loses its role loses access to
//! the output, but not to its own operation.

use std::collections::HashSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::OperationKind;
use super::begin::emit_event;
use super::feed::Waiter;
use super::run::aad;
use super::sight::AccessWatch;
use super::state::Status;
use super::store::{self, Operation, OperationQuery};
use crate::clock::Timestamp;
use crate::ctx::{Ctx, FleetCtx, ListKey, PendingCtx};
use crate::db::Conn;
use crate::db::page::PageSize;
use crate::error::{Error, Reason, ResourceKind};
use crate::outbox::event_types;
use crate::resources::operations::leases::{self, LocalOperations};
use crate::role::Role;

/// Longest time that a call may wait for an operation.
pub const WAIT_MAX: Duration = Duration::from_mins(1);
/// Wait if the request has no timeout: less than the 30 seconds that many clients allow for a call.
pub const WAIT_DEFAULT: Duration = Duration::from_secs(25);
/// Shortest time that a call may wait for an operation.
pub const WAIT_MIN: Duration = Duration::from_secs(1);
/// Length of a UUID in its hyphenated form.
const ID_CHARS: usize = 36;

/// An operation as a caller sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationView {
    /// The operation.
    pub operation: Operation,
    /// Its result. `None` if it does not exist or the caller may not see it.
    pub result: Option<Value>,
    /// Whether it has a result that the caller may not see.
    pub withheld: bool,
}

/// How the caller is related to an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CallerAccess {
    /// Whether the operation is the caller's own.
    pub(super) own: bool,
    /// The caller's role on its gateway.
    role: Role,
}

impl CallerAccess {
    /// Returns whether the caller can still see the operation.
    fn can_see(self) -> bool {
        self.own || self.role >= Role::Operator
    }

    /// Returns whether the caller can see a result. `keeps_output` says whether it is the output of a command.
    fn can_see_result(self, keeps_output: bool) -> bool {
        if !keeps_output {
            return self.can_see();
        }
        self.role == Role::Admin || (self.own && self.role > Role::None)
    }

    pub(super) fn new(ctx: &Ctx, row: &Operation) -> Self {
        let own = row.principal_id().is_some_and(|owner| ctx.principal() == Some(owner));
        Self { own, role: ctx.current_role() }
    }
}

/// Parses an operation id and returns it in its stored form: hyphenated and in lower case.
pub fn parse_id(field: &str, text: &str) -> Result<String, Error> {
    let bad = || Error::invalid(field, "must be a UUID");
    let parsed = uuid::Uuid::try_parse(text).map_err(|_| bad())?;
    if text.len() != ID_CHARS {
        return Err(bad());
    }
    Ok(parsed.to_string())
}

/// Checks the timeout of a wait. `None` selects [`WAIT_DEFAULT`].
pub fn check_timeout(field: &str, given: Option<Duration>) -> Result<Duration, Error> {
    let given = given.unwrap_or(WAIT_DEFAULT);
    if !(WAIT_MIN..=WAIT_MAX).contains(&given) {
        let why = format!("must be {} to {} seconds", WAIT_MIN.as_secs(), WAIT_MAX.as_secs());
        return Err(Error::invalid(field, why));
    }
    Ok(given)
}

pub(super) fn missing_error(id: &str) -> Error {
    Error::not_found(ResourceKind::Operation, id)
}

/// Loads an operation and authorizes the caller in one step, so that no operation is used unchecked.
pub(super) async fn load(pending: &PendingCtx, id: &str) -> Result<(Ctx, Operation), Error> {
    let mut conn = pending.app().db.read().await?;
    let row = store::by_id(&mut conn, id).await?.ok_or_else(|| missing_error(id))?;
    drop(conn);
    match pending.authorize_for_owner(row.principal_id(), row.gateway_ref(), Role::Operator).await {
        Ok(ctx) => Ok((ctx, row)),
        // An operation that the caller may not see is reported as missing.
        Err(Error::NotFound { .. } | Error::Denied { .. }) => Err(missing_error(id)),
        Err(error) => Err(error),
    }
}

/// Returns the operation as its caller may see it now.
pub(super) async fn to_view(ctx: &Ctx, row: Operation) -> Result<OperationView, Error> {
    let access = CallerAccess::new(ctx, &row);
    if !access.can_see() {
        return Err(missing_error(&row.id));
    }
    if !(row.status.is_terminal() && access.can_see_result(row.keeps_output)) {
        // A failed command stores no output, so only a successful one has something to withhold.
        let withheld = row.status == Status::Succeeded;
        return Ok(OperationView { operation: row, result: None, withheld });
    }
    let sealed = store::result(&mut ctx.db().read().await?, &row.id).await?;
    let result = sealed.map(|sealed| {
        let kept = ctx.app().master.open(&aad("result_json", &row.id), &sealed)?;
        serde_json::from_slice(&kept).map_err(Error::internal)
    });
    let mut result = result.transpose()?;
    if let Some(result) = result.as_mut().filter(|_| !access.can_see_result(true)) {
        // Every caller that can see the operation can see the outcome of its hooks, but not their output.
        super::result::withhold(result);
    }
    Ok(OperationView { operation: row, result, withheld: false })
}

/// Returns an operation by its id.
pub async fn get(pending: &PendingCtx, id: &str) -> Result<OperationView, Error> {
    let (ctx, row) = load(pending, id).await?;
    to_view(&ctx, row).await
}

/// Filter of a list of operations. `None` matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Filter {
    /// Only operations on this gateway.
    pub gateway: Option<String>,
    /// Only operations in this state.
    #[serde(serialize_with = "serialize_status")]
    pub status: Option<Status>,
    /// Only operations of this kind.
    #[serde(serialize_with = "serialize_kind")]
    pub kind: Option<OperationKind>,
    /// Only operations of the caller.
    pub mine_only: bool,
}

#[expect(
    clippy::ref_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde asks for"
)]
fn serialize_status<S: serde::Serializer>(
    status: &Option<Status>,
    out: S,
) -> Result<S::Ok, S::Error> {
    status.map(Status::as_str).serialize(out)
}

#[expect(
    clippy::ref_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde asks for"
)]
fn serialize_kind<S: serde::Serializer>(
    kind: &Option<OperationKind>,
    out: S,
) -> Result<S::Ok, S::Error> {
    kind.map(OperationKind::as_str).serialize(out)
}

/// Position of a page token.
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    at_us: i64,
    id: String,
}

/// Returns a page of operations without their results, newest first: the caller's own operations and those on gateways
/// on which it is operator. Only global admins see other callers' operations on removed gateways.
pub async fn list(
    ctx: &FleetCtx,
    filter: &Filter,
    size: PageSize,
    token: &str,
) -> Result<(Vec<OperationView>, String), Error> {
    let principal = ctx.principal_text();
    let asked = serde_json::to_vec(filter).map_err(Error::internal)?;
    let list = ListKey { method: "ListOperations", filter: &asked, order: "created_at desc" };
    let page = ctx.page_request::<Position>(list, size, token)?;
    let after = page.after();
    let after = after.map(|p| (Timestamp::from_unix_micros(p.at_us), p.id.as_str()));
    let visible = ctx.gateways_with_role(Role::Operator);
    let wanted = OperationQuery {
        visible: &visible,
        own: ctx.principal().is_some().then_some(&principal),
        removed_gateways: ctx.is_global_admin(),
        own_only: filter.mine_only,
        gateway: filter.gateway.as_deref(),
        status: filter.status,
        kind: filter.kind,
    };
    let mut conn = ctx.db().read().await?;
    let rows = store::page(&mut conn, &wanted, after, page.limit()).await?;
    let (page, next) = page.finish(rows, |last| Position {
        at_us: last.created_at.unix_micros(),
        id: last.id.clone(),
    })?;
    let page = page.into_iter();
    let page = page.map(|operation| OperationView { operation, result: None, withheld: false });
    Ok((page.collect(), next))
}

/// Waits until an operation has ended or the timeout has passed, and returns its current state.
pub async fn wait(
    pending: &PendingCtx,
    id: &str,
    timeout: Duration,
) -> Result<OperationView, Error> {
    let until = Instant::now() + timeout;
    let mut waiter = Waiter::new(pending.app(), id);
    let (ctx, mut row) = load(pending, id).await?;
    let access = AccessWatch::register(&ctx, &row, CallerAccess::new(&ctx, &row).own);
    while !row.status.is_terminal() {
        let moved = tokio::select! {
            moved = tokio::time::timeout_at(until, waiter.changed()) => moved,
            refused = access.wait_lost(&ctx, id) => return Err(refused),
        };
        match moved {
            Err(_) => break,
            Ok(moved) => moved?,
        }
        waiter.mark_seen();
        row = reload(&ctx, id).await?;
    }
    let answer = to_view(&ctx, row).await?;
    // The credential may have been revoked while the call waited.
    AccessWatch::check(&ctx)?;
    Ok(answer)
}

pub(super) async fn reload(ctx: &Ctx, id: &str) -> Result<Operation, Error> {
    store::by_id(&mut ctx.db().read().await?, id).await?.ok_or_else(|| missing_error(id))
}

/// Requests the cancellation of an operation. Its work is stopped at once if it runs in this process, and within a
/// second on another replica.
///
/// # Errors
/// `OPERATION_ENDED` if it has already ended.
pub async fn cancel(pending: &PendingCtx, id: &str) -> Result<OperationView, Error> {
    let (ctx, row) = load(pending, id).await?;
    ctx.add_audit_detail("type", row.kind.as_str());
    ctx.add_audit_detail("sandbox", row.sandbox_name().to_string());
    let now = ctx.now();
    let asked = ctx
        .transaction(async |tx| {
            let asked = store::mark_cancelling(tx, id, row.gateway_id, now).await?;
            if let Some(row) = &asked {
                emit_event(tx, &ctx, event_types::OPERATION_CANCELLING, row).await?;
            }
            Ok(asked)
        })
        .await?;
    let Some(row) = asked else {
        let row = reload(&ctx, id).await?;
        if row.status.is_terminal() {
            let why = format!("operation `{id}` has ended: {}", row.status);
            return Err(Error::refused(Reason::OperationEnded, why));
        }
        // It was already being canceled.
        return to_view(&ctx, row).await;
    };
    ctx.app().part::<LocalOperations>().feed.notify(id, row.version);
    ctx.app().part::<LocalOperations>().cancel(id);
    to_view(&ctx, row).await
}

/// Returns the id of the active operation of a kind with a key.
///
/// # Errors
/// Those of the database.
pub async fn find_active(
    conn: &mut Conn,
    kind: OperationKind,
    key: &str,
) -> Result<Option<String>, Error> {
    store::find_active(conn, kind, key).await
}

/// Returns those of the given keys that an active operation of a kind has.
///
/// # Errors
/// Those of the database.
pub async fn active_keys(
    conn: &mut Conn,
    kind: OperationKind,
    keys: &[String],
) -> Result<HashSet<String>, Error> {
    Ok(leases::store::active_keys(conn, kind, keys).await?.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_and_ownership_decide_who_sees_an_operation_and_its_output() {
        use Role::{Admin, None, Operator, Viewer};
        for (own, role, sees, sees_output) in [
            (true, None, true, false),
            (true, Viewer, true, true),
            (true, Operator, true, true),
            (true, Admin, true, true),
            (false, None, false, false),
            (false, Viewer, false, false),
            (false, Operator, true, false),
            (false, Admin, true, true),
        ] {
            let access = CallerAccess { own, role };
            assert_eq!(
                (access.can_see(), access.can_see_result(true)),
                (sees, sees_output),
                "{access:?}"
            );
            assert_eq!(access.can_see_result(false), sees, "{access:?}");
        }
    }

    #[test]
    fn an_operation_id_is_a_hyphenated_uuid() {
        let plain = "8c5b0f6e-7d1d-4f0c-9c57-3d9a6f2f1a01";
        assert_eq!(parse_id("operation", plain).unwrap(), plain);
        assert_eq!(parse_id("operation", &plain.to_uppercase()).unwrap(), plain);
        for bad in ["", "1", "8c5b0f6e7d1d4f0c9c573d9a6f2f1a01", &format!("{{{plain}}}"), "a\0"] {
            assert!(parse_id("operation", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_wait_timeout_has_a_valid_range() {
        assert_eq!(check_timeout("timeout", None).unwrap(), WAIT_DEFAULT);
        for good in [WAIT_MIN, WAIT_MAX] {
            assert_eq!(check_timeout("timeout", Some(good)).unwrap(), good);
        }
        let tick = Duration::from_nanos(1);
        for bad in [Duration::ZERO, WAIT_MIN.saturating_sub(tick), WAIT_MAX + tick] {
            assert!(check_timeout("timeout", Some(bad)).is_err(), "{bad:?}");
        }
    }
}
