//! HTTP/2 without a client library, for requests that a library would not send and details that it would not show.

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::request::Builder;
use http::{HeaderMap, Request};
use prost::Message;
use tokio::net::TcpStream;

use crate::support::server::TestServer;

/// Window of a connection. It is large, so that only the windows of its streams matter.
const CONNECTION_WINDOW: u32 = 1 << 30;

/// A connection to a server.
pub(crate) struct RawClient {
    send: SendRequest<Bytes>,
    authorization: String,
    address: String,
}

/// A complete response.
#[derive(Debug)]
pub(crate) struct RawResponse {
    pub(crate) headers: HeaderMap,
    pub(crate) data: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl RawResponse {
    /// Returns code and reason of a refusal, which are in the headers.
    pub(crate) fn refusal(&self) -> (&str, String) {
        let status = tonic::Status::from_header_map(&self.headers).unwrap();
        (self.headers["grpc-status"].to_str().unwrap(), crate::support::server::reason(&status))
    }

    /// Collects the response to a request that was sent.
    pub(crate) async fn read(response: ResponseFuture) -> Self {
        let (head, body) = response.await.unwrap().into_parts();
        let (data, trailers) = read(body).await;
        Self { headers: head.headers, data, trailers }
    }

    /// Returns the status from the trailers, or from the headers if there are no trailers.
    pub(crate) fn status(&self) -> tonic::Status {
        let trailers = self.trailers.as_ref().unwrap_or(&self.headers);
        tonic::Status::from_header_map(trailers).unwrap()
    }

    /// Returns the code from the trailers, or from the headers if there are no trailers.
    pub(crate) fn code(&self) -> &str {
        let trailers = self.trailers.as_ref().unwrap_or(&self.headers);
        trailers["grpc-status"].to_str().unwrap()
    }
}

/// Spawns a task that runs until the test's runtime ends.
#[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
pub(crate) fn spawn_task<F>(task: F)
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(task);
}

/// Encodes a message with its length prefix.
pub(crate) fn encode_framed(message: &impl Message) -> Bytes {
    add_length_prefix(&message.encode_to_vec())
}

/// Adds the length prefix of a message.
pub(crate) fn add_length_prefix(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.put_slice(message);
    frame.freeze()
}

impl RawClient {
    /// Connects as the admin.
    pub(crate) async fn connect(sg: &TestServer) -> Self {
        Self::connect_as(sg, &sg.admin_key).await
    }

    /// Connects with a key.
    pub(crate) async fn connect_as(sg: &TestServer, key: &str) -> Self {
        let socket = TcpStream::connect(sg.address).await.unwrap();
        let (send, connection) = h2::client::handshake(socket).await.unwrap();
        spawn_task(connection);
        let authorization = format!("Bearer {key}");
        Self { send, authorization, address: sg.address.to_string() }
    }

    /// Connects with a key and a flow-control window of `window` bytes per response.
    pub(crate) async fn connect_with_window(sg: &TestServer, key: &str, window: u32) -> Self {
        Self::connect_to(&sg.address.to_string(), key, window).await
    }

    /// Connects to an address, with a flow-control window of `window` bytes per response.
    pub(crate) async fn connect_to(address: &str, key: &str, window: u32) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(CONNECTION_WINDOW);
        let (send, connection) = builder.handshake(socket).await.unwrap();
        spawn_task(connection);
        Self { send, authorization: format!("Bearer {key}"), address: address.to_owned() }
    }

    /// Builds a call of a method of the upstream.
    pub(crate) fn request(&self, method: &str, gateway: &str) -> Builder {
        self.post(&format!("/openshell.v1.OpenShell/{method}"))
            .header("x-shoreguard-gateway", gateway)
    }

    /// Builds a call of any method.
    pub(crate) fn post(&self, path: &str) -> Builder {
        Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", &self.authorization)
    }

    /// Opens a stream. The test sends its messages and reads its response.
    pub(crate) fn open(&mut self, request: Builder) -> (ResponseFuture, SendStream<Bytes>) {
        self.send.send_request(request.body(()).unwrap(), false).unwrap()
    }

    /// Waits until the connection accepts no more calls.
    pub(crate) async fn wait_closed(&mut self) {
        while std::future::poll_fn(|cx| self.send.poll_ready(cx)).await.is_ok() {
            crate::support::pause().await;
        }
    }

    /// Sends all chunks and reads the whole response.
    pub(crate) async fn call(&mut self, request: Builder, chunks: &[Bytes]) -> RawResponse {
        let (response, mut stream) = self.open(request);
        // A call may be refused before its body was sent.
        let mut sent = chunks.iter().map(|chunk| stream.send_data(chunk.clone(), false));
        if sent.all(|sent| sent.is_ok()) {
            let _ = stream.send_data(Bytes::new(), true);
        }
        RawResponse::read(response).await
    }
}

/// Reads a body and its trailers to the end.
pub(crate) async fn read(mut body: RecvStream) -> (Bytes, Option<HeaderMap>) {
    let mut all = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    (all.freeze(), body.trailers().await.unwrap())
}
