//! Followers: each gateway has one task, on one replica, that asks what agents have proposed, whether the policies of
//! pinned sandboxes have changed, and whether the gateway approves by itself or has a policy for all sandboxes.
//!
//! `pass` asks about all sandboxes of a gateway once, `drafts` about one, `pins` and `mode` about rules, and
//! `gateway_policy` about what prevents writes. `rejected` sends rejections. `state` reports which sandboxes there are
//! and in which phase, `logs` what their logs show. `pace` limits the calls, and `settled` avoids reads.
//!
//! Invariants
//! - a transaction of a follower proves its lease `follow/<gateway id>`;
//! - what one sandbox proposes, however much, costs other sandboxes of the gateway a bounded time only, and other
//!   gateways nothing;
//! - a pass over a gateway on which nothing has changed reads the database once, and writes nothing;
//! - a round ends because its chunk is missing only if it was open before the gateway was asked;
//! - nothing that a gateway does not report is concluded from a failed call.

mod drafts;
mod gateway_policy;
mod log_ends;
mod log_lines;
mod log_memory;
mod logs;
pub mod memory;
mod mode;
mod notes;
pub mod pace;
mod pass;
mod pins;
mod rejected;
mod settled;
mod state;
pub mod store;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tracing::{debug, warn};

use self::memory::Memory;
use self::pace::Pace;
use self::pass::Pass;
use crate::app::App;
use crate::ctx::Ctx;
use crate::db::leases::{self, Lease};
use crate::db::types::{GatewayId, GatewayRef};
use crate::error::Error;
use crate::workers::keyed::{Keyed, KeyedTask};

/// Kind of the leases, and the actor of what a follower stores.
const KIND: &str = "follow";
/// Time after which a pass ends, besides two of its intervals, even if it waits for a database that does not answer.
/// What is left is done by the next pass. A pass over thousands of sandboxes takes as long as its interval.
const PASS_TIME_MAX: Duration = Duration::from_mins(10);
/// How long the lease of a single pass is valid.
const SINGLE_PASS_TTL: Duration = Duration::from_mins(1);

/// The followers.
pub const FOLLOWERS: Keyed = Keyed {
    kind: KIND,
    look_every: Duration::from_secs(1),
    wake: None,
    keys: |ctx| Box::pin(async move { Ok(gateways(ctx.app())) }),
    run: |task| Box::pin(follow(task)),
    end_within: Duration::ZERO,
};

/// Returns the ids of the registered gateways.
fn gateways(app: &App) -> BTreeSet<String> {
    app.fleet.targets.all().iter().map(|target| target.gateway().id.get().to_string()).collect()
}

fn gateway_of(app: &App, key: &str) -> Option<GatewayRef> {
    let id = GatewayId(key.parse().ok()?);
    app.fleet.targets.get(id).map(|target| target.gateway())
}

/// Follows a gateway until the task is canceled. The first pass comes after one interval, and passes do not overlap.
async fn follow(task: KeyedTask) {
    let KeyedTask { ctx, key, lease, .. } = task;
    let app = Arc::clone(ctx.app());
    let interval = app.config.policies.follow_interval();
    let mut memory = Memory::new(&app.config.gateways);
    loop {
        // Of real time: a test that advances the clock starts no pass.
        tokio::time::sleep(interval.mul_f64(jitter(&app))).await;
        let Some(gateway) = gateway_of(&app, &key) else { continue };
        let name = Arc::clone(&gateway.name);
        if let Err(error) = pass(&ctx, &lease, gateway, &mut memory).await {
            debug!(gateway = &*name, error = &error as &dyn std::error::Error, "not followed");
        }
    }
}

/// Returns a factor of 0.9 to 1.1, so that followers do not stay synchronized.
fn jitter(app: &App) -> f64 {
    0.9 + f64::from(app.new_id().as_bytes()[0]) / f64::from(u8::MAX) * 0.2
}

fn pass<'a>(
    ctx: &'a Ctx,
    lease: &'a Lease,
    gateway: GatewayRef,
    memory: &'a mut Memory,
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(async move {
        let interval = ctx.app().config.policies.follow_interval();
        let time_max = memory.pass_time_max.unwrap_or(PASS_TIME_MAX + interval * 2);
        let ctx = ctx.clone().with_gateway(gateway.clone());
        let name = Arc::clone(&gateway.name);
        let run = async { Pass::begin(&ctx, lease, gateway, memory, time_max).await?.run().await };
        // Of real time, as the interval. A transaction that is dropped is rolled back.
        tokio::time::timeout(time_max, run).await.unwrap_or_else(|_| {
            let seconds = time_max.as_secs();
            warn!(gateway = &*name, seconds, "a pass took too long: the next one continues");
            let why = format!("the pass over gateway `{name}` has not ended in {seconds} seconds");
            Err(Error::DeadlineExceeded { why })
        })
    })
}

/// Follows a gateway for one pass, under its lease and without pauses between calls. Returns false if another replica
/// holds the lease. For tests.
///
/// # Errors
/// Those of the gateway and of the database.
pub async fn follow_once(
    app: &Arc<App>,
    gateway: GatewayRef,
    memory: &mut Memory,
) -> Result<bool, Error> {
    let name = format!("{KIND}/{}", gateway.id.get());
    let lease = leases::acquire(&app.db, &name, &app.replica, SINGLE_PASS_TTL).await?;
    let Some(lease) = lease else { return Ok(false) };
    memory.logs_every = Duration::ZERO;
    memory.pace = Pace::unlimited();
    let ctx = Ctx::system(app, KIND);
    let done = pass(&ctx, &lease, gateway, memory).await;
    // Fails if another replica has taken the lease, which is harmless.
    let _ = leases::release(&app.db, lease).await;
    done.map(|()| true)
}
