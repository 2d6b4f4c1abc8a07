//! Access policy of each RPC, from the proto options: generated at build time, looked up by path.

use shoreguard_proto::release::Generation;

use super::action::Action;
use crate::role::Role;

/// Who can call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowedCallers {
    /// Anyone.
    Public,
    /// Any authenticated caller.
    Authenticated,
    /// Any authenticated user.
    User,
    /// A caller that holds at least this role within the scope.
    Role(Role),
}

/// Where the role must be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopeKind {
    /// Globally.
    Global,
    /// On the gateways that the request names.
    Gateway,
    /// On any gateway, or globally.
    Fleet,
    /// On the gateway of an object that is loaded first.
    Loaded,
}

/// The scope of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope<'a> {
    /// Globally.
    Global,
    /// On each of these gateways. A single empty name means global scope.
    Gateways(Vec<&'a str>),
    /// On any gateway, or globally.
    Fleet,
    /// On the gateway of an object that is loaded first.
    Loaded,
}

/// What the audit log stores of an admitted call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditMode {
    /// Nothing.
    None,
    /// One closed entry before the response.
    Read,
    /// An intent before the action, and its outcome afterwards.
    Write,
}

/// Which sides stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamingMode {
    /// Neither.
    Unary,
    /// The server.
    Server,
    /// The client.
    Client,
    /// Both.
    Both,
}

impl StreamingMode {
    /// Returns whether the response is a stream.
    #[must_use]
    pub fn is_server_streaming(self) -> bool {
        match self {
            Self::Server | Self::Both => true,
            Self::Unary | Self::Client => false,
        }
    }
}

/// Policy of one of Shoreguard's own RPCs.
#[derive(Debug)]
pub struct Method {
    /// `/package.Service/Method`.
    pub path: &'static str,
    /// Who can call.
    pub access: AllowedCallers,
    /// Where the role must be held.
    pub scope: ScopeKind,
    /// What the audit log stores.
    pub audit: AuditMode,
    /// The audit action.
    pub action: Action,
    /// Which sides stream.
    pub streaming: StreamingMode,
    /// Full name of the request message.
    pub request: &'static str,
}

/// Subject of an audit entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSubject {
    /// The action.
    pub action: Action,
    /// The resource; empty if the request does not name it.
    pub target: String,
}

impl AuditSubject {
    /// Creates the subject of an action on a resource.
    #[must_use]
    pub fn new(action: Action, target: impl Into<String>) -> Self {
        Self { action, target: target.into() }
    }
}

impl Method {
    /// Returns the lowest role that the method requires.
    #[must_use]
    pub fn min_role(&self) -> Role {
        match self.access {
            AllowedCallers::Role(role) => role,
            AllowedCallers::Public | AllowedCallers::Authenticated | AllowedCallers::User => {
                Role::None
            }
        }
    }

    /// Returns the subject of a call whose message is not known, or does not name a resource.
    #[must_use]
    pub fn audit_subject(&self) -> AuditSubject {
        AuditSubject::new(self.action, "")
    }
}

/// A request message of Shoreguard's own API. The build generates one impl for each RPC.
pub trait Rpc: prost::Message + Default + Send + 'static {
    /// Value that the handler receives once the call is admitted.
    type Context;
    /// Policy of the RPC.
    const METHOD: &'static Method;
    /// Returns where the role must be held for this request.
    fn scope(&self) -> Scope<'_>;
    /// Returns the idempotency key; empty if the request has no such field.
    fn request_id(&self) -> &str;
    /// Returns the subject of the audit entry of this request.
    fn audit_subject(&self) -> AuditSubject;
}

/// Effect of an upstream method on policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyEffect {
    /// None.
    None,
    /// It can change the policy of the sandbox that it names.
    Sandbox,
    /// It can change policies in a workspace.
    Workspace,
    /// It can change every policy of the gateway.
    Gateway,
}

/// Kind of change by an upstream method with an effect on policies. It determines what pins and workflows refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyChange {
    /// It creates a sandbox, with its first policy.
    Create,
    /// It deletes a sandbox.
    Delete,
    /// It changes a policy or a setting, as the content of its `UpdateConfigRequest` says.
    Config,
    /// It attaches a provider to a sandbox or detaches it.
    Attachment,
    /// It approves a draft chunk.
    Approve,
    /// It approves several draft chunks.
    ApproveAll,
    /// It rejects a draft chunk, which may have been approved.
    Reject,
    /// It undoes the approval of a draft chunk.
    Undo,
    /// It edits or clears draft chunks, which changes no policy.
    Edit,
    /// It creates or deletes a provider.
    Provider,
    /// It changes a provider; it changes no policy if it only replaces values of credentials.
    Credentials,
    /// It changes a provider profile.
    Profile,
    /// It changes something of a whole workspace.
    Workspace,
}

/// How an upstream request names its sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxKey {
    /// It names none.
    None,
    /// By name.
    Name,
    /// By the gateway's id.
    Id,
}

/// Policy of one upstream RPC.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one fact of the option")]
pub struct UpstreamPolicy {
    /// The required role; the content of the request can raise it.
    pub role: Role,
    /// Effect on policies. If there is one, the whole request is read.
    pub effect: PolicyEffect,
    /// Kind of change; `None` if it has no effect on policies.
    pub change: Option<PolicyChange>,
    /// What the audit log stores.
    pub audit: AuditMode,
    /// The audit action; the content of the request can make it more specific.
    pub action: Action,
    /// Path of field numbers to the resource of the audit entry; empty if the resource is the sandbox.
    pub target_path: &'static [u32],
    /// Whether that field is a secret.
    pub target_secret: bool,
    /// How the sandbox is named.
    pub sandbox_key: SandboxKey,
    /// Path of field numbers to the sandbox's name or id.
    pub sandbox_path: &'static [u32],
    /// Path of field numbers to the workspace; empty if the request names no workspace.
    pub workspace_path: &'static [u32],
    /// Whether the message can contain secrets; no digest of it is stored then.
    pub secret: bool,
    /// Whether the caller determines the length of the responses.
    pub bulk: bool,
    /// Whether the responses name sandboxes with their ids.
    pub answers_sandbox_ids: bool,
    /// Field number of the annotations in the request; `None` if the gateway stores none.
    pub annotations: Option<u32>,
    /// Whether the response contains an address to connect to.
    pub answers_address: bool,
    /// Whether the required role, and the storage of annotations, depend on the content.
    pub config_change: bool,
    /// The decision of a vote.
    pub decision: Option<&'static str>,
    /// Path of field numbers to the addresses of services in the response; empty if it contains none.
    pub service_url_path: &'static [u32],
}

impl UpstreamPolicy {
    /// Whether the proxy changes the response.
    #[must_use]
    pub fn is_response_rewritten(&self) -> bool {
        self.answers_address || !self.service_url_path.is_empty()
    }
}

/// One upstream RPC.
#[derive(Debug)]
pub struct UpstreamMethod {
    /// `/package.Service/Method`.
    pub path: &'static str,
    /// Which sides stream.
    pub streaming: StreamingMode,
    /// Full name of the request message.
    pub request: &'static str,
    /// Path of field numbers to the id by which a gateway detects a repeated request; empty if the request has no such
    /// id.
    pub request_id: &'static [u32],
    /// The policy; `None` if the method is never forwarded.
    pub policy: Option<UpstreamPolicy>,
}

include!(concat!(env!("OUT_DIR"), "/methods.rs"));
include!(concat!(env!("OUT_DIR"), "/upstream_v0_0.rs"));
include!(concat!(env!("OUT_DIR"), "/upstream_v0_1.rs"));

/// Returns the RPC of `shoreguard.v1` with exactly this path.
#[must_use]
pub fn find_method(path: &str) -> Option<&'static Method> {
    METHODS.binary_search_by(|m| m.path.cmp(path)).ok().map(|i| &METHODS[i])
}

/// Returns the row with exactly this path in the table of one generation.
#[must_use]
pub fn find_upstream_method(
    table: &'static [UpstreamMethod],
    path: &str,
) -> Option<&'static UpstreamMethod> {
    table.binary_search_by(|m| m.path.cmp(path)).ok().map(|i| &table[i])
}

/// Returns the policy of the upstream RPC with exactly this path in one generation. `None` if the generation does not
/// have the RPC, or if it is never forwarded.
#[must_use]
pub fn find_upstream_policy(generation: Generation, path: &str) -> Option<&'static UpstreamPolicy> {
    let table = match generation {
        Generation::V0_0 => UPSTREAM_V0_0,
        Generation::V0_1 => UPSTREAM_V0_1,
    };
    find_upstream_method(table, path)?.policy.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn method_tables_are_sorted_and_looked_up_by_exact_path() {
        assert!(METHODS.is_sorted_by_key(|m| m.path));
        assert!(UPSTREAM_V0_0.is_sorted_by_key(|m| m.path));
        assert!(UPSTREAM_V0_1.is_sorted_by_key(|m| m.path));
        assert!(find_method("/shoreguard.v1.AuthService/Login").is_some());
        assert!(find_method("/shoreguard.v1.AuthService/login").is_none());
        assert!(find_method("/shoreguard.v1.AuthService/Login/").is_none());
    }

    #[test]
    fn methods_of_sandboxes_peers_and_operators_are_never_forwarded() {
        for name in [
            "ConnectSupervisor",
            "RelayStream",
            "GetProviderCredentials",
            "PeerRelay",
            "IssueSandboxToken",
        ] {
            let path = format!("/openshell.v1.OpenShell/{name}");
            let row = find_upstream_method(UPSTREAM_V0_1, &path)
                .expect("every upstream method has a row");
            assert!(row.policy.is_none(), "{name}");
            assert!(find_upstream_policy(Generation::V0_1, &path).is_none(), "{name}");
        }
    }

    #[test]
    fn the_policy_of_an_upstream_method_is_that_of_its_generation() {
        for generation in Generation::ALL {
            let of = |path| find_upstream_policy(generation, path);
            let create = of("/openshell.v1.OpenShell/CreateSandbox").unwrap();
            assert_eq!(create.change, Some(PolicyChange::Create));
            assert!(of("/openshell.v1.OpenShell/createSandbox").is_none());
        }
        let template = "/openshell.v1.OpenShell/ListSandboxTemplates";
        assert!(find_upstream_policy(Generation::V0_0, template).is_none());
        assert!(find_upstream_policy(Generation::V0_1, template).is_some());
    }
}
