//! Shared by both adapters: the state, the gateway's self-description, and the macro for methods.

use std::sync::{Arc, PoisonError, RwLock};

use prost::Message;
use tonic::{Code, Request, Response, Status};

use super::state::{Admission, Claim, Core};

/// Maximum size of a received message.
pub(super) const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// The caller of a method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Caller {
    /// Not identified: the method needs no caller.
    Unidentified,
    /// Anonymous, since the gateway requires no credentials.
    Local,
    /// The holder of a client certificate of this name.
    Certificate(String),
    /// The holder of a token with these permissions.
    Bearer(TokenPermissions),
}

/// The permissions of a bearer token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenPermissions {
    /// Every method for users and admins.
    Admin,
    /// The same, except for the methods of a platform admin.
    User,
    /// Only `GetCurrentUser`: its subject is known and has no role.
    Nothing,
    /// Nothing: it has expired.
    Expired,
}

/// The role of a platform admin, if the gateway checks roles.
const ADMIN_ROLE: &str = "openshell-admin";
/// The role of any other user.
const USER_ROLE: &str = "openshell-user";
/// The methods of a platform admin.
const GLOBAL: [&str; 3] = ["GetGatewayInfo", "CreateWorkspace", "DeleteWorkspace"];
/// The method that needs no role.
const CURRENT_USER: &str = "GetCurrentUser";

impl Caller {
    /// Returns the subject and the identity provider.
    pub(super) fn identity(&self) -> (String, &'static str) {
        match self {
            Self::Unidentified | Self::Local => ("local-dev".to_owned(), "local-dev"),
            Self::Certificate(name) => (name.clone(), "mtls"),
            Self::Bearer(_) => ("bearer".to_owned(), "oidc"),
        }
    }

    /// Returns the roles that `GetCurrentUser` reports. A gateway without OIDC checks no roles: it reports the user
    /// role for a certificate and permits everything.
    pub(super) fn roles(&self) -> Vec<String> {
        let roles: &[&str] = match self {
            Self::Unidentified | Self::Local | Self::Bearer(TokenPermissions::Admin) => {
                &[ADMIN_ROLE]
            }
            Self::Certificate(_) | Self::Bearer(TokenPermissions::User) => &[USER_ROLE],
            Self::Bearer(TokenPermissions::Nothing | TokenPermissions::Expired) => &[],
        };
        roles.iter().map(|&role| role.to_owned()).collect()
    }

    /// Refuses a method that the caller's roles do not permit.
    pub(super) fn check_permission(&self, path: &str) -> Result<(), Status> {
        let method = path.rsplit('/').next().unwrap_or_default();
        let required = match self {
            Self::Bearer(TokenPermissions::User) if GLOBAL.contains(&method) => ADMIN_ROLE,
            Self::Bearer(TokenPermissions::Nothing) if method != CURRENT_USER => USER_ROLE,
            Self::Unidentified | Self::Local | Self::Certificate(_) | Self::Bearer(_) => {
                return Ok(());
            }
        };
        Err(Status::permission_denied(format!("role '{required}' required")))
    }
}

/// The gateway's self-description.
#[derive(Debug)]
pub(super) struct GatewayInfo {
    version: RwLock<String>,
    /// The port of the listener.
    pub(super) port: u16,
    /// `http` or `https`.
    pub(super) scheme: &'static str,
}

impl GatewayInfo {
    /// Describes a gateway with a version.
    pub(super) fn new(version: String, port: u16, scheme: &'static str) -> Self {
        Self { version: RwLock::new(version), port, scheme }
    }

    /// The reported version.
    pub(super) fn version(&self) -> String {
        self.version.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the reported version.
    pub(super) fn set_version(&self, version: String) {
        *self.version.write().unwrap_or_else(PoisonError::into_inner) = version;
    }
}

/// The state behind one generation's services.
#[derive(Debug, Clone)]
pub(super) struct Gateway {
    /// The state of the gateway.
    pub(super) core: Arc<Core>,
    /// The self-description of the gateway.
    pub(super) info: Arc<GatewayInfo>,
}

impl Gateway {
    /// Carries out a write, or replays the response for a repeated request id. A failed write leaves its claim open.
    pub(super) fn execute_once<Q: Message, A: Message + Default>(
        &self,
        method: &'static str,
        id: impl Fn(&Q) -> &str,
        request: Request<Q>,
        act: impl FnOnce(&Self, Q) -> Result<A, Status>,
    ) -> Result<Response<A>, Status> {
        let caller = caller_key(&request);
        let message = request.into_inner();
        let id = id(&message).to_owned();
        if id.is_empty() {
            return act(self, message).map(Response::new);
        }
        let body = message.encode_to_vec();
        let admission =
            self.core.with(|state| state.requests.admit(&caller, (method, &id), body))?;
        let claim = match admission {
            Admission::New(claim) => claim,
            Admission::Repeated(answer) => {
                let answer = A::decode(answer.as_slice())
                    .map_err(|_| Status::data_loss("a remembered answer cannot be read"))?;
                let mut replay = Response::new(answer);
                let replayed = tonic::metadata::MetadataValue::from_static("true");
                replay.metadata_mut().insert("openshell-replayed", replayed);
                return Ok(replay);
            }
        };
        let answer = act(self, message)?;
        self.core.with(|state| {
            state.requests.confirm(&claim, answer.encode_to_vec());
            Ok(())
        })?;
        Ok(Response::new(answer))
    }

    /// Claims the request id of a command, whose output is never replayed. Returns `None` if it has no request id.
    pub(super) fn claim_command(
        &self,
        caller: &str,
        request_key: (&'static str, &str),
        start: &impl Message,
    ) -> Result<Option<CommandClaim>, Status> {
        if request_key.1.is_empty() {
            return Ok(None);
        }
        let body = start.encode_to_vec();
        match self.core.with(|state| state.requests.admit(caller, request_key, body))? {
            Admission::New(claim) => Ok(Some(CommandClaim { core: Arc::clone(&self.core), claim })),
            Admission::Repeated(_) => {
                Err(Status::new(Code::Internal, "a command has no answer to replay"))
            }
        }
    }
}

/// A command with a claimed request id.
#[derive(Debug)]
pub(super) struct CommandClaim {
    core: Arc<Core>,
    claim: Claim,
}

impl CommandClaim {
    /// Records that the command ended with an exit code.
    pub(super) fn record_exit(&self) {
        let recorded = self.core.with(|state| {
            state.requests.end(&self.claim);
            Ok(())
        });
        debug_assert!(recorded.is_ok(), "it is only recorded");
    }
}

/// Returns the caller as the key in the table of request ids.
pub(super) fn caller_key<T>(request: &Request<T>) -> String {
    let caller = request.extensions().get::<Caller>().cloned().unwrap_or(Caller::Unidentified);
    let (subject, provider) = caller.identity();
    format!("{provider}/{subject}")
}

/// Implements the methods of a service, one line each: name, request type, response type and function.
///
/// `plain` methods are functions of the gateway and the message; `once` methods also store their responses for replay;
/// `with_metadata` methods take the request with its metadata; `streams` return a stream of messages, and `duplex`
/// methods also take one.
macro_rules! methods {
    (
        $service:path, $gateway:ty,
        plain { $($plain:ident($plain_in:ty) -> $plain_out:ty = $plain_by:path;)* }
        once { $($once:ident($once_in:ty) -> $once_out:ty = $once_by:path;)* }
        with_metadata { $($meta:ident($meta_in:ty) -> $meta_out:ty = $meta_by:path;)* }
        streams { $($stream:ident($stream_in:ty) -> $stream_out:ty = $stream_by:path;)* }
        duplex { $($duplex:ident($duplex_in:ty) -> $duplex_out:ty = $duplex_by:path;)* }
    ) => {
        #[tonic::async_trait]
        impl $service for $gateway {
            $(async fn $plain(
                &self,
                request: tonic::Request<$plain_in>,
            ) -> Result<tonic::Response<$plain_out>, tonic::Status> {
                $plain_by(self, request.into_inner()).map(tonic::Response::new)
            })*
            $(async fn $once(
                &self,
                request: tonic::Request<$once_in>,
            ) -> Result<tonic::Response<$once_out>, tonic::Status> {
                self.execute_once(stringify!($once), |m: &$once_in| &m.request_id, request, $once_by)
            })*
            $(async fn $meta(
                &self,
                request: tonic::Request<$meta_in>,
            ) -> Result<tonic::Response<$meta_out>, tonic::Status> {
                $meta_by(self, &request).map(tonic::Response::new)
            })*
            $(async fn $stream(
                &self,
                request: tonic::Request<$stream_in>,
            ) -> Result<tonic::Response<tonic::codegen::BoxStream<$stream_out>>, tonic::Status> {
                $stream_by(self, request).map(tonic::Response::new)
            })*
            $(async fn $duplex(
                &self,
                request: tonic::Request<$duplex_in>,
            ) -> Result<tonic::Response<tonic::codegen::BoxStream<$duplex_out>>, tonic::Status> {
                $duplex_by(self, request).await.map(tonic::Response::new)
            })*
        }
    };
}

pub(super) use methods;
