//! How each rpc is guarded, as the proto options say: generated at build time, looked up by path.

use super::action::Action;
use crate::role::Role;

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone.
    Public,
    /// Any caller that is known.
    Authenticated,
    /// A user that is known.
    User,
    /// A caller that holds at least this role, within the scope.
    Role(Role),
}

/// Where the role must be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopeKind {
    /// Globally.
    Global,
    /// On the gateways that the request names.
    Gateway,
    /// Somewhere.
    Fleet,
    /// On the gateway of an object that is loaded first.
    Loaded,
}

/// The scope of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope<'a> {
    /// Globally.
    Global,
    /// On each of these gateways. One name that is empty is global scope.
    Gateways(Vec<&'a str>),
    /// Somewhere.
    Fleet,
    /// On the gateway of an object that is loaded first.
    Loaded,
}

/// What the audit log keeps of a call that was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audit {
    /// Nothing.
    None,
    /// One closed entry before the answer.
    Read,
    /// An intent before, an outcome after.
    Write,
}

/// Which sides send more than one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streaming {
    /// Neither.
    Unary,
    /// The server.
    Server,
    /// The client.
    Client,
    /// Both.
    Both,
}

impl Streaming {
    /// Whether the answer is more than one message.
    #[must_use]
    pub fn answer_streams(self) -> bool {
        match self {
            Self::Server | Self::Both => true,
            Self::Unary | Self::Client => false,
        }
    }
}

/// How one of our own rpcs is guarded.
#[derive(Debug)]
pub struct Method {
    /// `/package.Service/Method`.
    pub path: &'static str,
    /// Who may call.
    pub access: Access,
    /// Where.
    pub scope: ScopeKind,
    /// What is kept.
    pub audit: Audit,
    /// The audit action.
    pub action: Action,
    /// Which sides stream.
    pub streaming: Streaming,
    /// Full name of the request message.
    pub request: &'static str,
}

/// What the audit log says that a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The action.
    pub action: Action,
    /// The resource; empty if the request does not name it.
    pub target: String,
}

impl About {
    /// Returns what an action on a resource is about.
    #[must_use]
    pub fn new(action: Action, target: impl Into<String>) -> Self {
        Self { action, target: target.into() }
    }
}

impl Method {
    /// Returns the least role that the method asks for.
    #[must_use]
    pub fn least(&self) -> Role {
        match self.access {
            Access::Role(role) => role,
            Access::Public | Access::Authenticated | Access::User => Role::None,
        }
    }

    /// What is known of a call before its message is, or where that names nothing.
    #[must_use]
    pub fn about(&self) -> About {
        About::new(self.action, "")
    }
}

/// A request message of our own API. The build writes one impl for each rpc.
pub trait Rpc: prost::Message + Default + Send + 'static {
    /// What the handler gets once the call is let through.
    type Grant;
    /// How the rpc is guarded.
    const METHOD: &'static Method;
    /// Where the role must be held for this very request.
    fn scope(&self) -> Scope<'_>;
    /// The idempotency key; empty where there is none.
    fn request_id(&self) -> &str;
    /// What the audit log is to say of this very request.
    fn about(&self) -> About;
}

/// What a method of the upstream can do to a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyEffect {
    /// Nothing.
    None,
    /// It can change the policy of the sandbox that it names.
    Sandbox,
    /// It can change policies in a workspace.
    Workspace,
    /// It can change every policy of the gateway.
    Gateway,
}

/// How a request of the upstream names its sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxKey {
    /// Not at all.
    None,
    /// By name.
    Name,
    /// By the gateway's id.
    Id,
}

/// How one rpc of the upstream is guarded.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one fact of the option")]
pub struct Guard {
    /// The least role; content may raise it.
    pub role: Role,
    /// What it can do to a policy. With an effect the request is read whole.
    pub effect: PolicyEffect,
    /// What is kept.
    pub audit: Audit,
    /// The audit action; content may tell a more exact one.
    pub action: Action,
    /// Field numbers on the way to what the audit log names as the resource; empty if that is the sandbox.
    pub target_path: &'static [u32],
    /// Whether that field is a secret.
    pub target_secret: bool,
    /// How the sandbox is named.
    pub sandbox_key: SandboxKey,
    /// Field numbers on the way to the sandbox's name or id.
    pub sandbox_path: &'static [u32],
    /// Field numbers on the way to the workspace; empty where there is none.
    pub workspace_path: &'static [u32],
    /// No digest is kept, since the message may carry secrets.
    pub secret: bool,
    /// Its answers are as long as the caller pleases.
    pub bulk: bool,
    /// Its answers name sandboxes with their ids.
    pub answers_sandbox_ids: bool,
    /// Number of the request field of annotations; `None` where the gateway keeps none.
    pub annotations: Option<u32>,
    /// Its answer says where to connect to.
    pub answers_address: bool,
    /// Which role it needs, and whether it keeps annotations, depends on its content.
    pub config_change: bool,
    /// What it does to the sandbox that it names.
    pub lifecycle: Option<Lifecycle>,
    /// The decision of a vote.
    pub decision: Option<&'static str>,
}

/// What an rpc of the upstream does to the sandbox that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// It creates it.
    Create,
    /// It deletes it.
    Delete,
}

/// One rpc of the upstream.
#[derive(Debug)]
pub struct UpstreamMethod {
    /// `/package.Service/Method`.
    pub path: &'static str,
    /// Which sides stream.
    pub streaming: Streaming,
    /// Full name of the request message.
    pub request: &'static str,
    /// Field numbers on the way to the id by which a gateway tells a repeat; empty where there is none.
    pub request_id: &'static [u32],
    /// None is never forwarded.
    pub guard: Option<Guard>,
}

include!(concat!(env!("OUT_DIR"), "/methods.rs"));
include!(concat!(env!("OUT_DIR"), "/upstream_v0_0.rs"));
include!(concat!(env!("OUT_DIR"), "/upstream_v0_1.rs"));

/// The rpc of our own API with this very path.
#[must_use]
pub fn method(path: &str) -> Option<&'static Method> {
    METHODS.binary_search_by(|m| m.path.cmp(path)).ok().map(|i| &METHODS[i])
}

/// The row with this very path in one generation's table.
#[must_use]
pub fn upstream(table: &'static [UpstreamMethod], path: &str) -> Option<&'static UpstreamMethod> {
    table.binary_search_by(|m| m.path.cmp(path)).ok().map(|i| &table[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_found_by_path_alone() {
        assert!(METHODS.is_sorted_by_key(|m| m.path));
        assert!(UPSTREAM_V0_0.is_sorted_by_key(|m| m.path));
        assert!(UPSTREAM_V0_1.is_sorted_by_key(|m| m.path));
        assert!(method("/shoreguard.v1.AuthService/Login").is_some());
        assert!(method("/shoreguard.v1.AuthService/login").is_none());
        assert!(method("/shoreguard.v1.AuthService/Login/").is_none());
    }

    #[test]
    fn what_belongs_to_sandboxes_peers_and_operators_is_never_forwarded() {
        for name in [
            "ConnectSupervisor",
            "RelayStream",
            "GetProviderCredentials",
            "PeerRelay",
            "IssueSandboxToken",
        ] {
            let path = format!("/openshell.v1.OpenShell/{name}");
            let row = upstream(UPSTREAM_V0_1, &path).expect("every upstream method has a row");
            assert!(row.guard.is_none(), "{name}");
        }
    }
}
