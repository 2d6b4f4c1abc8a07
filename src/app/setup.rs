//! Builds an [`App`].

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::long_work::LongWork;
use super::{App, Parts, new_id};
use crate::access::authn::Authn;
use crate::access::authn::password::PasswordHasher;
use crate::access::credential_limit::CredentialLimit;
use crate::access::snapshot::Snapshot;
use crate::audit::recorder::Recorder;
use crate::clock::Clock;
use crate::config::Config;
use crate::db::Db;
use crate::db::heartbeat::Heartbeat;
use crate::digest::RequestDigests;
use crate::disk::Disk;
use crate::error::Error;
use crate::outbox::feed::EventFeed;
use crate::seal::MasterKeys;
use crate::telemetry::traces::Traces;
use crate::upstream::fleet::Fleet;

/// The arguments for building an [`App`].
pub struct Setup {
    /// The configuration.
    pub config: Config,
    /// The database, with the schema of this build.
    pub db: Db,
    /// The clock.
    pub clock: Clock,
    /// Seals secrets at rest.
    pub master: MasterKeys,
    /// Verifies credentials.
    pub authn: Authn,
    /// State of single modules.
    pub parts: Parts,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").field("parts", &self.parts).finish_non_exhaustive()
    }
}

impl App {
    /// Starts the heartbeat and the recorder. The snapshot is empty. Must run on the main runtime.
    ///
    /// # Errors
    /// Those that prevent the process from serving: the heartbeat cannot be stored, or settings of traces or gateways
    /// are invalid.
    pub async fn new(setup: Setup) -> Result<Arc<Self>, Error> {
        let Setup { config, db, clock, master, authn, parts } = setup;
        let replica: Arc<str> = new_id().to_string().into();
        let traces = Traces::start(&config.telemetry, &replica)?;
        let heartbeat = Heartbeat::start(&db, &replica).await?;
        let audit = Recorder::start(&db, &clock, &replica, &config.audit);
        Ok(Arc::new(Self {
            page_key: master.seal_key("page tokens"),
            digests: RequestDigests::new(&master),
            snapshot: Arc::new(Snapshot::new(clock.clone(), config.access.stale_after())),
            authn,
            live: Arc::default(),
            feed: EventFeed::default(),
            fleet: Fleet::new(&config.gateways)?,
            passwords: PasswordHasher::new(&config.limits),
            long_work: LongWork::default(),
            credential_limit: CredentialLimit::new(config.limits.credentials_per_minute),
            disk: Disk::new(config.server.data_dir.clone(), config.limits.disk_reserve_mib),
            config,
            db,
            clock,
            master,
            audit,
            heartbeat,
            replica,
            traces,
            operations_running: AtomicUsize::new(0),
            stop: CancellationToken::new(),
            calls_over: CancellationToken::new(),
            tasks: TaskTracker::new(),
            main: Handle::current(),
            parts,
        }))
    }
}
