//! The connection of the command line to a server: endpoint, credential, TLS, timeout and repeats.
//!
//! Invariants
//! - the credential is sent only to the server that it is for, and not without TLS over a network unless a flag allows
//!   it;
//! - public methods are called without a credential, so that a stale one does not matter;
//! - a refresh token is used once, under the lock of the file that stores it.

mod client;
mod codec;
mod exchange;
mod generated;
mod hints;
mod interrupt;
mod refusal;
mod retry;
mod rules;
mod session;
mod store;
mod target;
#[cfg(test)]
mod tests;
mod tls;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::output;
use crate::secret::Secret;

pub(super) use client::Client;
pub(super) use interrupt::{interruptible, until};
pub(super) use refusal::{format_status, reason};
pub(super) use retry::StreamAttempts;
pub(super) use store::{Context, Contexts, Credential, Session, Store, check_name};
pub(super) use target::{DEFAULT_ENDPOINT, Environment, Place};

/// The server and the credential.
#[derive(Debug, Args)]
pub(super) struct ConnectArgs {
    #[command(flatten)]
    pub(super) server: ServerArgs,
    /// An API key or session token. Other users of this host can see it: use `SHOREGUARD_KEY` or `shoreguard login`.
    #[arg(long, hide = true, value_parser = parse_secret)]
    pub(super) key: Option<Secret>,
}

/// The server.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct ServerArgs {
    /// The context with server and credential. The default is the current one.
    #[arg(long, value_name = "NAME")]
    pub(super) context: Option<String>,
    /// URL of the server. The default is `SHOREGUARD_ENDPOINT`, then that of the context, then `http://127.0.0.1:8443`.
    #[arg(long, value_name = "URL")]
    pub(super) endpoint: Option<String>,
    /// The CA certificate of the server, PEM. By default that of the context, or those of the system.
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// Allows sending credentials without TLS to an address that is not loopback.
    #[arg(long)]
    pub(super) allow_plaintext: bool,
    /// Timeout of a response, in seconds. The default is 30 for a single response and no limit for a stream.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(super) timeout: Option<u64>,
}

impl ServerArgs {
    /// Returns the timeout that the user gave.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.timeout.map(Duration::from_secs)
    }
}

impl ConnectArgs {
    /// Returns the timeout that the user gave.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.server.timeout()
    }

    /// Returns the arguments of a command that makes its own credential.
    pub(super) fn without_credential(server: ServerArgs) -> Self {
        // An empty key means no credential, even if the environment or the context has one.
        Self { server, key: Some(Secret::new("")) }
    }

    /// Warns of a key that is visible to other users of this host.
    fn warn_of_visible_key(&self) {
        let has_key = self.key.as_ref().is_some_and(|key| !key.expose().trim().is_empty());
        if has_key && !output::is_captured() {
            output::print_error(
                "warning: other users of this host can see `--key`: use SHOREGUARD_KEY or `shoreguard login`",
            );
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "clap's signature")]
fn parse_secret(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text))
}
