//! Takes over operations whose replica has crashed or stopped: this replica resumes or ends them.
//!
//! Invariants
//! - an operation is taken over only after its lease has expired by the database's clock, so that a starting process
//!   does not end operations that other replicas run;
//! - if several replicas find the same operation, the fence lets only one take it over;
//! - the right of its caller is checked again: if it was lost meanwhile, the work is undone.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tracing::{Instrument, info, info_span, warn};
use uuid::Uuid;

use super::begin::slot_owner;
use super::finish::{self, FinalState};
use super::leases::{LEASE_TTL, store as leases};
use super::right;
use super::run::RunningOperation;
use super::state::Status;
use super::store::{self, Operation};
use super::{Failure, FailureCode, OperationKind};
use crate::access::policy::AuditSubject;
use crate::app::App;
use crate::audit::{Ending, Intent, Outcome};
use crate::ctx::{Ctx, Takeover};
use crate::error::Error;
use crate::resources::operations::leases::LocalOperations;
use crate::role::Role;
use crate::workers::{Tick, TickResult, Worker};

/// Most operations per tick.
const TAKEOVERS_MAX: usize = 50;

/// Resumes interrupted work from its last step (second argument) with its input (third argument). If the operation was
/// canceled, the token is canceled from the start, and the work undoes what it has done.
pub type Resume =
    fn(RunningOperation, String, Vec<u8>) -> BoxFuture<'static, Result<Value, Failure>>;

/// Worker that takes over operations without a live replica. It runs on every replica, and the first one to find an
/// operation gets it. `tick` calls [`take_over`] with the resume function of each kind.
#[must_use]
pub const fn worker(tick: Tick) -> Worker {
    Worker {
        name: "operation-takeover",
        interval: |_| std::time::Duration::from_secs(5),
        lease: false,
        wake: None,
        tick,
    }
}

/// Runs one pass. `resume_of` returns the resume function of a kind, if it has one.
pub async fn take_over(
    ctx: &Ctx,
    resume_of: fn(OperationKind) -> Option<Resume>,
) -> Result<TickResult, Error> {
    let (app, db) = (ctx.app(), ctx.db());
    let found = {
        let mut conn = db.read().await?;
        let now = db.now(&mut conn).await?;
        leases::expired(&mut conn, now, i64::try_from(TAKEOVERS_MAX).unwrap_or(i64::MAX)).await?
    };
    let (count, mut done) = (found.len(), 0);
    // Operations that run in this process stay here: their leases are renewed as soon as the database responds again.
    for row in found.into_iter().filter(|row| !app.part::<LocalOperations>().contains(&row.id)) {
        let taken = match resume_of(row.kind) {
            Some(resume) => take_over_and_resume(app, &row, resume).await?,
            None => take_over_and_end(ctx, &row, "its replica stopped").await?,
        };
        done += usize::from(taken);
    }
    Ok(TickResult { done, more: done > 0 && count == TAKEOVERS_MAX })
}

/// Takes over the operation and resumes its work. Returns whether this replica got it.
async fn take_over_and_resume(
    app: &Arc<App>,
    found: &Operation,
    resume: Resume,
) -> Result<bool, Error> {
    let slot = slot_owner(found.principal.clone(), found.gateway_id);
    let Ok(slot) = app.part::<LocalOperations>().reserve_slot(slot) else {
        // Another replica may have capacity, or this one at its next pass.
        return Ok(false);
    };
    let written = app.clock.since_boot();
    let db = &app.db;
    let taken = db
        .transaction(async |conn| {
            let now = db.now(conn).await?;
            let until = now.plus(LEASE_TTL);
            let taken = leases::take_over(conn, found, &app.replica, now, until).await?;
            let input = store::input(conn, &found.id).await?;
            Ok(taken.map(|row| (row, input)))
        })
        .await?;
    let Some((row, sealed)) = taken else { return Ok(false) };
    info!(operation = row.id, kind = %row.kind, step = row.step, "taken over");
    let ctx = Ctx::from_takeover(app, taken_over_call(&row)).await?;
    let opened = match &sealed {
        None => Ok((right::from_row(&row), Vec::new())),
        Some(sealed) => right::open(app, &row, sealed),
    };
    let began = opened.as_ref().map_or_else(|_| right::from_row(&row), |(began, _)| *began);
    let running = RunningOperation::new(ctx, &row, written, slot, began, true);
    let span = info_span!("operation", id = %row.id, kind = %row.kind);
    match opened {
        Ok((_, input)) => {
            let work = resume(running.clone(), row.step, input);
            app.spawn(running.resume_to_end(work).instrument(span));
        }
        Err(error) => running.finish(Err(error.into())).await?,
    }
    Ok(true)
}

fn audit_about(row: &Operation) -> AuditSubject {
    let target = row.sandbox_name().to_string();
    AuditSubject::new(row.kind.action(), target)
}

fn taken_over_call(row: &Operation) -> Takeover {
    Takeover {
        actor: row.actor.as_str().into(),
        principal: row.principal_id(),
        // A role that this build does not know counts as `Role::None`.
        role: row.actor_role.parse().unwrap_or(Role::None),
        gateway: row.gateway_ref(),
        request_id: Uuid::parse_str(&row.request_id).unwrap_or_default(),
        about: audit_about(row),
        detail: json!({ "operation": row.id, "taken_over": true }),
    }
}

/// Takes over an operation that no replica can resume, and ends it. Returns whether this replica got it.
async fn take_over_and_end(ctx: &Ctx, row: &Operation, why: &str) -> Result<bool, Error> {
    let failure = match row.status {
        Status::Cancelling => Failure::cancelled(),
        Status::Pending | Status::Running | Status::Succeeded | Status::Failed => {
            Failure::new(FailureCode::Orphaned, why)
        }
    };
    let ended = FinalState::Failed(failure.clone(), None);
    let app = ctx.app();
    let ended = ctx
        .transaction(async |tx| {
            let now = ctx.db().now(tx).await?;
            // Its replica may have renewed the lease since the operation was found.
            let taken = leases::take_over(tx, row, &app.replica, now, now.plus(LEASE_TTL)).await?;
            let Some(taken) = taken else { return Ok(None) };
            finish::store_end_in(tx, ctx, &taken.id, taken.fence, &ended).await
        })
        .await?;
    let Some(ended) = ended else { return Ok(false) };
    finish::wake(ctx, &ended);
    warn!(operation = row.id, kind = %row.kind, code = %failure.code, "ended for a stopped replica");
    finish::record_metrics(&ended, ctx.now().since(row.created_at));
    record_audit(ctx, row, &failure).await?;
    Ok(true)
}

/// Writes a closed audit entry of the system. The caller's own entry is closed as `unknown`, since the outcome was not
/// known there.
async fn record_audit(ctx: &Ctx, row: &Operation, failure: &Failure) -> Result<(), Error> {
    let intent = Intent {
        gateway: Some(row.gateway_ref().into()),
        request_id: Uuid::parse_str(&row.request_id).unwrap_or_default(),
        detail: Some(json!({ "operation": row.id, "begun_by": row.actor })),
        ..ctx.new_intent(audit_about(row))
    };
    let outcome = Outcome {
        took: intent.at.since(row.created_at),
        detail: Some(json!({ "error_code": failure.code.as_str(), "error": failure.message })),
        ..Outcome::new(intent.at, Ending::Failed, failure.code.grpc())
    };
    ctx.app().audit.record(intent, outcome).await
}
