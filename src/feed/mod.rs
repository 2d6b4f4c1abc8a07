//! Keeps the access snapshot up to date: a full load at startup, then increments from the change log.
//!
//! A change may be read twice, which is harmless: what is applied is the current state of its subject.
//!
//! Invariants
//! - a replica that may have missed entries that were already deleted from the log does a full load again;
//! - so does a replica that reads the log on a connection that was opened after its position was taken. The server may
//!   have crashed in between, or another one may have replaced it, and ids of transactions are assigned again then;
//! - an update never waits for the turns of the caller in whose task it runs, since all callers wait for it;
//! - the data is confirmed as fresh only when all changes before that time have been applied.

mod facts;
pub mod gateways;
pub mod position;
pub mod store;

use futures_util::future::BoxFuture;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use self::position::LogPosition;
use self::store::{NextPage, UnreadChanges};
use crate::access::snapshot::AccessUpdate;
use crate::app::App;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::types::GatewayId;
use crate::error::{Error, Reason};
use crate::outbox::AccessSubject;
use crate::telemetry::metrics::SNAPSHOT_AGE;

/// How long a revoked session is remembered: longer than the lifetime of any token of the session.
pub const REMEMBERED: Duration = Duration::from_hours(25);
/// Maximum number of changes per read.
const BATCH: i64 = 1_000;
/// Maximum number of attempts to decide by access data that is current.
const ATTEMPTS_MAX: u32 = 3;

/// All facts, and how far the change log was read before them.
#[derive(Debug)]
pub struct Everything {
    /// The newest revision that the facts include.
    pub revision: i64,
    /// The position after the changes that the facts include.
    pub position: LogPosition,
    /// The facts.
    pub facts: Vec<AccessUpdate>,
}

/// Loads the snapshot from the database, at startup.
pub async fn load(app: &App) -> Result<(), Error> {
    let mut progress = app.part::<FeedState>().progress.lock().await;
    let read_at = app.clock.since_boot();
    let mut conn = app.db.read_as_server().await?;
    let taken_at = Instant::now();
    let read = read_all(&mut conn, revocation_horizon(app)).await?;
    drop(conn);
    app.snapshot.replace(read.revision, read.facts, read_at);
    progress.log = LogProgress::at(read.position, taken_at);
    Ok(())
}

/// Reads all facts, with the sessions revoked since `ended_since`.
pub async fn read_all(conn: &mut Conn, ended_since: Timestamp) -> Result<Everything, Error> {
    // Read first: changes that are committed during the other reads will be read again, which is harmless.
    let revision = store::last_revision(conn).await?;
    let position = store::current_position(conn).await?;
    Ok(Everything { revision, position, facts: facts::read_all(conn, ended_since).await? })
}

/// Reloads the snapshot and the targets of the proxy. Returns how far the log is read with the changes that they
/// include.
async fn reload(app: &App) -> Result<LogProgress, Error> {
    let read_at = app.clock.since_boot();
    let mut conn = app.db.read_as_server().await?;
    let taken_at = Instant::now();
    let read = read_all(&mut conn, revocation_horizon(app)).await?;
    drop(conn);
    let there = read.facts.iter().filter_map(|change| match change {
        AccessUpdate::Gateway(id, _) => Some(*id),
        AccessUpdate::User(..) | AccessUpdate::ServicePrincipal(..) | AccessUpdate::Group(..) => {
            None
        }
    });
    let gone_or_there: HashSet<GatewayId> =
        there.chain(app.fleet.targets.all().iter().map(|target| target.id)).collect();
    let gateways: Vec<GatewayId> = gone_or_there.into_iter().collect();
    gateways::refresh_targets(app, &gateways).await?;
    app.snapshot.replace(read.revision, read.facts, read_at);
    app.live.recheck_all(&app.snapshot);
    Ok(LogProgress::at(read.position, taken_at))
}

/// The start of the period for revoked sessions: tokens of sessions revoked earlier have expired.
fn revocation_horizon(app: &App) -> Timestamp {
    app.clock.now().minus(REMEMBERED)
}

/// Serializes updates of the snapshot.
#[derive(Debug, Default)]
pub struct FeedState {
    /// Number of the last update that was started.
    begun: AtomicU64,
    /// Locked during an update.
    progress: tokio::sync::Mutex<Progress>,
}

/// Progress of the updates.
#[derive(Debug, Default)]
struct Progress {
    /// Number of the last update that was completed.
    done: u64,
    /// How far the change log was read.
    log: LogProgress,
}

/// How far the change log was read.
#[derive(Debug, Default)]
struct LogProgress {
    position: LogPosition,
    /// A time before the position was taken. `None` before the first load.
    taken_at: Option<Instant>,
    /// The unread rest of the changes after the position, if there was more than one page.
    rest: Option<Rest>,
}

/// The pages of a long backlog that were not read yet. They are read next, even if an update fails in between.
#[derive(Debug)]
struct Rest {
    next: NextPage,
    /// A time before the first page was read, with the position after the last one.
    taken_at: Instant,
}

impl LogProgress {
    fn at(position: LogPosition, taken_at: Instant) -> Self {
        Self { position, taken_at: Some(taken_at), rest: None }
    }
}

impl FeedState {
    /// Blocks all updates while the result is held, for tests.
    pub async fn block_updates(&self) -> impl Sized {
        self.progress.lock().await
    }
}

/// How far this replica had read the change log, and since when.
#[derive(Debug, Clone)]
pub struct ReadPosition {
    position: LogPosition,
    /// A time before the position was taken. `None` before the first load.
    taken_at: Option<Instant>,
}

/// Returns how far this replica has read the change log: the snapshot includes all changes before that position.
pub async fn read_position(app: &App) -> ReadPosition {
    let progress = app.part::<FeedState>().progress.lock().await;
    ReadPosition { position: progress.log.position.clone(), taken_at: progress.log.taken_at }
}

/// Returns whether no change of access was committed after a position, as this transaction sees it. If the position was
/// taken before the snapshot was read, what was read is current. It is not if the server of the database may have been
/// replaced since then.
///
/// # Errors
/// Those of the database.
pub async fn is_current(conn: &mut Conn, read: &ReadPosition) -> Result<bool, Error> {
    if read.taken_at.is_none_or(|taken_at| conn.is_newer_than(taken_at)) {
        return Ok(false);
    }
    let unread = store::unread_changes(conn, &read.position, None, 1).await?;
    Ok(unread.changes.is_empty() && !unread.missed)
}

/// Makes up to 3 attempts to decide by access data that is current, and applies the changes of others in between. An
/// attempt gets the position that was taken before it reads the snapshot. In its transaction it checks that position
/// with [`is_current`], and otherwise returns `None` and stores nothing.
///
/// # Errors
/// `ACCESS_STALE` if the access data changes during every attempt, and those of the attempt.
pub fn until_current<'a, T: Send + 'a>(
    app: &'a App,
    mut attempt: impl FnMut(ReadPosition) -> BoxFuture<'a, Result<Option<T>, Error>> + Send + 'a,
) -> BoxFuture<'a, Result<T, Error>> {
    Box::pin(async move {
        for number in 0..ATTEMPTS_MAX {
            if number > 0 {
                refresh(app).await?;
            }
            if let Some(decided) = attempt(read_position(app).await).await? {
                return Ok(decided);
            }
        }
        let why = "the access data changes faster than it can be read: try again";
        Err(Error::unavailable(Reason::AccessStale, why))
    })
}

/// Applies all changes that have been committed. Called after a local write before its response, and continuously by
/// the follower. Updates run one at a time, so that an older read never overwrites a newer one; callers that wait share
/// the next update.
pub fn refresh(app: &App) -> BoxFuture<'_, Result<(), Error>> {
    Box::pin(async move {
        let before = app.part::<FeedState>().begun.load(Ordering::SeqCst);
        let mut progress = app.part::<FeedState>().progress.lock().await;
        if progress.done > before {
            // That update started after the caller's commit, so it includes the change.
            return Ok(());
        }
        let number = app.part::<FeedState>().begun.fetch_add(1, Ordering::SeqCst) + 1;
        apply_changes(app, &mut progress.log).await?;
        progress.done = number;
        Ok(())
    })
}

async fn apply_changes(app: &App, log: &mut LogProgress) -> Result<(), Error> {
    loop {
        let read_at = app.clock.since_boot();
        let mut conn = app.db.read_as_server().await?;
        let read_from = Instant::now();
        if log.taken_at.is_some_and(|taken_at| conn.is_newer_than(taken_at)) {
            drop(conn);
            debug!("the database may have restarted: reading all access data");
            *log = reload(app).await?;
            return Ok(());
        }
        let next = log.rest.as_ref().map(|rest| &rest.next);
        let unread = store::unread_changes(&mut conn, &log.position, next, BATCH).await?;
        if unread.missed {
            drop(conn);
            warn!(
                position = ?log.position,
                "changes of access may have been forgotten before they were read: reading all of it"
            );
            *log = reload(app).await?;
            return Ok(());
        }
        // Changes that were committed while pages were read can be missing on the later ones, so the log is read again
        // after the last page.
        let is_all = log.rest.is_none() && unread.next.is_none();
        apply_page(app, conn, &unread, is_all.then_some(read_at)).await?;
        let taken_at = log.rest.as_ref().map_or(read_from, |rest| rest.taken_at);
        match unread.next {
            Some(next) => log.rest = Some(Rest { next, taken_at }),
            None => *log = LogProgress::at(unread.position, taken_at),
        }
        if is_all {
            return Ok(());
        }
    }
}

/// Applies a page of changes. The data is confirmed as of `read_at`, if it is complete.
async fn apply_page(
    app: &App,
    mut conn: Conn,
    unread: &UnreadChanges,
    read_at: Option<Duration>,
) -> Result<(), Error> {
    let last = unread.changes.iter().map(|change| change.revision).max();
    let mut subjects: Vec<AccessSubject> =
        unread.changes.iter().filter_map(|change| change.subject).collect();
    let mut seen = HashSet::new();
    subjects.retain(|subject| seen.insert(*subject));
    let mut changes = facts::read(&mut conn, &subjects, revocation_horizon(app)).await?;
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
    app.snapshot.apply(last.unwrap_or_default(), changes, read_at);
    if moved {
        app.live.recheck_all(&app.snapshot);
    }
    Ok(())
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
