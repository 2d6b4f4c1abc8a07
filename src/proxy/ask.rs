//! What is asked of a gateway on our own account, on a connection that stands: how it is, and whether it knows us.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::timeout;

use super::connection::Connection;
use crate::config::Gateways;
use crate::openshell::GATEWAY_INFO;
use crate::openshell::budget::Draw;

/// The largest answer that we read on our own account: a page of sandboxes with their policies.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// What [`Connection::ask`] says of a caller who is known and may not.
const NOT_PERMITTED: &str = "gRPC status 7";

impl Connection {
    /// Whether the gateway knows who we are: it is asked something that takes a credential. The error is for the log.
    pub(crate) async fn is_known(&self, config: &Gateways) -> Result<(), String> {
        match timeout(config.probe_timeout(), self.ask(GATEWAY_INFO, &[])).await {
            Err(_) => Err("no answer in time".to_owned()),
            Ok(Err(why)) if why == NOT_PERMITTED => Ok(()),
            Ok(answer) => answer.map(|_| ()),
        }
    }

    /// One unary call on our own account. The error is for the log.
    pub(crate) async fn ask(&self, path: &'static str, message: &[u8]) -> Result<Bytes, String> {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        if let Some(authorization) = self.authorization() {
            headers.insert(AUTHORIZATION, authorization);
        }
        let text = |error: h2::Error| error.to_string();
        let (response, mut request) = self.start(path, headers, false).map_err(text)?;
        let mut frame = BytesMut::with_capacity(5 + message.len());
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.len()).map_err(|error| error.to_string())?);
        frame.put_slice(message);
        request.send_data(frame.freeze(), true).map_err(text)?;
        let (parts, mut body) = response.await.map_err(text)?.into_parts();
        if parts.status != StatusCode::OK {
            return Err(format!("HTTP {}", parts.status));
        }
        let mut answer = BytesMut::new();
        while let Some(data) = body.data().await {
            let data = data.map_err(text)?;
            body.flow_control().release_capacity(data.len()).map_err(text)?;
            // Counted, and refused where more than a probe is asked: see the callers.
            let _ = self.budget().spend(data.len(), 0, Draw::Single);
            if answer.len() + data.len() > ANSWER_BYTES_MAX {
                return Err("its answer is too long".to_owned());
            }
            answer.extend_from_slice(&data);
        }
        let trailers = body.trailers().await.map_err(text)?.unwrap_or(parts.headers);
        let status = trailers.get("grpc-status").map_or(&b"?"[..], HeaderValue::as_bytes);
        if status != b"0" {
            return Err(format!("gRPC status {}", String::from_utf8_lossy(status)));
        }
        super::message::single(answer.freeze()).ok_or_else(|| "its answer is none".to_owned())
    }
}
