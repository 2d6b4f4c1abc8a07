//! HTTP/1.1 client for external services: OIDC issuers and other configured hosts.
//!
//! Invariants
//! - the address is checked when it is connected to ([`super::guard`]), regardless of the name in the URL;
//! - a redirect is an error: its target was chosen by the peer, not by an authorized user;
//! - a call has one deadline, from the first packet to the last, and a response has a maximum size;
//! - each call uses a separate connection, so that nothing of one call is visible to the next;
//! - the cause of a failure is logged here, once; the error contains only the host.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::warn;

use super::connect::{self, ConnectError, Protocol};
use super::names::Resolver;
use super::roots::client_tls;
use super::without_brackets;
use crate::error::{Error, Reason, error_chain};

/// Maximum size of the status line and headers of a response, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Maximum number of headers of a response.
const HEADERS_MAX: usize = 100;

/// Limits of one call.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Time from the name lookup to the last byte of the response.
    pub deadline: Duration,
    /// Maximum size of the response body, in bytes.
    pub answer_bytes_max: usize,
}

/// Client for external services.
#[derive(Clone)]
pub struct Client {
    resolver: Resolver,
    allowed_networks: Arc<[IpNet]>,
    tls: Arc<ClientConfig>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("allowed_networks", &self.allowed_networks)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Creates a client that connects to addresses that the guard allows and to these networks, and trusts these CAs.
    pub fn new(
        allowed_networks: &[IpNet],
        roots: impl Into<Arc<RootCertStore>>,
    ) -> Result<Self, Error> {
        let mut tls = client_tls(roots)?.with_no_client_auth();
        tls.alpn_protocols = Protocol::Http1.alpn();
        let (resolver, tls) = (Resolver::system(), Arc::new(tls));
        Ok(Self { resolver, allowed_networks: allowed_networks.into(), tls })
    }

    /// Replaces the system's resolver.
    #[must_use]
    pub fn with_resolver(self, resolver: Resolver) -> Self {
        Self { resolver, ..self }
    }

    /// Sends one request with an absolute URL and reads the complete response. Except for redirects, the caller
    /// interprets the status and the body.
    ///
    /// # Errors
    /// `Invalid` for an invalid URL, `ADDRESS_FORBIDDEN`, and `HOST_UNREACHABLE` for all other failures.
    pub async fn send(
        &self,
        request: Request<Bytes>,
        limits: RequestLimits,
    ) -> Result<Response<Bytes>, Error> {
        let target = Destination::from_uri(request.uri())?;
        let host = target.host.clone();
        match tokio::time::timeout(limits.deadline, self.exchange(target, request, limits)).await {
            Err(_) => Err(unreachable_host(&host, "no answer in time")),
            Ok(Err(error)) => Err(error),
            Ok(Ok(answer)) if answer.status().is_redirection() => {
                Err(unreachable_host(&host, "a redirect"))
            }
            Ok(Ok(answer)) => Ok(answer),
        }
    }

    async fn exchange(
        &self,
        target: Destination,
        request: Request<Bytes>,
        limits: RequestLimits,
    ) -> Result<Response<Bytes>, Error> {
        let (host, within) = (target.host.as_str(), limits.deadline);
        let request = target.prepare(request)?;
        let stream =
            connect::connect(&self.resolver, host, target.port, &self.allowed_networks, within)
                .await
                .map_err(|error| not_connected(host, error))?;
        if target.tls {
            let stream = connect::tls_handshake(stream, host, &self.tls, Protocol::Http1, within)
                .await
                .map_err(|error| not_connected(host, error))?;
            send_http1(stream, host, request, limits).await
        } else {
            send_http1(stream, host, request, limits).await
        }
    }
}

/// Destination of a URL.
struct Destination {
    tls: bool,
    host: String,
    port: u16,
    authority: HeaderValue,
}

impl Destination {
    fn from_uri(uri: &Uri) -> Result<Self, Error> {
        let bad = |why: &str| Error::invalid("url", why);
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad("must begin with `https://` or `http://`")),
        };
        let authority = uri.authority().ok_or_else(|| bad("must name a host"))?;
        // A name before an `@` looks like the host but is a user.
        if authority.as_str().contains('@') {
            return Err(bad("must name no user"));
        }
        let host = without_brackets(authority.host()).to_owned();
        if host.is_empty() {
            return Err(bad("must name a host"));
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let authority = HeaderValue::from_str(authority.as_str()).map_err(Error::internal)?;
        Ok(Self { tls, host, port, authority })
    }

    /// Returns the request as it is sent on the connection: only the path, with a `Host` header.
    fn prepare(&self, request: Request<Bytes>) -> Result<Request<Full<Bytes>>, Error> {
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = path.parse().map_err(Error::internal)?;
        head.headers.insert(HOST, self.authority.clone());
        head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        // Some servers reject requests without a user agent.
        head.headers.insert(USER_AGENT, HeaderValue::from_static("shoreguard"));
        Ok(Request::from_parts(head, Full::new(body)))
    }
}

async fn send_http1(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    host: &str,
    request: Request<Full<Bytes>>,
    limits: RequestLimits,
) -> Result<Response<Bytes>, Error> {
    let broken = |error: hyper::Error| unreachable_host(host, &error_chain(&error));
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(io))
        .await
        .map_err(broken)?;
    let exchange = async {
        let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let body = Limited::new(body, limits.answer_bytes_max).collect().await;
        let body = body.map_err(|error| unreachable_host(host, &error_chain(&*error)))?.to_bytes();
        Ok(Response::from_parts(head, body))
    };
    // If the connection ends, the exchange reports the error.
    let driven = async {
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        biased;
        answer = exchange => answer,
        answer = driven => answer,
    }
}

/// Returns the error for a host without a connection, and logs why. The error contains only the host.
fn not_connected(host: &str, error: ConnectError) -> Error {
    if let ConnectError::Forbidden(error) = error {
        return error;
    }
    unreachable_host(host, &error.to_string())
}

fn unreachable_host(host: &str, why: &str) -> Error {
    warn!(host, why, "a host does not respond correctly");
    Error::unavailable(Reason::HostUnreachable, format!("host `{host}` does not respond correctly"))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::ServerConfig;
    use rustls_pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;
    use tokio_rustls::TlsAcceptor;

    use super::super::roots::root_certificates;
    use super::*;

    const LIMITS: RequestLimits =
        RequestLimits { deadline: Duration::from_secs(5), answer_bytes_max: 16 };

    /// Accepts one connection, sends this response, and returns the request. Never responds if `answer` is empty.
    async fn serve(
        tasks: &mut JoinSet<String>,
        answer: &'static str,
        tls: Option<TlsAcceptor>,
    ) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tasks.spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            match tls {
                None => respond(stream, answer).await,
                Some(tls) => respond(tls.accept(stream).await.unwrap(), answer).await,
            }
        });
        address
    }

    async fn respond(mut io: impl AsyncRead + AsyncWrite + Unpin, answer: &str) -> String {
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let Ok(byte) = io.read_u8().await else { break };
            asked.push(byte);
        }
        if answer.is_empty() {
            std::future::pending::<()>().await;
        }
        let _ = io.write_all(answer.as_bytes()).await;
        let _ = io.shutdown().await;
        String::from_utf8(asked).unwrap()
    }

    fn client() -> Client {
        let loopback = ["127.0.0.0/8".parse().unwrap()];
        Client::new(&loopback, RootCertStore::empty()).unwrap()
    }

    fn get(url: String) -> Request<Bytes> {
        Request::get(url).body(Bytes::new()).unwrap()
    }

    async fn fetch_response(answer: &'static str) -> Result<Response<Bytes>, Error> {
        let mut tasks = JoinSet::new();
        let address = serve(&mut tasks, answer, None).await;
        client().send(get(format!("http://{address}/a")), LIMITS).await
    }

    #[tokio::test]
    async fn a_request_sends_the_host_header_and_returns_the_response() {
        let mut tasks = JoinSet::new();
        let answer = "HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnone";
        let address = serve(&mut tasks, answer, None).await;
        let response = client().send(get(format!("http://{address}/a?b=c")), LIMITS).await.unwrap();
        assert_eq!((response.status().as_u16(), &response.body()[..]), (404, &b"none"[..]));
        let asked = tasks.join_next().await.unwrap().unwrap();
        assert!(asked.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains(&format!("host: {address}\r\n")), "{asked}");
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let refused = fetch_response(
            "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n",
        )
        .await
        .unwrap_err();
        assert_eq!(refused.to_string(), "host `127.0.0.1` does not respond correctly");
    }

    #[tokio::test]
    async fn a_response_over_the_size_limit_fails_with_any_framing() {
        let fits = "HTTP/1.1 200 OK\r\n\r\n0123456789abcdef";
        assert_eq!(fetch_response(fits).await.unwrap().body().len(), LIMITS.answer_bytes_max);
        for long in [
            "HTTP/1.1 200 OK\r\n\r\n0123456789abcdefg",
            "HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n0123456789abcdefg",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n11\r\n0123456789abcdefg\r\n0\r\n\r\n",
        ] {
            assert!(fetch_response(long).await.is_err(), "{long}");
        }
    }

    #[tokio::test]
    async fn an_invalid_or_truncated_response_is_an_error() {
        for broken in ["no HTTP\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort"] {
            assert!(fetch_response(broken).await.is_err(), "{broken}");
        }
    }

    #[tokio::test]
    async fn a_request_that_exceeds_its_deadline_is_unavailable() {
        let mut tasks = JoinSet::new();
        let address = serve(&mut tasks, "", None).await;
        let limits = RequestLimits { deadline: Duration::from_millis(50), ..LIMITS };
        let late = client().send(get(format!("http://{address}/")), limits).await.unwrap_err();
        assert!(matches!(late, Error::Unavailable { reason: Reason::HostUnreachable, .. }));
    }

    #[tokio::test]
    async fn a_forbidden_address_is_refused_in_every_url_form() {
        let closed = Client::new(&[], RootCertStore::empty()).unwrap();
        for url in ["http://127.0.0.1:1/", "http://localhost:1/", "https://[::ffff:127.0.0.1]:1/"] {
            let refused = closed.send(get(url.to_owned()), LIMITS).await.unwrap_err();
            assert!(
                matches!(refused, Error::Refused { reason: Reason::AddressForbidden, .. }),
                "{url}"
            );
        }
        for url in ["ftp://example.com/", "/a", "http://localhost@example.com/"] {
            let refused = closed.send(get(url.to_owned()), LIMITS).await.unwrap_err();
            assert!(matches!(refused, Error::Invalid { .. }), "{url}");
        }
    }

    #[tokio::test]
    async fn only_a_host_with_a_certificate_of_a_trusted_ca_is_accepted() {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let mut tasks = JoinSet::new();
        let address = serve(&mut tasks, answer, Some(acceptor)).await;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), cert.pem()).unwrap();
        let both = ["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let trusting = Client::new(&both, root_certificates(Some(file.path())).unwrap()).unwrap();
        let url = format!("https://localhost:{}/", address.port());
        assert_eq!(&trusting.send(get(url), LIMITS).await.unwrap().body()[..], b"ok");

        std::fs::write(file.path(), "nothing").unwrap();
        assert!(root_certificates(Some(file.path())).is_err());
    }
}
