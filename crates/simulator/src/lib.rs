//! An OpenShell gateway in memory, started by `shoreguard dev` and scripted by the tests.
//!
//! It implements one wire generation on a real listener and behaves like a gateway: phases progress by themselves,
//! policies have revisions, proposals have review tokens that become stale. A supervisor is simulated in the same
//! process, so that sandboxes become ready, load their policies and propose changes.
//!
//! Invariants
//! - one state, independent of the generation; the adapters in `v0_0` and `v0_1` only convert messages;
//! - no task outlives [`Simulator::stop`]: all are in the tracker of the state;
//! - nothing runs outside this process, and nothing is written to disk.
//!
//! Assumptions, where only generation 0.0 could be observed: generation 0.1 behaves like 0.0, except for its wire
//! format, its request ids, its outcomes of a deletion, and the end of a caller's input, which an interactive command
//! reads in 0.1 and which aborts it in 0.0. A command that times out exits with 124. Content that generation 0.1 added
//! to policies and profiles (`token_grant_owner`, `mcp.versions`, files) is accepted but not stored.
//!
//! Policies follow the upstream's source, which is public up to early releases of 0.1: a merge, the evaluation of a
//! proposal and the marks of an advisor differ between the generations (`state/merge`, `state/verdict.rs`). A bulk
//! approval without a list approves every pending proposal whose evaluation is current. Not simulated: the prover,
//! except for link-local addresses, and the refusal of policies whose endpoints are ambiguous, or get credentials
//! without inspection.
//!
//! Flow control windows are those that a real gateway starts with: 64 KiB per connection and stream. `ForwardTcp` to
//! [`STALLED_PORT`] reads nothing after the first frame, and keeps the unread body after the caller has canceled: its
//! bytes stay charged to the connection. A real gateway adapts its windows to the throughput; these are fixed.

mod body;
mod control;
mod demo;
mod front;
mod gateway;
mod hold;
mod script;
mod server;
mod shell;
mod state;
mod streams;
#[cfg(test)]
mod tests;
#[expect(
    clippy::needless_pass_by_value,
    clippy::unnecessary_wraps,
    reason = "every method has one shape: it takes its message and gives an answer or a status"
)]
mod v0_0;
#[expect(
    clippy::needless_pass_by_value,
    clippy::unnecessary_wraps,
    reason = "every method has one shape: it takes its message and gives an answer or a status"
)]
mod v0_1;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::HeaderMap;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tonic::Status;

pub use shoreguard_proto::release::Generation;

pub use self::gateway::TokenPermissions;
pub use self::hold::Hold;
pub use self::script::{ReceivedCall, Script, Times};
pub use self::state::{LoadOutcome, PolicyCounts, Proposal, StartOutcome, Submission};
pub use self::streams::STALLED_PORT;

use self::front::Interceptor;
use self::gateway::{Caller, Gateway, GatewayInfo};
use self::script::Scripts;
use self::server::{Connections, Server};
use self::state::Core;

/// How long open connections may continue after the simulator is stopped.
const STOP: Duration = Duration::from_secs(2);

/// How callers without a bearer token are identified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// As a local user with all permissions, unless a bearer token is required.
    None,
    /// By their certificate, which is required. The TLS configuration verifies it.
    Certificate,
}

/// Options for starting a simulator.
#[derive(Debug)]
pub struct SimulatorOptions {
    /// The wire generation.
    pub generation: Generation,
    /// Address to listen on; port 0 picks a free port.
    pub listen: SocketAddr,
    /// The reported version, such as `0.0.116` or `0.1.5`.
    pub version: String,
    /// The required bearer token. Without one, any bearer token is refused.
    pub require_bearer: Option<String>,
    /// TLS; ALPN is set to `h2` if it is empty.
    pub tls: Option<ServerConfig>,
    /// How callers without a bearer token are identified.
    pub client_auth: ClientAuth,
    /// Duration of phases that end by themselves, and of the pending state of a policy. Zero means at once.
    pub ready_after: Duration,
}

impl SimulatorOptions {
    /// Options for a gateway of the newest release of a generation, on a free port of 127.0.0.1, without TLS or
    /// credentials, in which everything is ready at once.
    #[must_use]
    pub fn new(generation: Generation) -> Self {
        let version = match generation {
            Generation::V0_0 => "0.0.116",
            Generation::V0_1 => "0.1.5",
        };
        Self {
            generation,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            version: version.to_owned(),
            require_bearer: None,
            tls: None,
            client_auth: ClientAuth::None,
            ready_after: Duration::ZERO,
        }
    }
}

/// Returns what merge operations make of a policy of a generation, without a gateway. The policy, each operation
/// (`PolicyMergeOperation`) and the result are encoded.
///
/// # Errors
/// The status with which a gateway refuses them.
pub fn merged_policy(
    generation: Generation,
    policy: &[u8],
    operations: &[Vec<u8>],
) -> Result<Vec<u8>, Status> {
    match generation {
        Generation::V0_0 => v0_0::policy::merged(policy, operations),
        Generation::V0_1 => v0_1::policy::merged(policy, operations),
    }
}

/// A running gateway. Dropping it without [`Simulator::stop`] stops it as well, without waiting for its calls.
#[derive(Debug)]
pub struct Simulator {
    addr: SocketAddr,
    core: Arc<Core>,
    info: Arc<GatewayInfo>,
    interceptor: Arc<Interceptor>,
    connections: Arc<Connections>,
}

impl Simulator {
    /// Starts the listener and serves.
    pub async fn start(options: SimulatorOptions) -> io::Result<Self> {
        let core = Core::new(options.ready_after, options.generation);
        Self::start_with(options, core).await
    }

    /// Stops the gateway, and starts it again with the same content. Connections, commands and scripts are lost.
    /// `options` are those of the new process, which listens at the same address.
    pub async fn restart(self, options: SimulatorOptions) -> io::Result<Self> {
        let (listen, stopped) = (self.addr, Arc::clone(&self.core));
        self.stop().await;
        let core = Core::with_state(options.ready_after, stopped.take_state());
        Self::start_with(SimulatorOptions { listen, ..options }, core).await
    }

    async fn start_with(options: SimulatorOptions, core: Arc<Core>) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let addr = listener.local_addr()?;
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let info = Arc::new(GatewayInfo::new(options.version, addr.port(), scheme));
        let gateway = Gateway { core: Arc::clone(&core), info: Arc::clone(&info) };
        let routes = match options.generation {
            Generation::V0_0 => v0_0::routes(gateway),
            Generation::V0_1 => v0_1::routes(gateway),
        };
        let interceptor = Arc::new(Interceptor {
            scripts: Scripts::default(),
            bearers: RwLock::new(
                options
                    .require_bearer
                    .into_iter()
                    .map(|token| (token, TokenPermissions::Admin))
                    .collect(),
            ),
            client_auth: options.client_auth,
            reserved: front::reserved_methods(options.generation),
        });
        let tls = options.tls.map(|mut config| {
            if config.alpn_protocols.is_empty() {
                config.alpn_protocols.push(b"h2".to_vec());
            }
            TlsAcceptor::from(Arc::new(config))
        });
        let connections = Arc::<Connections>::default();
        let server = Server {
            interceptor: Arc::clone(&interceptor),
            routes,
            tls,
            tasks: core.tasks.clone(),
            stop: core.stop.clone(),
            connections: Arc::clone(&connections),
        };
        core.tasks.spawn(server.serve(listener));
        Ok(Self { addr, core, info, interceptor, connections })
    }

    /// The address of the listener.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Number of calls per method, by full path, whether they succeeded or not.
    #[must_use]
    pub fn calls(&self) -> BTreeMap<String, u64> {
        self.interceptor.scripts.calls()
    }

    /// Number of connections that were accepted since the start.
    #[must_use]
    pub fn connections_accepted(&self) -> usize {
        self.connections.accepted.load(Ordering::Relaxed)
    }

    /// Number of open connections.
    #[must_use]
    pub fn connections_open(&self) -> usize {
        self.connections.open.load(Ordering::Relaxed)
    }

    /// Number of commands that are running in the sandboxes.
    #[must_use]
    pub fn running_commands(&self) -> usize {
        self.core.commands.len()
    }

    /// The metadata of the last call of a method, given by its path or its name.
    #[must_use]
    pub fn last_headers(&self, method: &str) -> Option<HeaderMap> {
        self.last_call(method).map(|call| call.headers)
    }

    /// The last call of a method, given by its path or its name.
    #[must_use]
    pub fn last_call(&self, method: &str) -> Option<ReceivedCall> {
        self.interceptor.scripts.last(method)
    }

    /// Makes calls of a method fail; replaces the previous script of the method.
    pub fn script(&self, method: &str, script: Script, times: Times) {
        self.interceptor.scripts.set(method, script, times);
    }

    /// Removes all scripts.
    pub fn clear_scripts(&self) {
        self.interceptor.scripts.clear();
    }

    /// Changes the reported version.
    pub fn set_version(&self, version: impl Into<String>) {
        self.info.set_version(version.into());
    }

    /// Accepts these bearer tokens from now on, and no others. Each has all permissions.
    pub fn require_bearer(&self, tokens: &[&str]) {
        let tokens: Vec<_> = tokens.iter().map(|&token| (token, TokenPermissions::Admin)).collect();
        self.require_tokens(&tokens);
    }

    /// Accepts these bearer tokens from now on, and no others.
    pub fn require_tokens(&self, tokens: &[(&str, TokenPermissions)]) {
        let tokens = tokens.iter().map(|&(token, power)| (token.to_owned(), power)).collect();
        *self.interceptor.bearers.write().unwrap_or_else(PoisonError::into_inner) = tokens;
    }

    /// Changes the key that protects the records of request ids: earlier requests can no longer be replayed.
    pub fn change_request_key(&self) {
        let changed = self.core.with(|state| {
            state.requests.change_key();
            Ok(())
        });
        debug_assert!(changed.is_ok(), "it is only counted");
    }

    /// Adds demo content to an empty gateway: three sandboxes in `default` that are ready, stopped and in error, one of
    /// them with a policy and a proposal, and one sandbox in `team-a`.
    pub fn seed_demo(&self) -> Result<(), Status> {
        demo::seed(&self.core)
    }

    /// Sets the outcome of sandboxes that are created or started from now on.
    pub fn set_start_outcome(&self, outcome: StartOutcome) {
        let set = self.core.with(|state| {
            state.start_outcome = outcome;
            Ok(())
        });
        debug_assert!(set.is_ok(), "it is only set");
    }

    /// Writes a line to the log of a sandbox, as its supervisor would.
    pub fn log(
        &self,
        workspace: &str,
        sandbox: &str,
        level: &str,
        message: &str,
    ) -> Result<(), Status> {
        let at = (workspace.to_owned(), sandbox.to_owned());
        self.core.with(|state| {
            let at = state.sandbox(&at)?.key();
            state.log(&at, level, "sandbox", message);
            Ok(())
        })
    }

    /// Stops accepting connections, ends all calls, and waits for them.
    pub async fn stop(self) {
        self.core.stop.cancel();
        self.core.tasks.close();
        // After this timeout, the remaining tasks are canceled and hold only memory.
        let _ = tokio::time::timeout(STOP, self.core.tasks.wait()).await;
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.core.stop.cancel();
    }
}
