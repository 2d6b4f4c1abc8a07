//! The calls of a connection.

use std::error::Error as _;
use std::time::Duration;

use http::uri::PathAndQuery;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};

use super::super::CliError;
use super::codec::DynamicCodec;
use super::hints;
use super::refusal::format_status;
use super::retry::{Attempts, Repeats};
use super::rules::{self, MethodRules};
use super::session;
use super::store::{Context, Credential, Store};
use super::target::{DEFAULT_ENDPOINT, Environment, Place, Target, require_private};
use super::tls::tls_config;
use super::{ConnectArgs, ServerArgs};
use crate::error::error_chain;
use crate::pb::v1::gateway_service_client::GatewayServiceClient;
use crate::pb::v1::{GetGatewayRequest, ListGatewaysRequest, WireGeneration};
use crate::upstream::generation::Generation;

/// Timeout for establishing the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval of pings, and how long an answer to one may take: a connection that was lost without a word is noticed
/// within both, also by a stream that only reads.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_ANSWER_TIME_MAX: Duration = Duration::from_secs(20);
/// Default timeout of one response, with all attempts.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum size of a received message.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A connection, and the metadata and timeout of every call.
pub(in crate::cli) struct Client {
    channel: Channel,
    place: Place,
    store: Store,
    context: Option<Context>,
    credential: Option<Credential>,
    authorization: Option<MetadataValue<Ascii>>,
    gateway: Option<MetadataValue<Ascii>>,
    /// The timeout that the user gave.
    pub(super) timeout: Option<Duration>,
}

impl Client {
    /// Connects to the server. Calls go to the named gateway, or to Shoreguard itself. Methods of gateways go to the
    /// gateway of the context if none is named.
    pub(in crate::cli) async fn connect(
        args: &ConnectArgs,
        gateway: Option<&str>,
    ) -> Result<Self, CliError> {
        args.warn_of_visible_key();
        let store = Store::open();
        let target = Target::resolve(args, &Environment::read()?, &store)?;
        let channel = open_channel(&target, &args.server).await?;
        let of_context = target.context.as_ref().and_then(|context| context.gateway.as_deref());
        Ok(Self {
            channel,
            place: target.place,
            store,
            authorization: target.credential.as_ref().map(authorization_header).transpose()?,
            credential: target.credential,
            gateway: gateway.or(of_context).map(gateway_header).transpose()?,
            context: target.context,
            timeout: args.timeout(),
        })
    }

    /// Connects with a session that is refreshed, for requests of generated clients, which do not refresh it.
    pub(in crate::cli) async fn connect_renewed(args: &ConnectArgs) -> Result<Self, CliError> {
        let mut client = Self::connect(args, None).await?;
        client.renew_credential().await?;
        Ok(client)
    }

    /// Connects without a credential, to a server to which a password or key will be sent. `server` names it.
    pub(in crate::cli) async fn connect_for_login(server: &ServerArgs) -> Result<Self, CliError> {
        let endpoint = server.endpoint.as_deref().unwrap_or(DEFAULT_ENDPOINT);
        require_private(&Place::parse(endpoint)?, server.allow_plaintext)?;
        Self::connect(&ConnectArgs::without_credential(server.clone()), None).await
    }

    /// Sets the credential of further calls.
    pub(in crate::cli) fn set_credential(
        &mut self,
        credential: Credential,
    ) -> Result<(), CliError> {
        self.authorization = Some(authorization_header(&credential)?);
        self.credential = Some(credential);
        Ok(())
    }

    /// Returns the context of the server.
    pub(in crate::cli) fn context(&self) -> Option<&Context> {
        self.context.as_ref()
    }

    /// Returns the context of the session that calls use; `None` if they use a key or nothing that is stored.
    pub(in crate::cli) fn session_context(&self) -> Option<&Context> {
        let is_session = matches!(self.credential, Some(Credential::Session(_)));
        self.context.as_ref().filter(|_| is_session)
    }

    /// Returns the address of the server.
    pub(in crate::cli) fn place(&self) -> &Place {
        &self.place
    }

    /// Sends a unary request and returns the response. It is repeated while the server is unavailable and a repeat is
    /// safe.
    pub(in crate::cli) async fn unary(
        &mut self,
        method: &MethodDescriptor,
        mut message: DynamicMessage,
    ) -> Result<DynamicMessage, CliError> {
        let (rules, path) = (MethodRules::of(method), method_path(method)?);
        rules.complete(&mut message);
        let time = rules::wait_time(method, &message).unwrap_or(ANSWER_TIMEOUT);
        let repeats = if rules.is_repeatable { Repeats::Unavailable } else { Repeats::Never };
        let mut attempts = Attempts::begin(Some(self.timeout.unwrap_or(time)), repeats);
        loop {
            self.renew_for(rules).await?;
            let time = attempts.time_left();
            let request = with_timeout(self.to_request(rules, message.clone()), time);
            let codec = DynamicCodec { answer: method.output() };
            let mut grpc = self.grpc();
            let call = async {
                ready(&mut grpc).await?;
                grpc.unary(request, path.clone(), codec).await
            };
            let status = match within(time, call).await {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            attempts.wait_after(status).await.map_err(|status| self.failure(status))?;
        }
    }

    /// Sends a request and returns the response stream.
    pub(in crate::cli) async fn stream(
        &mut self,
        method: &MethodDescriptor,
        message: DynamicMessage,
    ) -> Result<Streaming<DynamicMessage>, CliError> {
        match self.open_stream(method, message).await {
            Err(CliError::Call(status)) => Err(self.failure(*status)),
            opened => opened,
        }
    }

    /// As [`Self::stream`]. The error has the status as it is, for a stream that resumes.
    pub(in crate::cli) async fn open_stream(
        &mut self,
        method: &MethodDescriptor,
        message: DynamicMessage,
    ) -> Result<Streaming<DynamicMessage>, CliError> {
        let rules = MethodRules::of(method);
        self.renew_for(rules).await?;
        let request = self.to_stream_request(rules, message);
        let codec = DynamicCodec { answer: method.output() };
        let mut grpc = self.grpc();
        ready(&mut grpc).await?;
        Ok(grpc.server_streaming(request, method_path(method)?, codec).await?.into_inner())
    }

    /// Returns the channel, for a generated client.
    pub(in crate::cli) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Describes a failed call: what the server refused, or why the connection was lost and what to try.
    pub(in crate::cli) fn failure(&self, status: Status) -> CliError {
        let is_own_timeout =
            status.code() == Code::Cancelled && status.message() == "Timeout expired";
        if is_own_timeout {
            return timed_out().into();
        }
        let can_be_lost = matches!(
            status.code(),
            Code::Unavailable | Code::Internal | Code::Unknown | Code::Cancelled
        );
        // Only a failure of the connection has a source: what the server sends has none.
        match status.source().filter(|_| can_be_lost) {
            Some(source) => CliError::Unreachable(hints::explain(&self.place, source)),
            None => status.into(),
        }
    }

    /// Returns the generation of the named gateway, of that of the context, or of the only gateway. The error says why
    /// it is unknown.
    pub(in crate::cli) async fn generation(
        &mut self,
        gateway: Option<&str>,
    ) -> Result<Generation, String> {
        self.renew_credential().await.map_err(|error| error.to_string())?;
        let mut client = GatewayServiceClient::new(self.channel.clone());
        let unknown = |status: Status| {
            let refused = format_status(&status);
            let first = refused.lines().next().unwrap_or_default();
            format!("the gateway's generation is not known ({first})")
        };
        let of_context = self.gateway.as_ref().and_then(|name| name.to_str().ok());
        let found = if let Some(gateway) = gateway.or(of_context) {
            let request = self.unary_request(GetGatewayRequest { gateway: gateway.to_owned() });
            client.get_gateway(request).await.map_err(unknown)?.into_inner().gateway
        } else {
            let request = ListGatewaysRequest { page_size: 2, ..Default::default() };
            let answer =
                client.list_gateways(self.unary_request(request)).await.map_err(unknown)?;
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

    /// Refreshes the session before a call that needs it.
    pub(super) async fn renew_for(&mut self, rules: MethodRules) -> Result<(), CliError> {
        if rules.is_public { Ok(()) } else { self.renew_credential().await }
    }

    /// Refreshes a session whose token expires soon.
    pub(in crate::cli) async fn renew_credential(&mut self) -> Result<(), CliError> {
        let (Some(Credential::Session(session)), Some(context)) = (&self.credential, &self.context)
        else {
            return Ok(());
        };
        if !session.is_due() {
            return Ok(());
        }
        let renewed = session::renew(&self.channel, &self.store, context, self.timeout).await?;
        self.set_credential(renewed)
    }

    pub(super) fn grpc(&self) -> Grpc<Channel> {
        Grpc::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn to_request<M>(&self, rules: MethodRules, message: M) -> Request<M> {
        let mut request = self.to_own_request(message);
        if rules.is_public {
            request.metadata_mut().remove("authorization");
        }
        if let Some(gateway) = self.gateway.as_ref().filter(|_| !rules.is_own) {
            request.metadata_mut().insert("x-shoreguard-gateway", gateway.clone());
        }
        request
    }

    pub(super) fn to_stream_request<M>(&self, rules: MethodRules, message: M) -> Request<M> {
        with_timeout(self.to_request(rules, message), self.timeout)
    }

    pub(super) fn to_own_request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        request
    }
}

async fn open_channel(target: &Target, server: &ServerArgs) -> Result<Channel, CliError> {
    let place = &target.place;
    let unusable = |error: tonic::transport::Error| {
        let chain = error_chain(&error);
        CliError::Usage(format!("`{}` cannot be used: {chain}", place.uri))
    };
    let limit = server.timeout.map_or(CONNECT_TIMEOUT, Duration::from_secs).min(CONNECT_TIMEOUT);
    let mut endpoint = Endpoint::from(place.uri.clone())
        .connect_timeout(limit)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_ANSWER_TIME_MAX)
        .user_agent(concat!("shoreguard-cli/", env!("CARGO_PKG_VERSION")))
        .map_err(unusable)?;
    if place.is_tls {
        endpoint = endpoint.tls_config(tls_config(target.ca.as_deref())?).map_err(unusable)?;
    }
    // The timeout of the endpoint does not bound the TLS handshake.
    match tokio::time::timeout(limit, Box::pin(endpoint.connect())).await {
        Ok(connected) => {
            connected.map_err(|error| CliError::Unreachable(hints::explain(place, &error)))
        }
        Err(_) => Err(CliError::Unreachable(hints::explain_silence(place, limit))),
    }
}

/// Waits until the connection can send. A lost connection is opened again.
pub(super) async fn ready(grpc: &mut Grpc<Channel>) -> Result<(), Status> {
    grpc.ready().await.map_err(|error| {
        let mut status = Status::new(Code::Unavailable, "the connection is lost");
        status.set_source(std::sync::Arc::new(error));
        status
    })
}

/// Bounds an attempt by the time that is left for it.
pub(super) async fn within<T>(
    time: Option<Duration>,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    let answer = match time {
        Some(time) => tokio::time::timeout(time, call).await.map_err(|_| timed_out())?,
        None => call.await,
    };
    Ok(answer?.into_inner())
}

/// Sets the timeout of a request, if there is one.
pub(super) fn with_timeout<M>(mut request: Request<M>, time: Option<Duration>) -> Request<M> {
    if let Some(time) = time {
        request.set_timeout(time);
    }
    request
}

fn timed_out() -> Status {
    Status::new(Code::DeadlineExceeded, "no answer in time; `--timeout` gives more")
}

fn authorization_header(credential: &Credential) -> Result<MetadataValue<Ascii>, CliError> {
    let token = match credential {
        Credential::Key(key) => key,
        Credential::Session(session) => &session.token,
    };
    let mut value: MetadataValue<Ascii> = format!("Bearer {}", token.expose().trim())
        .parse()
        .map_err(|_| CliError::Usage("the key contains an invalid character".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn gateway_header(name: &str) -> Result<MetadataValue<Ascii>, CliError> {
    name.parse().map_err(|_| CliError::Usage(format!("`{name}` is not a valid gateway name")))
}

pub(super) fn method_path(method: &MethodDescriptor) -> Result<PathAndQuery, CliError> {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    path.parse().map_err(|error| CliError::Usage(format!("`{path}` is not a valid path: {error}")))
}
