//! The released server on loopback, with a first admin created through the API.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use shoreguard::app::App;
use shoreguard::boot;
use shoreguard::clock::Clock;
use shoreguard::config::Config;
use shoreguard::db::Engine;
use shoreguard::db::leases::Lease;
use shoreguard::feed;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::auth::setup;
use shoreguard::server::listen;
use shoreguard::server::listen::RunningServer;
use tokio::net::TcpListener;
use tonic::codegen::InterceptedService;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::cleanup::ServerCleanup;
use super::jobs::{leave_leases, start_jobs};
use super::{CONDITION_TIME_MAX, DbLocation, limit};

pub(crate) const ADMIN_EMAIL: &str = "admin@example.com";
pub(crate) const ADMIN_PASSWORD: &str = "correct horse battery";
/// Number of connections that the callers of a test share: one for each core of its server.
const SHARED_CONNECTIONS: usize = 2;

/// A running server, with what tests need to call it.
pub(crate) struct TestServer {
    pub(crate) app: Arc<App>,
    pub(crate) address: SocketAddr,
    pub(crate) engine: Engine,
    pub(crate) admin_key: String,
    /// How a configuration names the database.
    url: String,
    /// Connections that callers use in turn: opening one costs more than most calls.
    channels: Mutex<Vec<Channel>>,
    /// Leases of the jobs that the test has run.
    pub(super) leases: Mutex<HashMap<&'static str, Lease>>,
    cleanup: ServerCleanup,
}

/// A caller: a channel and a credential.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) channel: Channel,
    pub(crate) bearer: Bearer,
}

#[derive(Clone, Default)]
pub(crate) struct Bearer(pub(crate) Option<String>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            let value: MetadataValue<_> = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

pub(crate) type AuthChannel = InterceptedService<Channel, Bearer>;

macro_rules! clients {
    ($($name:ident: $module:ident :: $client:ident,)*) => {
        impl Caller {
            $(#[allow(dead_code, reason = "not every test file uses every service")]
            pub(crate) fn $name(&self) -> pb::$module::$client<AuthChannel> {
                pb::$module::$client::with_interceptor(self.channel.clone(), self.bearer.clone())
            })*
        }
    };
}

clients! {
    access: access_service_client::AccessServiceClient,
    approval_workflows: approval_workflow_service_client::ApprovalWorkflowServiceClient,
    approvals: approval_service_client::ApprovalServiceClient,
    audit: audit_service_client::AuditServiceClient,
    auth: auth_service_client::AuthServiceClient,
    boot_hooks: boot_hook_service_client::BootHookServiceClient,
    events: event_service_client::EventServiceClient,
    gateways: gateway_service_client::GatewayServiceClient,
    groups: group_service_client::GroupServiceClient,
    operations: operation_service_client::OperationServiceClient,
    policies: policy_service_client::PolicyServiceClient,
    sandboxes: sandbox_service_client::SandboxServiceClient,
    sboms: sbom_service_client::SbomServiceClient,
    service_principals: service_principal_service_client::ServicePrincipalServiceClient,
    users: user_service_client::UserServiceClient,
    webhooks: webhook_service_client::WebhookServiceClient,
}

impl Caller {
    /// Returns the upstream's own client of generation 0.0, connected to the server.
    #[allow(dead_code, reason = "not every test file uses it")]
    pub(crate) fn openshell_v0_0(
        &self,
    ) -> shoreguard::pb::v0_0::openshell::v1::open_shell_client::OpenShellClient<AuthChannel> {
        shoreguard::pb::v0_0::openshell::v1::open_shell_client::OpenShellClient::with_interceptor(
            self.channel.clone(),
            self.bearer.clone(),
        )
    }

    /// Returns the upstream's own client of generation 0.1, connected to the server.
    #[allow(dead_code, reason = "not every test file uses it")]
    pub(crate) fn openshell_v0_1(
        &self,
    ) -> shoreguard::pb::v0_1::openshell::v1::open_shell_client::OpenShellClient<AuthChannel> {
        shoreguard::pb::v0_1::openshell::v1::open_shell_client::OpenShellClient::with_interceptor(
            self.channel.clone(),
            self.bearer.clone(),
        )
    }
}

/// Changes the configuration before the server starts.
pub(crate) type ConfigChange = fn(&mut Config);

impl TestServer {
    /// Starts a server on a database with the first admin. Returns `None` if this host has no PostgreSQL server
    /// programs.
    pub(crate) async fn start(engine: Engine, tune: ConfigChange) -> Option<Self> {
        let (place, admin_key) = DbLocation::with_admin(engine).await?;
        let server = Self::start_empty(place, engine, tune).await;
        Some(Self { admin_key, ..server })
    }

    /// Starts the same server without background jobs. Tests run the jobs themselves.
    pub(crate) async fn start_without_jobs(engine: Engine, tune: ConfigChange) -> Option<Self> {
        let (place, admin_key) = DbLocation::with_admin(engine).await?;
        let data = tempfile::tempdir().unwrap();
        let (app, running) = boot_without_jobs(config(&place, data.path(), tune)).await;
        Some(Self { admin_key, ..Self::from_parts(app, engine, running, place, data) })
    }

    /// Starts a server on a database, which may have no admin.
    pub(crate) async fn start_empty(place: DbLocation, engine: Engine, tune: ConfigChange) -> Self {
        let data = tempfile::tempdir().unwrap();
        let config = config(&place, data.path(), tune);
        let (app, running) = boot_with(config, start_jobs).await;
        Self::from_parts(app, engine, running, place, data)
    }

    fn from_parts(
        app: Arc<App>,
        engine: Engine,
        running: RunningServer,
        place: DbLocation,
        data: tempfile::TempDir,
    ) -> Self {
        let (address, url) = (running.address(), place.url());
        let cleanup = ServerCleanup::new(&app, running, place, data);
        let channels = (0..SHARED_CONNECTIONS).map(|_| open_channel(address)).collect();
        let (admin_key, channels) = (String::new(), Mutex::new(channels));
        let leases = Mutex::default();
        Self { app, address, engine, admin_key, url, channels, leases, cleanup }
    }

    /// Returns a caller without a credential.
    pub(crate) fn anonymous(&self) -> Caller {
        Caller { channel: self.channel(), bearer: Bearer(None) }
    }

    /// Returns a caller with a credential.
    pub(crate) fn with_token(&self, token: &str) -> Caller {
        Caller { channel: self.channel(), bearer: Bearer(Some(token.to_owned())) }
    }

    /// Returns a caller with the admin's key.
    pub(crate) fn admin(&self) -> Caller {
        self.with_token(&self.admin_key)
    }

    /// Returns a caller with a credential and a connection of its own.
    pub(crate) fn connect_as(&self, token: &str) -> Caller {
        Caller { channel: open_channel(self.address), bearer: Bearer(Some(token.to_owned())) }
    }

    /// Returns the admin with a connection of its own.
    pub(crate) fn connect_admin(&self) -> Caller {
        self.connect_as(&self.admin_key)
    }

    /// Returns one of the shared connections, each in turn.
    pub(crate) fn channel(&self) -> Channel {
        let mut channels = self.channels.lock().unwrap();
        channels.rotate_left(1);
        channels[0].clone()
    }

    /// Registers a gateway that listens on loopback.
    pub(crate) async fn register_gateway(&self, name: &str, endpoint: SocketAddr) -> pb::Gateway {
        let request = pb::RegisterGatewayRequest {
            name: name.to_owned(),
            endpoint: endpoint.to_string(),
            scheme: pb::GatewayScheme::Http.into(),
            ..Default::default()
        };
        let registered = self.admin().gateways().register_gateway(request).await.unwrap();
        registered.into_inner().gateway.unwrap()
    }

    /// Starts a second replica on the same database, which must be PostgreSQL.
    pub(crate) async fn start_replica(&self) -> (Arc<App>, RunningServer) {
        boot(self.config(|_| {})).await
    }

    /// Returns the configuration of another replica on the same database.
    pub(crate) fn config(&self, tune: ConfigChange) -> Config {
        build_config(&self.url, &self.app.config.server.data_dir, tune)
    }

    /// Stops the server, and checks that nothing was left open. The runner does so for a test that does not.
    pub(crate) async fn finish(self) {
        let Self { app, channels, cleanup, .. } = self;
        drop((app, channels));
        cleanup.finish().await;
    }
}

impl Caller {
    /// Gives a service principal a role on a gateway.
    #[allow(dead_code, reason = "not every test file uses it")]
    pub(crate) async fn bind(&self, name: &str, gateway: &str, role: pb::Role) {
        let subject = pb::subject::Subject::ServicePrincipal(name.to_owned());
        let request = pb::SetGatewayRoleRequest {
            subject: Some(pb::Subject { subject: Some(subject) }),
            gateway: gateway.to_owned(),
            role: role.into(),
            ..Default::default()
        };
        self.access().set_gateway_role(request).await.unwrap();
    }
}

/// Returns the configuration of a test's server: an unused port, no rate limits by address or caller, loopback allowed,
/// cheap password hashing, few connections to the database, since each test opens its own, and gateways that are asked
/// only when a test does it.
pub(crate) fn config(place: &DbLocation, data: &std::path::Path, tune: ConfigChange) -> Config {
    build_config(&place.url(), data, tune)
}

fn build_config(database: &str, data: &std::path::Path, tune: ConfigChange) -> Config {
    let text = format!(
        r#"
        [server]
        listen = "127.0.0.1:0"
        data_dir = "{}"
        cores = 2
        drain_seconds = 5
        [database]
        url = "{database}"
        readers = 2
        pool_size = 5
        acquire_timeout_seconds = 60
        statement_timeout_seconds = 120
        idle_in_transaction_timeout_seconds = 120
        busy_timeout_milliseconds = 60000
        [keys]
        master_key = "{}"
        [gateways]
        allowed_networks = ["127.0.0.0/8", "::1/128"]
        probe_interval_seconds = 3600
        [policies]
        follow_interval_seconds = 3600
        "#,
        data.display(),
        "5a".repeat(32),
    );
    let mut config = Config::from_toml(&text).unwrap();
    // Tests advance the clock by hours. This must not make the access data stale before the follower has read it again.
    config.access.stale_after_seconds = 366 * 24 * 3600;
    config.limits.bcrypt_cost = 4;
    config.limits.address_requests_per_second = 0;
    config.limits.anonymous_requests_per_minute = 0;
    config.limits.token_requests_per_minute = 0;
    config.limits.credentials_per_minute = 0;
    config.audit.refused_writes_per_minute = 0;
    tune(&mut config);
    config
}

/// Builds a server that neither listens nor runs jobs.
pub(crate) async fn build(config: Config) -> Arc<App> {
    boot::build(config, Clock::system()).await.unwrap()
}

/// Builds a server and serves. Its public URL is its listen address unless a test sets another one. An empty URL
/// disables the public URL.
pub(crate) async fn boot(config: Config) -> (Arc<App>, RunningServer) {
    boot_with(config, boot::start).await
}

/// As [`boot`], with the jobs that `start` starts.
pub(crate) async fn boot_with(
    mut config: Config,
    start: fn(&Arc<App>),
) -> (Arc<App>, RunningServer) {
    let listener = TcpListener::bind(config.server.listen).await.unwrap();
    let listens = || format!("http://{}", listener.local_addr().unwrap());
    let public = config.server.public_url.take().unwrap_or_else(listens);
    config.server.public_url = Some(public).filter(|url| !url.is_empty());
    let app = build(config).await;
    start(&app);
    let running = listen::serve(&app, listener).await.unwrap();
    (app, running)
}

async fn boot_without_jobs(config: Config) -> (Arc<App>, RunningServer) {
    let app = build(config).await;
    app.spawn(feed::follow(Arc::clone(&app)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let running = listen::serve(&app, listener).await.unwrap();
    (app, running)
}

/// Opens a connection when it is first used.
fn open_channel(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::new(format!("http://{address}")).unwrap();
    endpoint.timeout(CONDITION_TIME_MAX).connect_lazy()
}

/// Starts a server without jobs, runs `calls` with the server and a caller without a credential, and stops the server.
pub(crate) async fn with_server<T>(
    config: Config,
    calls: impl AsyncFnOnce(&App, Caller) -> T,
) -> T {
    let (app, running) = boot_without_jobs(config).await;
    let anonymous = Caller { channel: open_channel(running.address()), bearer: Bearer(None) };
    let result = calls(Arc::as_ref(&app), anonymous).await;
    app.stop.cancel();
    running.stopped().await;
    app.drain().await;
    result
}

/// Creates the first admin through the API of a server that then stops. Returns the key of the service principal
/// `root`, which the admin has created.
pub(super) async fn add_first_admin(place: &DbLocation) -> String {
    let data = tempfile::tempdir().unwrap();
    let serving = with_server(config(place, data.path(), |_| {}), async |app, anonymous| {
        let (email, password) = (ADMIN_EMAIL.to_owned(), ADMIN_PASSWORD.to_owned());
        let token = setup::ensure_token(app).await.unwrap().expect("a fresh database");
        let setup_token = token.expose().to_owned();
        let request =
            pb::SetupRequest { setup_token, email: email.clone(), password: password.clone() };
        anonymous.auth().setup(request).await.unwrap();
        let login = pb::LoginRequest { email, password };
        let session = anonymous.auth().login(login).await.unwrap().into_inner().session_token;
        let admin = Caller { bearer: Bearer(Some(session)), ..anonymous };
        leave_leases(app).await;
        admin.create_key("root", pb::Role::Admin).await
    });
    Box::pin(serving).await
}

/// Runs one test with a server of its own.
pub(crate) fn run<F: Future<Output = ()>>(
    engine: Engine,
    tune: ConfigChange,
    test: impl FnOnce(TestServer) -> F,
) {
    limit::block_on(async {
        let Some(server) = TestServer::start(engine, tune).await else { return };
        let cleanup = server.cleanup.clone();
        test(server).await;
        cleanup.finish().await;
    });
}

/// Runs one test with a server of its own that has no background jobs.
pub(crate) fn run_without_jobs<F: Future<Output = ()>>(
    engine: Engine,
    test: impl FnOnce(TestServer) -> F,
) {
    run_tuned_without_jobs(engine, |_| {}, test);
}

/// Runs one test as [`run_without_jobs`], with a changed configuration.
pub(crate) fn run_tuned_without_jobs<F: Future<Output = ()>>(
    engine: Engine,
    tune: ConfigChange,
    test: impl FnOnce(TestServer) -> F,
) {
    limit::block_on(async {
        let Some(server) = TestServer::start_without_jobs(engine, tune).await else { return };
        let cleanup = server.cleanup.clone();
        test(server).await;
        cleanup.finish().await;
    });
}

/// Lists tests that take a server. Each becomes two tests, `name::sqlite` and `name::postgres`. The function after `tuned`
/// changes the configuration.
macro_rules! server_tests {
    (tuned $tune:expr; $($name:ident),+ $(,)?) => {$(
        mod $name {
            #[allow(unused_imports, reason = "for the expression after `tuned`")]
            use super::*;

            #[test]
            fn sqlite() {
                $crate::support::server::run(shoreguard::db::Engine::Sqlite, $tune, super::$name);
            }

            #[test]
            fn postgres() {
                $crate::support::server::run(shoreguard::db::Engine::Postgres, $tune, super::$name);
            }
        }
    )+};
    ($($name:ident),+ $(,)?) => { server_tests! { tuned |_| {}; $($name),+ } };
}

/// Lists tests as `server_tests!` does, with servers that have no background jobs.
macro_rules! server_tests_without_jobs {
    (tuned $tune:expr; $($name:ident),+ $(,)?) => {$(
        mod $name {
            #[allow(unused_imports, reason = "for the expression after `tuned`")]
            use super::*;

            #[test]
            fn sqlite() {
                $crate::support::server::run_tuned_without_jobs(
                    shoreguard::db::Engine::Sqlite,
                    $tune,
                    super::$name,
                );
            }

            #[test]
            fn postgres() {
                $crate::support::server::run_tuned_without_jobs(
                    shoreguard::db::Engine::Postgres,
                    $tune,
                    super::$name,
                );
            }
        }
    )+};
    ($($name:ident),+ $(,)?) => { server_tests_without_jobs! { tuned |_| {}; $($name),+ } };
}

/// Lists tests as `server_tests!` does, for SQLite only, since they do not depend on the engine: they are about
/// connections, messages, credentials or gateways.
macro_rules! sqlite_tests {
    (tuned $tune:expr; $($name:ident),+ $(,)?) => {$(
        mod $name {
            #[allow(unused_imports, reason = "for the expression after `tuned`")]
            use super::*;

            #[test]
            fn sqlite() {
                $crate::support::server::run(shoreguard::db::Engine::Sqlite, $tune, super::$name);
            }
        }
    )+};
    ($($name:ident),+ $(,)?) => { sqlite_tests! { tuned |_| {}; $($name),+ } };
}

/// Returns the machine-readable reason of a refusal.
pub(crate) fn reason(status: &Status) -> String {
    use tonic_types::StatusExt;
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

/// Returns the facts for programs in the error of a call.
pub(crate) fn facts(status: &Status) -> HashMap<String, String> {
    use tonic_types::StatusExt;
    status.get_error_details().error_info().map(|info| info.metadata.clone()).unwrap_or_default()
}

/// Asserts code and reason of a refusal.
macro_rules! assert_refused {
    ($answer:expr, $code:ident, $reason:literal) => {{
        let status = $answer.unwrap_err();
        assert_eq!(
            (status.code(), $crate::support::server::reason(&status).as_str()),
            (tonic::Code::$code, $reason),
            "{status:?}"
        );
        status
    }};
}
