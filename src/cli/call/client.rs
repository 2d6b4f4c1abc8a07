//! The connection to the server: one endpoint, one key.

use std::error::Error as _;
use std::time::Duration;

use base64::Engine as _;
use http::Uri;
use http::uri::PathAndQuery;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status, Streaming};

use super::super::CliError;
use super::CallArgs;
use super::codec::DynamicCodec;
use super::refusal::format_status;
use crate::pb::v1::gateway_service_client::GatewayServiceClient;
use crate::pb::v1::{GetGatewayRequest, ListGatewaysRequest, WireGeneration};
use crate::upstream::generation::Generation;

/// Timeout for establishing the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Default timeout of one response.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum size of a received message.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A connection, and the metadata and timeout of every call.
pub(super) struct Client {
    channel: Channel,
    authorization: Option<MetadataValue<Ascii>>,
    gateway: Option<MetadataValue<Ascii>>,
    timeout: Option<Duration>,
}

impl Client {
    /// Connects to the endpoint.
    pub(super) async fn connect(args: &CallArgs) -> Result<Self, CliError> {
        let uri: Uri = args.endpoint.parse().map_err(|error| {
            CliError::Usage(format!("`{}` is not a valid URL: {error}", args.endpoint))
        })?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => {
                let why = format!("`{uri}` must begin with `https://` or `http://`");
                return Err(CliError::Usage(why));
            }
        };
        if !is_tls && args.key.is_some() && !args.allow_plaintext && !is_loopback(&uri) {
            let why =
                format!("the key would go to `{uri}` in plain: use https, or `--allow-plaintext`");
            return Err(CliError::Usage(why));
        }
        let unusable =
            |error| CliError::Usage(format!("`{uri}` cannot be used: {}", error_chain(&error)));
        let mut endpoint = Endpoint::from(uri.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("shoreguard-call/", env!("CARGO_PKG_VERSION")))
            .map_err(unusable)?;
        if is_tls {
            endpoint = endpoint.tls_config(tls_config(args)?).map_err(unusable)?;
        }
        let channel = endpoint.connect().await.map_err(|error| {
            CliError::Io(format!("`{uri}` cannot be reached: {}", error_chain(&error)))
        })?;
        Ok(Self {
            channel,
            authorization: authorization_header(args)?,
            gateway: args.gateway.as_deref().map(gateway_header).transpose()?,
            timeout: args.timeout.map(Duration::from_secs),
        })
    }

    /// Sends a unary request and returns the response.
    pub(super) async fn unary(
        &mut self,
        method: &MethodDescriptor,
        message: DynamicMessage,
    ) -> Result<DynamicMessage, CliError> {
        let mut grpc = self.ready_client().await?;
        let mut request = self.to_request(message);
        request.set_timeout(self.timeout.unwrap_or(ANSWER_TIMEOUT));
        let codec = DynamicCodec { answer: method.output() };
        Ok(grpc.unary(request, method_path(method)?, codec).await?.into_inner())
    }

    /// Sends a request and returns the response stream.
    pub(super) async fn stream(
        &mut self,
        method: &MethodDescriptor,
        message: DynamicMessage,
    ) -> Result<Streaming<DynamicMessage>, CliError> {
        let mut grpc = self.ready_client().await?;
        let mut request = self.to_request(message);
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        let codec = DynamicCodec { answer: method.output() };
        Ok(grpc.server_streaming(request, method_path(method)?, codec).await?.into_inner())
    }

    /// Returns the generation of the named gateway, or of the only gateway. The error says why it is unknown.
    pub(super) async fn generation(&mut self, gateway: Option<&str>) -> Result<Generation, String> {
        let mut client = GatewayServiceClient::new(self.channel.clone());
        let unknown = |status: Status| {
            let refused = format_status(&status);
            let first = refused.lines().next().unwrap_or_default();
            format!("the gateway's generation is not known ({first})")
        };
        let found = if let Some(gateway) = gateway {
            let request = self.to_own_request(GetGatewayRequest { gateway: gateway.to_owned() });
            client.get_gateway(request).await.map_err(unknown)?.into_inner().gateway
        } else {
            let request = ListGatewaysRequest { page_size: 2, ..Default::default() };
            let answer =
                client.list_gateways(self.to_own_request(request)).await.map_err(unknown)?;
            let mut gateways = answer.into_inner().gateways;
            if gateways.len() == 1 { gateways.pop() } else { None }
        };
        let Some(found) = found else {
            return Err("name the gateway with `--gateway`".to_owned());
        };
        let (pinned, told) = (found.pinned_generation(), found.wire_generation());
        let taken_for = if pinned == WireGeneration::Unspecified { told } else { pinned };
        match taken_for {
            WireGeneration::V00 => Ok(Generation::V0_0),
            WireGeneration::V01 => Ok(Generation::V0_1),
            WireGeneration::Unspecified | WireGeneration::Unknown | WireGeneration::Unsupported => {
                Err(format!("the generation of gateway `{}` is unknown", found.name))
            }
        }
    }

    async fn ready_client(&self) -> Result<Grpc<Channel>, CliError> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        grpc.ready().await.map_err(|error| {
            CliError::Io(format!("the connection is lost: {}", error_chain(&error)))
        })?;
        Ok(grpc)
    }

    fn to_request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        if let Some(gateway) = &self.gateway {
            request.metadata_mut().insert("x-shoreguard-gateway", gateway.clone());
        }
        request
    }

    fn to_own_request<M>(&self, message: M) -> Request<M> {
        let mut request = self.to_request(message);
        request.metadata_mut().remove("x-shoreguard-gateway");
        request.set_timeout(ANSWER_TIMEOUT);
        request
    }
}

fn authorization_header(args: &CallArgs) -> Result<Option<MetadataValue<Ascii>>, CliError> {
    let given = args.key.as_ref().filter(|key| !key.expose().trim().is_empty());
    let Some(key) = given else { return Ok(None) };
    let mut value: MetadataValue<Ascii> = format!("Bearer {}", key.expose().trim())
        .parse()
        .map_err(|_| CliError::Usage("the key contains an invalid character".to_owned()))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn gateway_header(name: &str) -> Result<MetadataValue<Ascii>, CliError> {
    name.parse().map_err(|_| CliError::Usage(format!("`{name}` is not a valid gateway name")))
}

fn method_path(method: &MethodDescriptor) -> Result<PathAndQuery, CliError> {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    path.parse().map_err(|error| CliError::Usage(format!("`{path}` is not a valid path: {error}")))
}

fn is_loopback(uri: &Uri) -> bool {
    crate::net::guard::is_loopback(uri.host().unwrap_or_default())
}

/// Trusts only the CA given with `--ca`, or the CAs of the system by default.
fn tls_config(args: &CallArgs) -> Result<ClientTlsConfig, CliError> {
    let config = ClientTlsConfig::new();
    let Some(path) = &args.ca else {
        let found = rustls_native_certs::load_native_certs();
        if found.certs.is_empty() {
            return Err(CliError::Usage(
                "this host has no CA certificates: name one with `--ca`".to_owned(),
            ));
        }
        return Ok(config
            .ca_certificates(found.certs.iter().map(|der| Certificate::from_pem(to_pem(der)))));
    };
    let pem = std::fs::read(path).map_err(|error| {
        CliError::Usage(format!("`{}` cannot be read: {error}", path.display()))
    })?;
    Ok(config.ca_certificate(Certificate::from_pem(pem)))
}

/// Encodes a certificate as PEM, the format that tonic requires.
fn to_pem(der: &[u8]) -> String {
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

/// Describes an error with all its sources: tonic itself only says `transport error`.
fn error_chain(error: &tonic::transport::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !words.ends_with(&more) {
            words = format!("{words}: {more}");
        }
        source = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_safe_without_tls() {
        for (uri, is) in [
            ("http://127.0.0.1:8443", true),
            ("http://[::1]:8443", true),
            ("http://localhost:8443", true),
            ("http://localhost.example:8443", false),
            ("http://10.0.0.1:8443", false),
        ] {
            assert_eq!(is_loopback(&uri.parse().unwrap()), is, "{uri}");
        }
    }
}
