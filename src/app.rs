//! What lives as long as the process.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};

use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::access::authn::password::Hasher;
use crate::access::authn::token::TokenKeys;
use crate::access::authn::{Authn, CertificateIdentity};
use crate::access::credential_limit::CredentialLimit;
use crate::access::live::Live;
use crate::access::principal::PrincipalId;
use crate::access::snapshot::Snapshot;
use crate::audit::recorder::Recorder;
use crate::clock::Clock;
use crate::config::{Config, DatabaseUrl};
use crate::db::heartbeat::Heartbeat;
use crate::db::{Db, DbOptions};
use crate::digest::Digest;
use crate::digest::Digests;
use crate::disk::Disk;
use crate::error::Error;
use crate::feed;
use crate::net::http;
use crate::net::names::Names;
use crate::oidc::Oidc;
use crate::outbox::feed::Feed;
use crate::proxy::bounds::Bounds;
use crate::proxy::channels::Channels;
use crate::proxy::{RequestIds, SandboxIds};
use crate::resources::gateways::targets::Targets;
use crate::resources::operations::keeper::Operations;
use crate::resources::{auth, gateways, sboms};
use crate::seal::{MasterKeys, SealKey, TagKey};
use crate::secret::Secret;
use crate::templates::{self, Template};
use crate::transport::reload;
use crate::transport::tls::Tls;
use crate::transport::traces::Traces;

/// What lives as long as the process.
pub struct App {
    /// The configuration.
    pub config: Config,
    /// The database.
    pub db: Db,
    /// The time.
    pub clock: Clock,
    /// What secrets at rest are sealed under.
    pub master: MasterKeys,
    /// What sandboxes of a kind begin with, by name.
    pub templates: Vec<Template>,
    /// Turns of boot hooks on this host.
    pub boot_hooks: Semaphore,
    /// What page tokens are sealed under; the same on every replica.
    pub page_key: SealKey,
    /// What logins at an OIDC provider are sealed under while they go on; the same on every replica.
    pub oidc_key: SealKey,
    /// Who else may say who somebody is.
    pub oidc: Arc<Oidc>,
    /// What failed logins are counted under; the same on every replica.
    pub budget_key: TagKey,
    /// Who holds what.
    pub snapshot: Snapshot,
    /// Who is calling.
    pub authn: Authn,
    /// Streams that end when their caller loses the right to them.
    pub live: Arc<Live>,
    /// Where calls are recorded.
    pub audit: Recorder,
    /// Wakes whoever waits for events.
    pub feed: Feed,
    /// The operations that run here, and those that are waited for.
    pub operations: Operations,
    /// Who feeds the snapshot: one at a time.
    pub feeding: feed::Feeding,
    /// The gateways as the proxy reaches them.
    pub targets: Arc<Targets>,
    /// How the names of gateways are resolved, and those of their identity providers.
    pub names: Names,
    /// Calls the identity providers of gateways.
    pub issuers: http::Client,
    /// The connections of main to them, for what we ask on our own account.
    pub(crate) channels: Channels,
    /// How many streams to them are open, of every runtime.
    pub(crate) streams: Arc<Bounds>,
    /// Which sandbox an id means, as the gateways have told.
    pub sandbox_ids: SandboxIds,
    /// How many request ids of a gateway each principal has used.
    pub request_ids: RequestIds,
    /// Passwords are hashed in here, a bounded number at once (T16).
    pub passwords: Hasher,
    /// How many credentials one caller may make a minute.
    pub credential_limit: CredentialLimit,
    /// Where SBOMs are received and read, a bounded number at once (T16).
    pub sboms: sboms::intake::Intake,
    /// How the listener speaks TLS, once it listens and if it does.
    pub tls: OnceLock<Tls>,
    /// Whether the listener takes connections, with its certificate where it has one.
    pub listening: AtomicBool,
    /// Asks for the files of it to be read again.
    pub reload: Notify,
    /// What was told of them already.
    pub reload_told: Mutex<reload::Told>,
    /// Whether there is room on the disk.
    pub disk: Disk,
    /// Where spans go, if anywhere.
    pub traces: Option<Traces>,
    /// Name of this replica: new at each start.
    pub replica: Arc<str>,
    /// Cancelled when the process is to stop.
    pub stop: CancellationToken,
    /// Cancelled when the last call has ended, after `stop`: what calls need runs until then.
    pub calls_over: CancellationToken,
    heartbeat: Heartbeat,
    digests: Digests,
    tasks: TaskTracker,
    main: Handle,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("replica", &self.replica).finish_non_exhaustive()
    }
}

impl App {
    /// Opens the database, brings its schema up to date, loads keys and access data. Must run on main.
    ///
    /// # Errors
    /// What stands in the way of serving, in a sentence.
    pub async fn build(config: Config, clock: Clock) -> Result<Arc<Self>, Error> {
        let templates = templates::file::load(config.sandboxes.templates_folder.as_deref())?;
        let master = master_keys(&config)?;
        let db = Db::open(&db_options(&config)).await?;
        let tokens = auth::keys::token_keys(&db, &master, &clock, new_id).await?;
        let identities = config.server.tls.client_identities.iter();
        let certificates = identities.map(certificate_identity).collect::<Result<_, _>>()?;
        let oidc = Arc::new(Oidc::new(&config.oidc, &clock)?);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let replica: Arc<str> = new_id().to_string().into();
        let traces = Traces::start(&config.telemetry, &replica)?;
        let heartbeat = Heartbeat::start(&db, &replica).await?;
        let audit = Recorder::start(&db, &clock, &replica, &config.audit);
        let names = Names::asking(&config.gateways.dns_servers).map_err(Error::internal)?;
        let issuers = http::Client::new(&config.gateways.allowed_networks, http::roots(None)?)?
            .with_names(names.clone());
        let targets = Arc::default();
        let streams = Arc::new(Bounds::new(&config.gateways));
        let stale_after = config.access.stale_after();
        let app = Arc::new(Self {
            templates,
            boot_hooks: Semaphore::new(config.boot_hooks.running_max as usize),
            page_key: master.seal_key("page tokens"),
            oidc_key: master.seal_key("oidc login"),
            oidc: Arc::clone(&oidc),
            budget_key: master.tag_key("login budgets"),
            digests: Digests::new(&master),
            snapshot: Snapshot::new(clock.clone(), stale_after),
            authn: Authn { tokens: TokenKeys::new(tokens, clock.clone()), certificates, oidc },
            live: Arc::default(),
            feed: Feed::default(),
            operations: Operations::default(),
            feeding: feed::Feeding::default(),
            channels: Channels::new(&targets, &Arc::new(config.gateways.clone()), &streams),
            streams,
            targets,
            names,
            issuers,
            sandbox_ids: SandboxIds::default(),
            request_ids: RequestIds::default(),
            passwords: Hasher::new(&config.limits),
            credential_limit: CredentialLimit::new(config.limits.credentials_per_minute),
            sboms: sboms::intake::Intake::default(),
            main: Handle::current(),
            disk: Disk::new(config.server.data_dir.clone(), config.limits.disk_reserve_mib),
            config,
            db,
            clock,
            master,
            audit,
            heartbeat,
            replica,
            stop,
            calls_over: CancellationToken::new(),
            tasks,
            traces,
            tls: OnceLock::new(),
            listening: AtomicBool::new(false),
            reload: Notify::new(),
            reload_told: Mutex::default(),
        });
        gateways::memory::load_targets(&app).await?;
        feed::load(&app).await?;
        Ok(app)
    }

    /// Starts what runs in the background, until `stop`.
    pub fn start(self: &Arc<Self>) {
        self.spawn(feed::follow(Arc::clone(self)));
        crate::workers::start(self);
    }

    /// A new id.
    #[must_use]
    pub fn new_id(&self) -> Uuid {
        new_id()
    }

    /// Runs a task on main that is waited for when the process stops.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.tasks.spawn_on(task, &self.main)
    }

    /// The multi-thread runtime.
    #[must_use]
    pub fn main(&self) -> &Handle {
        &self.main
    }

    /// Keyed digest of a request of our own API, without its secrets.
    #[must_use]
    pub fn digest(&self, message: &str, bytes: &[u8]) -> Digest {
        self.digests.of(message, bytes)
    }

    /// Whether the answers of a method hold a secret.
    #[must_use]
    pub fn answers_secret(&self, method: &crate::access::policy::Method) -> bool {
        self.digests.answers_secret(method)
    }

    /// Starts a digest of bytes as they pass.
    #[must_use]
    pub fn streamed_digest(&self) -> crate::digest::Streamed {
        self.digests.streamed()
    }

    /// Waits for every task, then for what they have recorded; new ones are still taken until the last is done.
    pub async fn drained(&self) {
        self.calls_over.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.audit.drain().await;
        self.heartbeat.stop().await;
        if let Some(traces) = &self.traces {
            traces.end().await;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where ids are made")]
fn new_id() -> Uuid {
    Uuid::new_v4()
}

/// The database as the configuration has it.
#[must_use]
pub fn db_options(config: &Config) -> DbOptions {
    let database = &config.database;
    let url = match (&database.url, config.sqlite_path()) {
        (DatabaseUrl::Postgres(url), _) => Secret::new(url.expose()),
        (_, Some(path)) => Secret::new(path.display().to_string()),
        (DatabaseUrl::DataDir | DatabaseUrl::Sqlite(_), None) => Secret::new(""),
    };
    DbOptions {
        readers: database.readers as usize,
        writers: database.pool_size as usize,
        pool_wait: database.acquire_timeout(),
        statement_timeout: database.statement_timeout(),
        idle_in_transaction_timeout: database.idle_in_transaction_timeout(),
        busy_timeout: database.busy_timeout(),
        ..DbOptions::new(url)
    }
}

/// From the configuration; beside a SQLite database a missing one is made in a 0600 file.
pub fn master_keys(config: &Config) -> Result<MasterKeys, Error> {
    let faults = |faults: crate::config::Faults| Error::invalid("keys", faults.to_string());
    if let Some(keys) = config.keys.open().map_err(faults)? {
        return Ok(keys);
    }
    let path = config.sqlite_path().ok_or_else(|| {
        Error::invalid("keys.master_key", "is required where the database is not a file")
    })?;
    MasterKeys::load_or_create(&path.with_extension("key"))
}

fn certificate_identity(
    configured: &crate::config::ClientIdentity,
) -> Result<CertificateIdentity, Error> {
    let bad = || Error::invalid("server.tls.client_identities", "has a principal without an id");
    Ok(CertificateIdentity {
        issuer: configured.issuer.clone(),
        san: configured.san.clone(),
        principal: PrincipalId::parse_exact(&configured.principal).ok_or_else(bad)?,
    })
}
