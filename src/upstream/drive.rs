//! The task that drives a connection: frames, resets, keepalive and closing.
//!
//! Invariants
//! - it ends with the connection, and then releases the connection's permit;
//! - a connection without streams closes: an idle one after the configured time, a retired one after at most
//!   [`CLOSING`], whether or not the gateway reads its last bytes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use super::bounds::ConnectionPermit;
use super::connection::Load;
use super::reaper::{Reaper, StreamHandle};

/// Interval of keepalive pings on a connection in use. A ping must be answered before the next one is due.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// How long a retired connection without streams may take to close.
const CLOSING: Duration = Duration::from_secs(20);

/// State of the task that drives a connection.
pub(crate) struct ConnectionTask {
    /// Usage counters of the connection.
    pub(crate) load: Arc<Load>,
    /// Name of the gateway.
    pub(crate) gateway: Arc<str>,
    /// How long it stays open unused.
    pub(crate) idle_timeout: Duration,
    /// Its streams that are to be reset.
    pub(crate) reaper: Reaper,
    /// Held until the task ends.
    pub(crate) _permit: Option<ConnectionPermit>,
}

impl ConnectionTask {
    /// Runs until the connection ends.
    pub(crate) async fn run<T: AsyncRead + AsyncWrite + Unpin>(
        mut self,
        mut h2: h2::client::Connection<T, Bytes>,
        mut ping: Option<PingPong>,
        mut abandoned: UnboundedReceiver<StreamHandle>,
    ) {
        let mut ping_sent = false;
        let mut opened = 0;
        let (mut last_used, mut keepalive) = (Instant::now(), Instant::now() + KEEPALIVE);
        loop {
            let reap = self.reaper.next_reset();
            tokio::select! {
                biased;
                ended = &mut h2 => {
                    if let Err(error) = ended {
                        debug!(gateway = %self.gateway, %error, "a connection has ended");
                    }
                    break;
                }
                Some(handle) = abandoned.recv() => {
                    self.reaper.push(handle);
                    while let Ok(more) = abandoned.try_recv() {
                        self.reaper.push(more);
                    }
                    self.reap();
                }
                () = sleep_until(reap.unwrap_or(keepalive)), if reap.is_some() => self.reap(),
                () = wait_for_pong(&mut ping), if ping_sent => ping_sent = false,
                () = sleep_until(keepalive.min(last_used + self.idle_timeout())) => {
                    let now = Instant::now();
                    let since = std::mem::replace(&mut opened, self.load.opened.load(Ordering::Relaxed));
                    if self.load.active() > 0 || opened != since {
                        last_used = now;
                    } else if now >= last_used + self.idle_timeout() && self.load.close_idle() {
                        break;
                    }
                    if now >= keepalive {
                        if ping_sent {
                            warn!(gateway = %self.gateway, "a connection no longer responds");
                            break;
                        }
                        keepalive = now + KEEPALIVE;
                        ping_sent = self.load.active() > 0 && send_ping(&mut ping);
                    }
                }
            }
        }
        self.load.retire();
    }

    fn reap(&mut self) {
        self.reaper.reset_due(Instant::now());
        self.load.backlog.store(self.reaper.backlog(), Ordering::Relaxed);
    }

    /// Returns how long it stays open without streams.
    fn idle_timeout(&self) -> Duration {
        if self.load.is_retired() { self.idle_timeout.min(CLOSING) } else { self.idle_timeout }
    }
}

fn send_ping(ping: &mut Option<PingPong>) -> bool {
    ping.as_mut().is_some_and(|ping| ping.send_ping(Ping::opaque()).is_ok())
}

async fn wait_for_pong(ping: &mut Option<PingPong>) {
    if let Some(ping) = ping {
        // An error also ends the connection, which is handled in the loop.
        let _ = std::future::poll_fn(|cx| ping.poll_pong(cx)).await;
    }
}
