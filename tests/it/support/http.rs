//! Plain HTTP/1.1, for the requests of stock clients other than calls, and for requests that no client sends.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A complete response.
#[derive(Debug)]
pub(crate) struct HttpResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl HttpResponse {
    /// Parses the body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Returns a string of the JSON.
    pub(crate) fn text(&self, key: &str) -> String {
        let json = self.json();
        json[key].as_str().unwrap_or_else(|| panic!("no `{key}`: {self:?}")).to_owned()
    }

    /// Returns status and OAuth error.
    pub(crate) fn refusal(&self) -> (u16, String) {
        (self.status.as_u16(), self.text("error"))
    }
}

/// Sends one request on a connection of its own.
pub(crate) async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> HttpResponse {
    let socket = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
    let asking = async {
        let answer = sender.send_request(request).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        drop(sender);
        HttpResponse { status: head.status, headers: head.headers, body }
    };
    tokio::join!(asking, connection).0
}

/// Sends a GET.
pub(crate) async fn get(address: SocketAddr, path: &str) -> HttpResponse {
    let request = Request::get(path).header("host", address.to_string());
    send(address, request.body(Full::default()).unwrap()).await
}

/// Sends a POST of a form, with additional headers.
pub(crate) async fn post(
    address: SocketAddr,
    path: &str,
    form: &[(&str, &str)],
    headers: &[(&str, &str)],
) -> HttpResponse {
    let mut request = Request::post(path)
        .header("host", address.to_string())
        .header("content-type", "application/x-www-form-urlencoded");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(address, request.body(Full::from(encode_form(form))).unwrap()).await
}

/// Encodes a form.
pub(crate) fn encode_form(form: &[(&str, &str)]) -> String {
    let escape = |text: &str| {
        text.bytes().fold(String::new(), |all, byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                all + &char::from(byte).to_string()
            }
            b' ' => all + "+",
            other => all + &format!("%{other:02X}"),
        })
    };
    let pairs: Vec<_> = form.iter().map(|(k, v)| format!("{}={}", escape(k), escape(v))).collect();
    pairs.join("&")
}

/// Sends bytes and reads until the other end closes the connection.
pub(crate) async fn send_until_closed(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut read = Vec::new();
    // A reset ends the connection as well.
    let _ = socket.read_to_end(&mut read).await;
    read
}
