//! `shoreguard serve`: runs the server until a signal stops it.
//!
//! Files and addresses are checked before the database is changed. The metrics listener starts before the API listener
//! and ends after it, so that start and drain can be monitored. A second signal ends the process without waiting.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{CliError, data_dir, output, preflight};
use crate::app::App;
use crate::boot;
use crate::clock::Clock;
use crate::config::Config;
use crate::resources::auth::setup;
use crate::server::reload::ListenerState;
use crate::server::{health, listen};
use crate::telemetry::{self, endpoint, metrics};

/// Number of connections that wait to be accepted, as of `TcpListener::bind`.
const BACKLOG: u32 = 1024;

/// Key of the address of the API.
const LISTEN: &str = "server.listen";

/// Serves until SIGTERM or SIGINT.
pub(super) async fn run(mut config: Config) -> Result<(), CliError> {
    telemetry::init_logging(&config.telemetry)?;
    let mut signals = Signals::listen()?;
    // A start that fails because of a file or an address must not migrate the database or print a setup token first.
    preflight::check(&config)?;
    let socket = reserve(config.server.listen)?;
    // With port 0, the system has chosen one, which the default of the public URL needs.
    config.server.listen = socket.local_addr()?;
    data_dir::create(&config.server.data_dir)?;
    let metrics = match config.telemetry.metrics_listen {
        Some(address) => {
            let listener = bind("telemetry.metrics_listen", address).await?;
            let address = listener.local_addr()?;
            info!(%address, "serving metrics");
            Some((listener, metrics::install()?))
        }
        None => None,
    };
    let app = boot::build(config, Clock::system()).await?;
    if let Some(token) = setup::ensure_token(&app).await? {
        let file = setup::token_file(&app);
        let text = format!(
            "no user exists yet; create the first admin with `shoreguard server setup EMAIL` and this token, which is also in `{}`: {}",
            file.display(),
            token.expose()
        );
        // The token is also in the file: a full or closed standard output does not prevent the server from starting.
        if let Err(error) = output::print_started(text).await {
            warn!(%error, "the setup token was not printed");
        }
    }
    let watched = CancellationToken::new();
    let mut watchers = JoinSet::new();
    if let Some((listener, handle)) = metrics {
        watchers.spawn(watch(listener, handle, Arc::clone(&app), watched.clone()));
    }
    let listener = socket
        .listen(BACKLOG)
        .map_err(|error| not_bound(LISTEN, app.config.server.listen, &error))?;
    boot::start(&app);
    let running = listen::serve(&app, listener).await?;

    let signal = signals.next(&app).await;
    info!(signal, "stopping");
    app.stop.cancel();
    tokio::select! {
        () = async { running.stopped().await; app.drain().await } => info!("stopped"),
        signal = signals.next(&app) => warn!(signal, "stopped without waiting for what still runs"),
    }
    watched.cancel();
    while watchers.join_next().await.is_some() {}
    Ok(())
}

pub(super) async fn watch(
    listener: TcpListener,
    metrics: PrometheusHandle,
    app: Arc<App>,
    until: CancellationToken,
) {
    endpoint::serve(listener, metrics, move || health::is_ready(&app), until).await;
}

/// Listens on an address. `key` names it in the error.
pub(super) async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, CliError> {
    TcpListener::bind(address).await.map_err(|error| not_bound(key, address, &error))
}

/// Reserves an address. Connections to it are refused until the socket listens, which is when the server is ready.
fn reserve(address: SocketAddr) -> Result<TcpSocket, CliError> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As `TcpListener::bind` does, so that a restart need not wait for closed connections.
    socket.set_reuseaddr(true)?;
    socket.bind(address).map_err(|error| not_bound(LISTEN, address, &error))?;
    Ok(socket)
}

fn not_bound(key: &str, address: SocketAddr, error: &io::Error) -> CliError {
    CliError::Io(format!("`{key}`: `{address}` cannot be listened on: {error}"))
}

/// The signals that stop the process or reload its certificates.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, CliError> {
        let terminate = signal(SignalKind::terminate())?;
        let (interrupt, hangup) = (signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?);
        Ok(Self { terminate, interrupt, hangup })
    }

    /// Returns the name of the next signal to stop. Until then, each SIGHUP reloads the TLS files.
    pub(super) async fn next(&mut self, app: &App) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => app.part::<ListenerState>().reload(),
            }
        }
    }
}
