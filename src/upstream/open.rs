//! Opens connections to gateways: TCP, TLS, HTTP/2, and the call of `Health` that finds the generation.
//!
//! Invariant: every step has a timeout, and a failure is counted in the gateway's [`FailureLog`](super::failure_log).

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::uri::{Authority, Scheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::{Instant, timeout};

use super::connection::{BACKLOG_MAX, Connection, Load, Purpose, RESETS_MAX};
use super::drive::ConnectionTask;
use super::first_bytes::{self, FirstBytes};
use super::generation::DetectedGeneration;
use super::lane::Lane;
use super::probe::{HEALTH, Probe};
use super::reaper::Reaper;
use super::targets::Target;
use super::unreachable::OpenError;
use crate::config::Gateways;
use crate::net::connect::{self, Protocol};
use crate::net::socket::Socket;
use crate::net::x509;

/// Send buffer of one request, until the gateway reads it.
const SEND_BUFFER_BYTES_MAX: usize = 256 << 10;
/// Maximum size of the response headers.
const HEADER_BYTES_MAX: u32 = 64 << 10;
/// How long reset streams are remembered, so that late frames are not an error.
const RESET_MEMORY: Duration = Duration::from_secs(30);

impl Connection {
    /// Connects for unary calls and probes the version, within the configured timeouts.
    ///
    /// # Errors
    /// Why there is no connection. It was logged, if a line was due.
    pub(crate) async fn open(target: &Target, config: &Gateways) -> Result<Self, OpenError> {
        let purpose = Purpose { lane: Lane::Unary, connection_permit: None, spare: Weak::new() };
        Self::open_for(purpose, target, config).await
    }

    /// Connects for a purpose and probes the version.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub(crate) async fn open_for(
        purpose: Purpose,
        target: &Target,
        config: &Gateways,
    ) -> Result<Self, OpenError> {
        let opened = Self::try_open(purpose, target, config).await;
        opened.inspect_err(|error| target.failures.warn(&target.name, error))
    }

    async fn try_open(
        purpose: Purpose,
        target: &Target,
        config: &Gateways,
    ) -> Result<Self, OpenError> {
        let within = config.connect_timeout();
        target.identity.ensure_credential().await.map_err(OpenError::Refused)?;
        let (host, networks) = (&target.host, &config.allowed_networks);
        let stream = connect::connect(&target.names, host, target.port, networks, within)
            .await
            .map_err(OpenError::Connect)?;
        let Some(tls) = &target.tls else {
            let (stream, first_bytes) = first_bytes::record(stream);
            let connection = Self::handshake(stream, purpose, target, config).await?;
            let probe = connection.probe_health(target, config, Some(&first_bytes)).await?;
            return Ok(Self { probe, ..connection });
        };
        let stream = connect::tls_handshake(stream, host, tls, Protocol::Http2, within)
            .await
            .map_err(OpenError::Connect)?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let server_cert_expires_at = certificate.and_then(|der| x509::expiry(der));
        let stream = Socket::new(stream, ());
        let connection = Self::handshake(stream, purpose, target, config).await?;
        let probe = connection.probe_health(target, config, None).await?;
        Ok(Self { probe: Probe { server_cert_expires_at, ..probe }, ..connection })
    }

    /// Calls `Health`. `first_bytes` is `None` on a TLS connection.
    async fn probe_health(
        &self,
        target: &Target,
        config: &Gateways,
        first_bytes: Option<&FirstBytes>,
    ) -> Result<Probe, OpenError> {
        let sent_at = Instant::now();
        let answer = timeout(config.probe_timeout(), self.call_unary(HEALTH, &[])).await;
        let answer = answer
            .map_err(|_| OpenError::Silent)?
            .map_err(|error| OpenError::from_health(error, first_bytes))?;
        let probe = Probe::from_health(answer, sent_at.elapsed());
        let unreadable =
            || OpenError::Broken("its answer to `Health` cannot be decoded".to_owned());
        let probe = probe.ok_or_else(unreadable)?;
        let generation = target.pinned.map_or(probe.generation, DetectedGeneration::Known);
        Ok(Probe { generation, ..probe })
    }

    async fn handshake(
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        purpose: Purpose,
        target: &Target,
        config: &Gateways,
    ) -> Result<Self, OpenError> {
        let failed = |why: &dyn std::fmt::Display| OpenError::Broken(why.to_string());
        let Purpose { lane, connection_permit, spare } = purpose;
        let handshake = h2::client::Builder::new()
            .initial_window_size(lane.stream_window())
            .initial_connection_window_size(lane.connection_window())
            .max_send_buffer_size(SEND_BUFFER_BYTES_MAX)
            .max_header_list_size(HEADER_BYTES_MAX)
            .max_concurrent_reset_streams(RESETS_MAX + BACKLOG_MAX)
            .reset_stream_duration(RESET_MEMORY)
            .enable_push(false)
            .handshake(io);
        let handshake = timeout(config.connect_timeout(), handshake).await;
        let (send, mut h2) =
            handshake.map_err(|_| OpenError::Silent)?.map_err(|error| failed(&error))?;
        let ping = h2.ping_pong();
        let (abandoned, abandoned_handles) = unbounded_channel();
        let load = Arc::new(Load::default());
        let task = ConnectionTask {
            load: Arc::clone(&load),
            gateway: Arc::clone(&target.name),
            idle_timeout: config.idle(),
            reaper: Reaper::default(),
            _permit: connection_permit,
        };
        crate::net::spawn_owned(async move { task.run(h2, ping, abandoned_handles).await });
        let authority = authority(&target.host, target.port).map_err(|error| failed(&error))?;
        Ok(Self {
            send,
            abandoned,
            load,
            probe: Probe::from_health(Bytes::new(), Duration::ZERO)
                .expect("no bytes are a message"),
            version: target.connection_version,
            scheme: if target.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP },
            authority,
            identity: target.identity.clone(),
            budget: Arc::clone(&target.budget),
            failures: Arc::clone(&target.failures),
            gateway_header: HeaderValue::from_str(&target.name).map_err(|error| failed(&error))?,
            gateway: Arc::clone(&target.name),
            lane,
            spare,
        })
    }
}

fn authority(host: &str, port: u16) -> Result<Authority, http::uri::InvalidUri> {
    let text =
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    Authority::try_from(text)
}
