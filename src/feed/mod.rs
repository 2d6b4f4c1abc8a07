//! Keeps the access snapshot up to date: a full load at startup, then increments from the change log. A replica that
//! has missed entries that were already deleted from the log does a full load again.

pub mod gateways;
pub mod store;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::warn;

use crate::access::snapshot::AccessUpdate;
use crate::app::App;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::types::GatewayId;
use crate::error::Error;
use crate::outbox::AccessSubject;
use crate::telemetry::metrics::SNAPSHOT_AGE;

/// How long a revoked session is remembered: longer than the lifetime of any token of the session.
pub const REMEMBERED: Duration = Duration::from_hours(25);
/// Maximum number of changes per read.
const BATCH: i64 = 1_000;

/// Loads the snapshot from the database, at startup.
pub async fn load(app: &App) -> Result<(), Error> {
    let read_at = app.clock.since_boot();
    let (revision, changes) = read_all(&mut app.db.read().await?, revocation_horizon(app)).await?;
    app.snapshot.replace(revision, changes, read_at);
    Ok(())
}

/// Reads all facts, with the sessions revoked since `ended_since`, and a revision that they include.
pub async fn read_all(
    conn: &mut Conn,
    ended_since: Timestamp,
) -> Result<(i64, Vec<AccessUpdate>), Error> {
    // Read first: changes that are committed during the other reads will be read again, which is harmless.
    let revision = store::last_revision(conn).await?;
    let mut changes = Vec::new();
    for (id, facts) in store::gateway_facts(conn).await? {
        changes.push(AccessUpdate::Gateway(id, Some(facts)));
    }
    for (id, facts) in store::group_facts(conn, None).await? {
        changes.push(AccessUpdate::Group(id, Some(facts)));
    }
    for (id, facts) in store::user_facts(conn, None, ended_since).await? {
        changes.push(AccessUpdate::User(id, Some(facts)));
    }
    for (id, facts) in store::service_principal_facts(conn, None).await? {
        changes.push(AccessUpdate::ServicePrincipal(id, Some(facts)));
    }
    Ok((revision, changes))
}

/// Reloads the snapshot and the targets of the proxy.
async fn reload(app: &App) -> Result<(), Error> {
    let read_at = app.clock.since_boot();
    let (revision, changes) = read_all(&mut app.db.read().await?, revocation_horizon(app)).await?;
    let there = changes.iter().filter_map(|change| match change {
        AccessUpdate::Gateway(id, _) => Some(*id),
        AccessUpdate::User(..) | AccessUpdate::ServicePrincipal(..) | AccessUpdate::Group(..) => {
            None
        }
    });
    let gone_or_there: HashSet<GatewayId> =
        there.chain(app.fleet.targets.all().iter().map(|target| target.id)).collect();
    let gateways: Vec<GatewayId> = gone_or_there.into_iter().collect();
    gateways::refresh_targets(app, &gateways).await?;
    app.snapshot.replace(revision, changes, read_at);
    app.live.recheck_all(&app.snapshot);
    Ok(())
}

/// The start of the period for revoked sessions: tokens of sessions revoked earlier have expired.
fn revocation_horizon(app: &App) -> Timestamp {
    app.clock.now().minus(REMEMBERED)
}

/// Whether changes were deleted from the log before they were read here. The log is truncated at its old end and never
/// emptied, so deleted changes appear as a gap before the oldest entry. A gap elsewhere comes from a transaction that
/// was rolled back.
async fn has_gap(
    conn: &mut Conn,
    after: i64,
    log: &[(i64, Option<AccessSubject>)],
) -> Result<bool, Error> {
    match log.first() {
        Some((first, _)) if *first > after + 1 => Ok(store::first_revision(conn).await? > after),
        Some(_) | None => Ok(false),
    }
}

/// Serializes updates of the snapshot.
#[derive(Debug, Default)]
pub struct FeedState {
    /// Number of the last update that was started.
    begun: AtomicU64,
    /// Number of the last update that was completed. Locked during an update.
    done: tokio::sync::Mutex<u64>,
}

impl FeedState {
    /// Blocks all updates while the result is held, for tests.
    pub async fn block_updates(&self) -> impl Sized {
        self.done.lock().await
    }
}

/// Applies all changes that have been committed. Called after a local write before its response, and continuously by
/// the follower. Updates run one at a time, so that an older read never overwrites a newer one; callers that wait share
/// the next update.
pub async fn refresh(app: &App) -> Result<(), Error> {
    let before = app.part::<FeedState>().begun.load(Ordering::SeqCst);
    let mut done = app.part::<FeedState>().done.lock().await;
    if *done > before {
        // That update started after the caller's commit, so it includes the change.
        return Ok(());
    }
    let number = app.part::<FeedState>().begun.fetch_add(1, Ordering::SeqCst) + 1;
    apply_changes(app).await?;
    *done = number;
    Ok(())
}

async fn apply_changes(app: &App) -> Result<(), Error> {
    loop {
        let read_at = app.clock.since_boot();
        let mut conn = app.db.read().await?;
        let after = app.snapshot.revision();
        let log = store::changes_after(&mut conn, after, BATCH).await?;
        if has_gap(&mut conn, after, &log).await? {
            drop(conn);
            warn!(
                after,
                "changes of access were forgotten before they were read: reading all of it"
            );
            reload(app).await?;
            continue;
        }
        let last = log.last().map_or(after, |(revision, _)| *revision);
        let full = i64::try_from(log.len()).is_ok_and(|n| n == BATCH);
        let mut subjects: Vec<AccessSubject> =
            log.into_iter().filter_map(|(_, subject)| subject).collect();
        let mut seen = HashSet::new();
        subjects.retain(|subject| seen.insert(*subject));
        let mut changes = read_facts(&mut conn, &subjects, revocation_horizon(app)).await?;
        drop(conn);
        let gateways: Vec<GatewayId> = subjects
            .iter()
            .filter_map(|subject| match subject {
                AccessSubject::Gateway(id) => Some(*id),
                AccessSubject::User(_)
                | AccessSubject::ServicePrincipal(_)
                | AccessSubject::Group(_) => None,
            })
            .collect();
        let refreshed = gateways::refresh_targets(app, &gateways).await?;
        changes.extend(refreshed.into_iter().map(|(id, facts)| AccessUpdate::Gateway(id, facts)));
        let moved = !changes.is_empty();
        app.snapshot.apply(last, changes, read_at);
        if moved {
            app.live.recheck_all(&app.snapshot);
        }
        if !full {
            return Ok(());
        }
    }
}

/// Reads the facts of all subjects except gateways.
async fn read_facts(
    conn: &mut Conn,
    subjects: &[AccessSubject],
    ended_since: Timestamp,
) -> Result<Vec<AccessUpdate>, Error> {
    let mut changes = Vec::with_capacity(subjects.len());
    for subject in subjects {
        changes.push(match subject {
            AccessSubject::User(id) => {
                let found = store::user_facts(conn, Some(id.get()), ended_since).await?.pop();
                AccessUpdate::User(*id, found.map(|(_, facts)| facts))
            }
            AccessSubject::ServicePrincipal(id) => {
                let found = store::service_principal_facts(conn, Some(id.get())).await?.pop();
                AccessUpdate::ServicePrincipal(*id, found.map(|(_, facts)| facts))
            }
            AccessSubject::Group(id) => {
                let found = store::group_facts(conn, Some(id.get())).await?.pop();
                AccessUpdate::Group(*id, found.map(|(_, facts)| facts))
            }
            // Gateways are read together, with the data that the proxy needs.
            AccessSubject::Gateway(_) => continue,
        });
    }
    Ok(changes)
}

/// Follows the change log until the process has stopped, and ends the streams of callers that lost their access. Runs
/// on each replica without a lease, since each has its own snapshot. It continues while the server drains: otherwise
/// open calls and operations would be refused as soon as the access data is stale.
pub async fn follow(app: Arc<App>) {
    let every = app.config.access.poll();
    let mut failing = false;
    while !app.calls_over.is_cancelled() || app.operations_running.load(Ordering::SeqCst) > 0 {
        match tokio::time::timeout(every.max(Duration::from_secs(2)), refresh(&app)).await {
            Ok(Ok(())) => failing = false,
            Ok(Err(error)) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "the access data can't be refreshed"
                    );
                }
            }
            Err(_) => failing = true,
        }
        app.live.recheck_all(&app.snapshot);
        metrics::gauge!(SNAPSHOT_AGE).set(app.snapshot.age().as_secs_f64());
        tokio::select! {
            () = app.calls_over.cancelled(), if !app.calls_over.is_cancelled() => {}
            () = tokio::time::sleep(every) => {}
        }
    }
}
