//! Creates operations.
//!
//! Invariants
//! - the row and its `created` event are committed before the work begins;
//! - once the row is stored, the operation owns the open audit entry of the call and closes it when it ends;
//! - an exclusive operation is keyed by gateway, workspace and sandbox name; every other operation has a key of its
//!   own.

use std::future::Future;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tracing::{Instrument, info_span};

use super::leases::LEASE_TTL;
use super::right;
use super::run::RunningOperation;
use super::state::Status;
use super::store::{self, NewOperationRow, Operation};
use super::{Failure, INPUT_BYTES_MAX, NewOperation, OperationKind};
use crate::app::App;
use crate::ctx::{Ctx, GatewayRef, Tx};
use crate::db::turns::inherit_caller;
use crate::db::types::{GatewayId, workspace_or_default};
use crate::error::{Error, Reason};
use crate::outbox::{EventType, event_types};
use crate::resources::operations::leases::LocalOperations;
use crate::seal::hex;
use crate::upstream::errors::sanitize;

/// Longest key, in characters.
const KEY_CHARS_MAX: usize = 253;
/// Attempts to insert an operation while active operations with the same key keep ending in between.
const INSERT_TRIES_MAX: u32 = 3;
/// Longest stored name of an actor, in characters.
const ACTOR_CHARS_MAX: usize = 254;

/// Creates an operation and runs `work` to its end in a task of this replica. The operation takes over the open audit
/// entry of the call.
///
/// # Errors
/// `OPERATION_RUNNING` if the operation is exclusive and another one of its kind is active for its sandbox; `BUSY` if
/// too many operations run in this process; `DRAINING` if the process is shutting down.
pub async fn start<F, Fut>(ctx: &Ctx, new: NewOperation<'_>, work: F) -> Result<Operation, Error>
where
    F: FnOnce(RunningOperation) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Value, Failure>> + Send,
{
    let (running, row) = insert_and_lease(ctx, new, Status::Pending).await?;
    let span = info_span!("operation", id = %row.id, kind = %row.kind);
    let work_of = running.clone();
    // In a box, since each function that the task is passed through would copy the large future.
    let work = async move { Box::pin(work(work_of)).await };
    let task = async move { running.run_to_end(work).await };
    ctx.app().spawn(inherit_caller(task).instrument(span));
    Ok(row)
}

/// Creates an operation whose work the caller does itself and ends with [`RunningOperation::finish`].
///
/// # Errors
/// As [`start`].
pub async fn begin(ctx: &Ctx, new: NewOperation<'_>) -> Result<RunningOperation, Error> {
    Ok(insert_and_lease(ctx, new, Status::Running).await?.0)
}

/// Checks that the server's own work can start another operation for a gateway in this process. A start at the same
/// time can still be faster.
///
/// # Errors
/// `BUSY` if too many operations run.
pub fn check_room(app: &App, gateway: GatewayId) -> Result<(), Error> {
    app.part::<LocalOperations>().reserve_slot(slot_owner(None, gateway)).map(drop)
}

async fn insert_and_lease(
    ctx: &Ctx,
    new: NewOperation<'_>,
    status: Status,
) -> Result<(RunningOperation, Operation), Error> {
    let app = ctx.app();
    if app.stop.is_cancelled() {
        return Err(Error::unavailable(Reason::Draining, "the server is stopping"));
    }
    if new.input.as_ref().is_some_and(|input| input.len() > INPUT_BYTES_MAX) {
        return Err(Error::internal("the input of an operation is too long"));
    }
    let gateway = ctx.required_gateway()?;
    let slot = slot_owner(ctx.principal().map(|principal| principal.to_string()), gateway.id);
    let slot = app.part::<LocalOperations>().reserve_slot(slot)?;
    let id = app.new_id().to_string();
    let key = key(&gateway.name, &new, &id);
    let began = ctx.work_credential();
    let to_seal = |input: &Vec<u8>| right::seal(app, &id, began.as_ref(), input);
    let sealed = new.input.as_ref().map(to_seal).transpose()?;
    let mut tries = 1;
    let (row, written) = loop {
        let written = app.clock.since_boot();
        match insert(ctx, &new, &id, &key, status, sealed.as_deref()).await {
            Ok(row) => break (row, written),
            Err(Error::AlreadyExists { .. }) => {
                let running = find_running(app, new.kind, &key).await?;
                if running.is_some() || tries >= INSERT_TRIES_MAX {
                    return Err(already_running(&new, running.as_deref()));
                }
            }
            Err(error) => return Err(error),
        }
        tries += 1;
    };
    let resumable = new.kind.is_resumable();
    Ok((RunningOperation::new(ctx.clone(), &row, written, slot, began, resumable), row))
}

/// Returns the caller whose share of this process an operation uses. The server's own work has a share per gateway, so
/// that a gateway that does not respond leaves room for the others.
pub(super) fn slot_owner(principal: Option<String>, gateway: GatewayId) -> String {
    principal.unwrap_or_else(|| format!("gateway:{gateway}"))
}

async fn insert(
    ctx: &Ctx,
    new: &NewOperation<'_>,
    id: &str,
    key: &str,
    status: Status,
    input: Option<&[u8]>,
) -> Result<Operation, Error> {
    let GatewayRef { id: gateway_id, name: gateway_name } = ctx.required_gateway()?;
    let (now, actor) = (ctx.now(), sanitize(&ctx.actor(), ACTOR_CHARS_MAX));
    let principal = ctx.principal().map(|principal| principal.to_string());
    let (request_id, idempotency_key) = (ctx.request_id().to_string(), ctx.idempotency_key());
    ctx.transaction(async |tx| {
        let row = NewOperationRow {
            id,
            status,
            resource_type: new.kind,
            resource_key: key,
            idempotency_key: idempotency_key.as_deref(),
            actor: &actor,
            gateway_name,
            created_at: now,
            updated_at: now,
            workspace: workspace_or_default(new.workspace),
            sandbox_name: new.sandbox,
            principal: principal.as_deref(),
            actor_role: ctx.role().as_str(),
            gateway_id: *gateway_id,
            request_id: &request_id,
            owner: &ctx.app().replica,
            lease_expires_at: ctx.db().now(tx).await?.plus(LEASE_TTL),
            input,
            keeps_output: new.keeps_output,
        };
        let stored = store::insert(tx, &row).await?;
        emit_event(tx, ctx, event_types::OPERATION_CREATED, &stored).await?;
        Ok(stored)
    })
    .await
}

/// Emits the event of a change of an operation. It never contains output of its work.
pub(super) async fn emit_event(
    tx: &mut Tx<'_>,
    ctx: &Ctx,
    event_type: EventType,
    row: &Operation,
) -> Result<(), Error> {
    let mut payload = json!({
        "operation": row.id,
        "type": row.kind.as_str(),
        "gateway": row.gateway_name,
        "workspace": row.workspace,
        "sandbox": row.sandbox,
        "actor": row.actor,
    });
    if let Some(code) = row.error_code {
        payload["error_code"] = code.as_str().into();
    }
    tx.emit(ctx.new_event(event_type, payload).with_gateway(row.gateway_ref())).await
}

async fn find_running(app: &App, kind: OperationKind, key: &str) -> Result<Option<String>, Error> {
    store::find_active(&mut app.db.read().await?, kind, key).await
}

fn already_running(new: &NewOperation<'_>, running: Option<&str>) -> Error {
    let named = running.map_or_else(String::new, |id| format!(" `{id}`"));
    let why = format!("operation{named} on sandbox `{}` is running", new.sandbox);
    Error::refused(Reason::OperationRunning, why)
}

/// Returns the key that is unique among the active operations of a kind: the given one; gateway, workspace and sandbox
/// name if the operation is exclusive; otherwise gateway and the operation's own id.
fn key(gateway: &str, new: &NewOperation<'_>, id: &str) -> String {
    if let Some(key) = new.key {
        return key.to_owned();
    }
    let exclusive = new.exclusive && !new.sandbox.is_empty();
    let key = if exclusive {
        format!("{gateway}/{}/{}", workspace_or_default(new.workspace), new.sandbox)
    } else {
        format!("{gateway}/{id}")
    };
    if key.chars().count() <= KEY_CHARS_MAX {
        return key;
    }
    // Long names with a common prefix differ in the digest of the whole key.
    let digest = hex(&Sha256::digest(key.as_bytes()));
    let kept: String = key.chars().take(KEY_CHARS_MAX - digest.len() - 1).collect();
    format!("{kept}~{digest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new<'a>(workspace: &'a str, sandbox: &'a str, exclusive: bool) -> NewOperation<'a> {
        let kind = OperationKind::Sandbox;
        NewOperation {
            kind,
            workspace,
            sandbox,
            exclusive,
            key: None,
            keeps_output: false,
            input: None,
        }
    }

    #[test]
    fn a_key_holds_gateway_workspace_and_name_or_the_operation_id() {
        for (new, expected) in [
            (new("", "box", true), "edge/default/box"),
            (new("default", "box", true), "edge/default/box"),
            (new("team", "box", true), "edge/team/box"),
            (new("team", "", true), "edge/the-id"),
            (new("team", "box", false), "edge/the-id"),
        ] {
            assert_eq!(key("edge", &new, "the-id"), expected);
        }
        let given = NewOperation { key: Some("round/7"), ..new("team", "box", true) };
        assert_eq!(key("edge", &given, "the-id"), "round/7");
    }

    #[test]
    fn a_key_has_limited_length_and_names_with_a_common_prefix_stay_distinct() {
        let long = "g".repeat(253);
        let keys: Vec<String> =
            ["a", "b"].iter().map(|name| key(&long, &new("", name, true), "id")).collect();
        assert_ne!(keys[0], keys[1]);
        assert!(keys.iter().all(|key| key.len() == KEY_CHARS_MAX), "{keys:?}");
        let at_the_limit = "g".repeat(KEY_CHARS_MAX - "/default/a".len());
        let kept = key(&at_the_limit, &new("", "a", true), "id");
        assert_eq!(kept, format!("{at_the_limit}/default/a"));
        assert!(key(&format!("{at_the_limit}g"), &new("", "a", true), "id").contains('~'));
        let wide = key(&"\u{e4}".repeat(253), &new("", "a", true), "id");
        assert_eq!(wide.chars().count(), KEY_CHARS_MAX);
    }
}
