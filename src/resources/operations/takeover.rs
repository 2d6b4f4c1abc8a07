//! Operations whose replica is gone: this one goes on with them, or ends them.
//!
//! Invariants
//! - nothing is touched whose lease has not expired on the database's clock, so that a start-up fails nothing that another
//!   replica works on;
//! - of several replicas that find the same one, the fence lets one have it;
//! - the right of its caller is checked again: if it was lost meanwhile, the work is undone.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tracing::{Instrument, info, info_span, warn};
use uuid::Uuid;

use super::finish::{self, Ended};
use super::keeper::{LEASE_TTL, store as leases};
use super::right;
use super::run::Running;
use super::state::Status;
use super::store::{self, Operation};
use super::{Code, Failure, OperationKind};
use crate::access::policy::About;
use crate::app::App;
use crate::audit::{Ending, Intent, Outcome};
use crate::ctx::{Ctx, TakenOver};
use crate::error::Error;
use crate::resources::operations::keeper::Operations;
use crate::role::Role;
use crate::workers::{Tick, Worked, Worker};

/// Operations that one tick looks at.
const TAKE_MAX: usize = 50;

/// Goes on with work that was interrupted, from the step where it was, with the input that it was begun with. Where it
/// was cancelled its token is so from the start: it undoes what it must.
pub type Resume = fn(Running, String, Vec<u8>) -> BoxFuture<'static, Result<Value, Failure>>;

/// Takes over what no replica works on. Runs on each replica: the first that looks gets it. `tick` calls [`take_over`]
/// with what is known of each kind.
#[must_use]
pub const fn worker(tick: Tick) -> Worker {
    Worker {
        name: "operation-takeover",
        every: |_| std::time::Duration::from_secs(5),
        lease: false,
        wake: None,
        tick,
    }
}

/// One look, with a way to go on for each kind.
pub async fn take_over(
    ctx: &Ctx,
    resume_of: fn(OperationKind) -> Option<Resume>,
) -> Result<Worked, Error> {
    let (app, db) = (ctx.app(), ctx.db());
    let found = {
        let mut conn = db.read().await?;
        let now = db.now(&mut conn).await?;
        leases::expired(&mut conn, now, i64::try_from(TAKE_MAX).unwrap_or(i64::MAX)).await?
    };
    let (count, mut done) = (found.len(), 0);
    // What runs here is kept here: its lease is renewed as soon as the database answers again.
    for row in found.into_iter().filter(|row| !app.part::<Operations>().holds(&row.id)) {
        let taken = match resume_of(row.kind) {
            Some(resume) => go_on(app, &row, resume).await?,
            None => give_up(ctx, &row, "its replica is gone").await?,
        };
        done += usize::from(taken);
    }
    Ok(Worked { done, more: done > 0 && count == TAKE_MAX })
}

/// Makes the work this replica's, and goes on with it.
async fn go_on(app: &Arc<App>, found: &Operation, resume: Resume) -> Result<bool, Error> {
    let Ok(seat) = app.part::<Operations>().seat(found.principal.clone().unwrap_or_default())
    else {
        // Another replica may have room, or this one at its next look.
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
    let ctx = Ctx::taken_over(app, whose(&row)).await?;
    let opened = match &sealed {
        None => Ok((right::of_row(&row), Vec::new())),
        Some(sealed) => right::open(app, &row, sealed),
    };
    let began = opened.as_ref().map_or_else(|_| right::of_row(&row), |(began, _)| *began);
    let running = Running::of(ctx, &row, written, seat, began, true);
    let span = info_span!("operation", id = %row.id, kind = %row.kind);
    match opened {
        Ok((_, input)) => {
            let work = resume(running.clone(), row.step, input);
            app.spawn(running.onwards(work).instrument(span));
        }
        Err(error) => running.finish(Err(error.into())).await?,
    }
    Ok(true)
}

fn about(row: &Operation) -> About {
    let target = row.name().to_string();
    About::new(row.kind.action(), target)
}

fn whose(row: &Operation) -> TakenOver {
    TakenOver {
        actor: row.actor.as_str().into(),
        principal: row.owned_by(),
        // A word that this build does not know is no role.
        role: row.actor_role.parse().unwrap_or(Role::None),
        gateway: row.gateway(),
        request_id: Uuid::parse_str(&row.request_id).unwrap_or_default(),
        about: about(row),
        detail: json!({ "operation": row.id, "taken_over": true }),
    }
}

/// Ends what nobody can go on with.
async fn give_up(ctx: &Ctx, row: &Operation, why: &str) -> Result<bool, Error> {
    let failure = match row.status {
        Status::Cancelling => Failure::cancelled(),
        Status::Pending | Status::Running | Status::Succeeded | Status::Failed => {
            Failure::new(Code::Orphaned, why)
        }
    };
    let ended = Ended::Failed(failure.clone(), None);
    let app = ctx.app();
    let ended = ctx
        .transaction(async |tx| {
            let now = ctx.db().now(tx).await?;
            // Its replica may have come back since it was found.
            let taken = leases::take_over(tx, row, &app.replica, now, now.plus(LEASE_TTL)).await?;
            let Some(taken) = taken else { return Ok(None) };
            finish::write_in(tx, ctx, &taken.id, taken.fence, &ended).await
        })
        .await?;
    let Some(ended) = ended else { return Ok(false) };
    finish::wake(ctx, &ended);
    warn!(operation = row.id, kind = %row.kind, code = %failure.code, "ended for a replica that is gone");
    finish::counted(&ended, ctx.now().since(row.created_at));
    record(ctx, row, &failure).await?;
    Ok(true)
}

/// A closed entry by the system: that of the caller is closed as `unknown`, since its outcome was not known there.
async fn record(ctx: &Ctx, row: &Operation, failure: &Failure) -> Result<(), Error> {
    let intent = Intent {
        gateway: Some(row.gateway().into()),
        request_id: Uuid::parse_str(&row.request_id).unwrap_or_default(),
        detail: Some(json!({ "operation": row.id, "begun_by": row.actor })),
        ..ctx.intent(about(row))
    };
    let outcome = Outcome {
        took: intent.at.since(row.created_at),
        detail: Some(json!({ "error_code": failure.code.as_str(), "error": failure.message })),
        ..Outcome::new(intent.at, Ending::Failed, failure.code.grpc())
    };
    ctx.app().audit.record(intent, outcome).await
}
