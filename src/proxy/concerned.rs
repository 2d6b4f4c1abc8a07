//! Finds the sandbox and the resource to which a forwarded request refers, for the audit log.
//!
//! Invariants
//! - names are read from the message, never from headers;
//! - a secret that identifies a resource is recorded only as a fingerprint;
//! - what is stored of a message is bounded, however many names it contains.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::update_config::ConfigChange;
use crate::access::action::Action;
use crate::access::policy::{AuditSubject, UpstreamPolicy};
use crate::db::types::{DEFAULT_WORKSPACE, SandboxName};
use crate::error::Error;
use crate::pb::wire;
use crate::resources::sandboxes::input::NAME_CHARACTERS_MAX;
use crate::seal::hex;
use crate::texts::check_length;

/// Maximum number of names stored per request; the audit log truncates long texts.
const TARGETS_MAX: usize = 16;
/// Length of the fingerprint of a secret, in bytes.
const FINGERPRINT_BYTES: usize = 8;

/// The sandbox and the resource of a request, as far as it was parsed.
#[derive(Debug, Clone, Default)]
pub(super) struct RequestSubject {
    /// The sandbox that it names.
    pub(super) sandbox: SandboxName,
    /// The action, if the content determines a more specific one than the method.
    action: Option<Action>,
    /// The resource, if it is not the sandbox.
    target: String,
}

impl RequestSubject {
    /// Reads the names in a checked message, of which `change` was read already.
    pub(super) fn from_message(
        guard: &UpstreamPolicy,
        message: &[u8],
        change: &ConfigChange<'_>,
    ) -> Self {
        let at = |path| wire::text_at(message, path).unwrap_or_default().to_owned();
        let sandbox =
            SandboxName { workspace: at(guard.workspace_path), name: at(guard.sandbox_path) };
        let target = change.key.map_or_else(|| target_names(guard, message), str::to_owned);
        Self { sandbox, action: change.action, target }
    }

    /// Rejects names that are longer than any stored name.
    ///
    /// # Errors
    /// `INVALID_FIELD` of the name.
    pub(super) fn check_lengths(&self) -> Result<(), Error> {
        check_length("workspace", &self.sandbox.workspace, NAME_CHARACTERS_MAX)?;
        check_length("name", &self.sandbox.name, NAME_CHARACTERS_MAX)
    }

    /// Returns the action and target for the audit log.
    pub(super) fn audit_about(&self, guard: Option<&UpstreamPolicy>) -> AuditSubject {
        let of_method = guard.map_or(Action::GATEWAY_CALL, |guard| guard.action);
        let target =
            if self.target.is_empty() { self.sandbox.to_string() } else { self.target.clone() };
        AuditSubject::new(self.action.unwrap_or(of_method), target)
    }

    /// Returns the additional details for the audit log.
    pub(super) fn audit_detail(&self, guard: &UpstreamPolicy) -> Option<Value> {
        let mut detail = serde_json::Map::new();
        if self.sandbox != SandboxName::default() {
            let named = Some(self.sandbox.workspace.as_str()).filter(|name| !name.is_empty());
            detail.insert("workspace".to_owned(), named.unwrap_or(DEFAULT_WORKSPACE).into());
        }
        if !self.target.is_empty() && !self.sandbox.name.is_empty() {
            detail.insert("sandbox".to_owned(), self.sandbox.name.as_str().into());
        }
        if let Some(decision) = guard.decision {
            detail.insert("decision".to_owned(), json!(decision));
        }
        (!detail.is_empty()).then_some(Value::Object(detail))
    }
}

fn target_names(guard: &UpstreamPolicy, message: &[u8]) -> String {
    let names = wire::texts_at(message, guard.target_path);
    let shown = names
        .into_iter()
        .take(TARGETS_MAX)
        .map(|name| if guard.target_secret { fingerprint(name) } else { name.to_owned() });
    shown.collect::<Vec<_>>().join(", ")
}

/// Returns the beginning of a secret's SHA-256 digest, in hex.
fn fingerprint(secret: &str) -> String {
    hex(&Sha256::digest(secret)[..FINGERPRINT_BYTES])
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::pb::v0_0::openshell::sandbox::v1::SandboxPolicy;
    use crate::pb::v0_0::openshell::v1 as v0_0;
    use crate::proxy::openshell_policy;
    use crate::upstream::generation::Generation;

    fn read(method: &str, message: &impl Message) -> (AuditSubject, Option<Value>) {
        let (guard, bytes) = (openshell_policy(Generation::V0_0, method), message.encode_to_vec());
        let change = ConfigChange::parse(guard, &bytes);
        let subject = RequestSubject::from_message(guard, &bytes, &change);
        (subject.audit_about(Some(guard)), subject.audit_detail(guard))
    }

    #[test]
    fn an_attached_provider_is_the_audit_target_and_its_sandbox_is_detail() {
        let message = v0_0::AttachSandboxProviderRequest {
            sandbox_name: "box".to_owned(),
            provider_name: "github".to_owned(),
            workspace: "team".to_owned(),
            ..Default::default()
        };
        let (about, detail) = read("AttachSandboxProvider", &message);
        assert_eq!(about, AuditSubject::new(Action::SANDBOX_PROVIDER_ATTACH, "github"));
        assert_eq!(detail, Some(json!({ "workspace": "team", "sandbox": "box" })));
    }

    #[test]
    fn t17_a_session_token_is_recorded_as_its_fingerprint() {
        let message = v0_0::RevokeSshSessionRequest { token: "secret-token".to_owned() };
        let (about, detail) = read("RevokeSshSession", &message);
        assert_eq!(about.action, Action::SSH_SESSION_REVOKE);
        assert_eq!(about.target, fingerprint("secret-token"));
        assert!(!about.target.contains("secret") && detail.is_none());
    }

    #[test]
    fn the_audit_target_of_an_import_names_every_profile() {
        let item = |id: &str| v0_0::ProviderProfileImportItem {
            profile: Some(v0_0::ProviderProfile { id: id.to_owned(), ..Default::default() }),
            ..Default::default()
        };
        let profiles = vec![item("a"), item("b")];
        let message = v0_0::ImportProviderProfilesRequest { profiles, ..Default::default() };
        assert_eq!(read("ImportProviderProfiles", &message).0.target, "a, b");
    }

    #[test]
    fn the_audit_action_of_update_config_depends_on_its_content() {
        let policy = v0_0::UpdateConfigRequest {
            name: "box".to_owned(),
            policy: Some(SandboxPolicy::default()),
            ..Default::default()
        };
        let (about, _) = read("UpdateConfig", &policy);
        assert_eq!(about, AuditSubject::new(Action::POLICY_APPLY, "box"));
        let setting = v0_0::UpdateConfigRequest {
            name: "box".to_owned(),
            setting_key: "proposal_approval_mode".to_owned(),
            ..Default::default()
        };
        let (about, detail) = read("UpdateConfig", &setting);
        assert_eq!(
            about,
            AuditSubject::new(Action::GATEWAY_SETTING_UPDATE, "proposal_approval_mode")
        );
        assert_eq!(detail, Some(json!({ "workspace": "default", "sandbox": "box" })));
    }

    #[test]
    fn the_audit_entry_of_a_vote_holds_its_decision() {
        let message = v0_0::RejectDraftChunkRequest {
            name: "box".to_owned(),
            chunk_id: "c1".to_owned(),
            ..Default::default()
        };
        let (about, detail) = read("RejectDraftChunk", &message);
        assert_eq!(about, AuditSubject::new(Action::APPROVAL_VOTE, "c1"));
        assert_eq!(detail.unwrap()["decision"], "reject");
    }
}
