//! File descriptors of the process, and the numbers that connections of callers and to receivers of webhooks can use.
//!
//! Invariants
//! - descriptors that the process needs itself are available to neither: files, the database, OIDC issuers, DNS
//!   servers, and the metrics listener;
//! - of the others, callers can use at most half, receivers of webhooks at most a third, and the rest is reserved for
//!   gateways and their issuers;
//! - if no descriptor is left, the acceptor closes new connections with a spare one instead of letting them wait.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::task::Poll;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tracing::warn;

use super::connections::CLOSING_MAX;
use crate::config::Config;
use crate::oidc::provider::CONNECTIONS_MAX as ISSUER_CONNECTIONS_MAX;
use crate::telemetry::endpoint;

/// Standard streams, listeners, timers, signals, resolvers, and files that are read occasionally.
const PROCESS_DESCRIPTORS: u64 = 64;
/// Descriptors of the runtime of each core.
const DESCRIPTORS_PER_CORE: u64 = 8;
/// Descriptors of one database connection: for SQLite the file, its log and its index.
const DESCRIPTORS_PER_DATABASE_CONNECTION: u64 = 3;
/// Descriptors of one boot hook: its pipes and its process.
const DESCRIPTORS_PER_BOOT_HOOK: u64 = 8;
/// Minimum number of connections of callers, and of those to receivers of webhooks.
const CONNECTIONS_MIN: u64 = 16;
/// Assumed limit if the system reports none.
const ASSUMED_LIMIT: u64 = 1 << 20;

/// Raises the soft limit of this process to the hard limit, and returns it.
pub(super) fn raise_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        warn!(%error, "the limit of open files is not raised");
        return limit.current.unwrap_or(ASSUMED_LIMIT);
    }
    limit.maximum.unwrap_or(ASSUMED_LIMIT)
}

/// The connections that fit into the descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// Connections of callers.
    pub(super) callers: usize,
    /// Connections to receivers of webhooks and mail servers.
    pub(super) receivers: usize,
}

/// Returns how many connections fit into the descriptors. Logs if they are too few.
pub(super) fn room(descriptors: u64, config: &Config, cores: usize) -> Room {
    let own = PROCESS_DESCRIPTORS
        + DESCRIPTORS_PER_CORE * cores as u64
        + DESCRIPTORS_PER_DATABASE_CONNECTION
            * u64::from(config.database.readers + config.database.pool_size)
        + DESCRIPTORS_PER_BOOT_HOOK * u64::from(config.boot_hooks.running_max)
        + (ISSUER_CONNECTIONS_MAX * config.oidc.providers.len()) as u64
        + 2 * (CLOSING_MAX + endpoint::CONNECTIONS_MAX) as u64;
    let left = descriptors.saturating_sub(own);
    if left / 2 < CONNECTIONS_MIN {
        warn!(descriptors, own, "the limit of open files is too low for this configuration");
    }
    let at_least = |count: u64| usize::try_from(count.max(CONNECTIONS_MIN)).unwrap_or(usize::MAX);
    Room { callers: at_least(left / 2), receivers: at_least(left / 3) }
}

/// Returns whether accepting failed because the system has no descriptor or memory left, which persists.
pub(super) fn are_exhausted(error: &io::Error) -> bool {
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| exhausted.contains(&errno))
}

/// A descriptor in reserve for when no other is left.
#[derive(Debug)]
pub(super) struct SpareDescriptor(Option<File>);

impl SpareDescriptor {
    pub(super) fn new() -> Self {
        Self(File::open("/dev/null").ok())
    }

    /// Accepts one connection with the spare descriptor and closes it, so that its caller notices at once. Returns
    /// whether a connection was waiting.
    pub(super) async fn refuse_next(&mut self, listener: &TcpListener) -> bool {
        self.0 = None;
        // Polls once: accepts a waiting connection, and does not wait for one.
        let accepted = poll_fn(|cx| Poll::Ready(listener.poll_accept(cx))).await;
        let refused = matches!(accepted, Poll::Ready(Ok(_)));
        drop(accepted);
        *self = Self::new();
        refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::webhooks::domain::WEBHOOKS_MAX;

    #[test]
    fn callers_get_half_of_the_free_file_descriptors() {
        let config = Config::from_toml("").unwrap();
        let callers = |descriptors| room(descriptors, &config, 2).callers;
        let (small, large) = (callers(1_024), callers(65_536));
        assert!((200..=400).contains(&small), "{small}");
        assert_eq!(large - small, (65_536 - 1_024) / 2);
        assert_eq!(callers(64), 16, "never none");
    }

    #[test]
    fn e13_receivers_get_a_third_of_the_free_file_descriptors_which_suffices_for_all_webhooks() {
        let config = Config::from_toml("").unwrap();
        let receivers = |descriptors| room(descriptors, &config, 2).receivers;
        let webhooks = usize::try_from(WEBHOOKS_MAX).unwrap();
        assert!(receivers(1_024) > webhooks, "one for each, and one for tests");
        assert_eq!(receivers(65_536) - receivers(1_024), (65_536 - 1_024) / 3);
        assert_eq!(receivers(64), 16, "never none");
    }

    #[test]
    fn each_oidc_issuer_has_descriptors_in_reserve() {
        let with = |providers: usize| {
            let provider = |n: usize| {
                let (name, issuer) =
                    (format!("name = 'p{n}'"), format!("issuer = 'https://p{n}.example'"));
                format!("[[oidc.providers]]\n{name}\n{issuer}\n")
            };
            let text: String = (0..providers).map(provider).collect();
            room(1_024, &Config::from_toml(&text).unwrap(), 2).callers
        };
        assert_eq!(with(0) - with(2), ISSUER_CONNECTIONS_MAX);
    }

    #[test]
    fn only_descriptor_limits_count_as_exhaustion() {
        assert!(are_exhausted(&Errno::MFILE.into()) && are_exhausted(&Errno::NFILE.into()));
        assert!(!are_exhausted(&Errno::CONNABORTED.into()));
    }

    #[tokio::test]
    async fn the_spare_descriptor_closes_a_waiting_connection_without_blocking() {
        use tokio::io::AsyncReadExt as _;

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut spare = SpareDescriptor::new();
        assert!(!spare.refuse_next(&listener).await);
        let address = listener.local_addr().unwrap();
        let mut caller = tokio::net::TcpStream::connect(address).await.unwrap();
        while !spare.refuse_next(&listener).await {
            tokio::task::yield_now().await;
        }
        let mut read = [0];
        assert!(matches!(caller.read(&mut read).await, Ok(0) | Err(_)));
        assert!(spare.0.is_some());
    }
}
