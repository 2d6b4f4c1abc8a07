//! Shared state that lives as long as the process.
//!
//! State of a single module is a part, which `boot` adds and the module gets with [`App::part`].

pub mod long_work;
mod parts;
mod setup;

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub use self::parts::Parts;
pub use self::setup::Setup;

use self::long_work::LongWork;
use crate::access::authn::Authn;
use crate::access::authn::password::PasswordHasher;
use crate::access::credential_limit::CredentialLimit;
use crate::access::live::LiveStreams;
use crate::access::policy::Method;
use crate::access::snapshot::Snapshot;
use crate::audit::recorder::Recorder;
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::db::Db;
use crate::db::heartbeat::Heartbeat;
use crate::digest::{Digest, RequestDigests, StreamDigest};
use crate::disk::Disk;
use crate::outbox::feed::EventFeed;
use crate::seal::{MasterKeys, SealKey};
use crate::telemetry::traces::Traces;
use crate::upstream::fleet::Fleet;
use crate::upstream::targets::TargetContext;

/// Shared state that lives as long as the process.
pub struct App {
    /// The configuration.
    pub config: Config,
    /// The database.
    pub db: Db,
    /// The clock.
    pub clock: Clock,
    /// Seals secrets at rest.
    pub master: MasterKeys,
    /// Seals page tokens; the same key on every replica.
    pub page_key: SealKey,
    /// The access data of the fleet.
    pub snapshot: Arc<Snapshot>,
    /// Verifies credentials.
    pub authn: Authn,
    /// Open streams, which end when their caller loses its access.
    pub live: Arc<LiveStreams>,
    /// Records calls.
    pub audit: Recorder,
    /// Wakes the readers of events.
    pub feed: EventFeed,
    /// The gateways and this process's connections to them.
    pub fleet: Fleet,
    /// Hashes passwords, with limited concurrency (T16).
    pub passwords: PasswordHasher,
    /// Runs long computations, with limited concurrency (T16).
    pub long_work: LongWork,
    /// Limits how many credentials one caller may create per minute.
    pub credential_limit: CredentialLimit,
    /// Monitors the free disk space.
    pub disk: Disk,
    /// Exports spans; `None` if disabled.
    pub traces: Option<Traces>,
    /// Name of this replica, which is new at each start.
    pub replica: Arc<str>,
    /// Number of operations that run in this process. Access data is refreshed until it is zero.
    pub operations_running: AtomicUsize,
    /// Canceled when the process must stop.
    pub stop: CancellationToken,
    /// Canceled when the last call has ended, after `stop`. Tasks that calls depend on run until then.
    pub calls_over: CancellationToken,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) digests: RequestDigests,
    pub(crate) tasks: TaskTracker,
    pub(crate) main: Handle,
    pub(crate) parts: Parts,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("replica", &self.replica).finish_non_exhaustive()
    }
}

impl App {
    /// Returns the state of one module.
    ///
    /// # Panics
    /// If `boot` has not added it, which every test that starts a server would detect.
    #[must_use]
    pub fn part<T: Any>(&self) -> &T {
        self.parts.get().expect("boot adds the parts of every module")
    }

    /// Returns the dependencies for building the target of a stored gateway.
    #[must_use]
    pub fn target_context(&self) -> TargetContext<'_> {
        TargetContext {
            master: &self.master,
            names: &self.fleet.names,
            issuers: &self.fleet.issuers,
            clock: &self.clock,
            config: &self.config.gateways,
        }
    }

    /// Returns a new id.
    #[must_use]
    pub fn new_id(&self) -> Uuid {
        new_id()
    }

    /// Returns a new id for a call. It begins with the time: the audit log has an index of these ids, and random ones
    /// would each write another page of it.
    #[must_use]
    pub fn new_request_id(&self) -> Uuid {
        request_id_at(self.clock.now())
    }

    /// Spawns a task on the main runtime. The process waits for it before it stops.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.tasks.spawn_on(task, &self.main)
    }

    /// The main multi-threaded runtime.
    #[must_use]
    pub fn main_runtime(&self) -> &Handle {
        &self.main
    }

    /// Returns the keyed digest of a request of Shoreguard's own API, without its secrets.
    #[must_use]
    pub fn digest(&self, message: &str, bytes: &[u8]) -> Option<Digest> {
        self.digests.digest(message, bytes)
    }

    /// Whether the responses of a method contain a secret.
    #[must_use]
    pub fn returns_secret(&self, method: &Method) -> bool {
        self.digests.returns_secret(method)
    }

    /// Starts a digest of streamed bytes.
    #[must_use]
    pub fn stream_digest(&self) -> StreamDigest {
        self.digests.start_stream()
    }

    /// Waits for all tasks, then for their audit entries. Tasks may still be spawned until the last one has ended.
    pub async fn drain(&self) {
        self.calls_over.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.audit.drain().await;
        self.heartbeat.stop().await;
        if let Some(traces) = &self.traces {
            traces.shutdown().await;
        }
    }
}

/// Returns a new id.
#[expect(clippy::disallowed_methods, reason = "the one place where ids are made")]
pub(crate) fn new_id() -> Uuid {
    Uuid::new_v4()
}

fn request_id_at(now: Timestamp) -> Uuid {
    let micros = u64::try_from(now.unix_micros()).unwrap_or_default();
    let nanos = u32::try_from(micros % 1_000_000 * 1_000).unwrap_or_default();
    Uuid::new_v7(uuid::Timestamp::from_unix_time(micros / 1_000_000, nanos, 0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_unique_and_in_the_order_of_their_time() {
        let at = |millis: i64| {
            request_id_at(Timestamp::from_unix_micros(1_700_000_000_000_000 + millis * 1_000))
        };
        assert!(at(1) < at(2) && at(2) < at(1_000));
        assert_ne!(at(1), at(1));
    }
}
