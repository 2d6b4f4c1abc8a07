//! All types of events, and who may read them.
//!
//! Invariants
//! - an event reveals nothing that the rpcs do not show to its reader: each type has a least role on the gateway of the
//!   event;
//! - only global admins can read events without a gateway and events of an unknown type;
//! - stored events keep the name they were written with; a former name has the audience of the current one.

use crate::role::Role;

/// Who may read an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Callers with at least this role on the gateway of the event, and global admins.
    Gateway(Role),
    /// Global admins.
    GlobalAdmins,
}

/// A type of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventType {
    name: &'static str,
    audience: Audience,
}

impl EventType {
    /// Returns the name: `<resource>.<participle>`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Returns who may read it.
    #[must_use]
    pub fn audience(self) -> Audience {
        self.audience
    }
}

const VIEWERS: Audience = Audience::Gateway(Role::Viewer);
const OPERATORS: Audience = Audience::Gateway(Role::Operator);
const ADMINS: Audience = Audience::Gateway(Role::Admin);
const GLOBAL_ADMINS: Audience = Audience::GlobalAdmins;

/// Defines a constant for each type, and the list of all types.
macro_rules! event_types {
    ($($constant:ident: $name:literal, $audience:ident, $what:literal;)+) => {
        $(#[doc = $what]
        pub const $constant: EventType = EventType { name: $name, audience: $audience };)+

        /// All types, with their descriptions.
        pub const ALL: &[(EventType, &str)] = &[$(($constant, $what),)+];
    };
}

event_types! {
    APPROVAL_APPROVED: "approval.approved", VIEWERS, "An approved change was written to its gateway, or a rule was changed.";
    APPROVAL_ESCALATED: "approval.escalated", VIEWERS, "The voters of the escalation joined a review.";
    APPROVAL_EXPIRED: "approval.expired", VIEWERS, "A review was not decided, or an approved change was not written, in time.";
    APPROVAL_FAILED: "approval.failed", VIEWERS, "An approved change could not be written.";
    APPROVAL_PENDING: "approval.pending", VIEWERS, "A review was opened.";
    APPROVAL_QUORUM_MET: "approval.quorum_met", VIEWERS, "Enough voters have approved a change.";
    APPROVAL_REJECTED: "approval.rejected", VIEWERS, "A voter rejected a change.";
    APPROVAL_REMINDER: "approval.reminder", VIEWERS, "A review still waits for votes.";
    APPROVAL_REOPENED: "approval.reopened", VIEWERS, "An approved change needs votes again.";
    APPROVAL_RULE_REMOVED: "approval.rule_removed", VIEWERS, "A draft was approved on its gateway while its rejection was sent, which has removed its rule.";
    APPROVAL_SUPERSEDED: "approval.superseded", VIEWERS, "The content under review was replaced, or what it is based on has changed.";
    APPROVAL_VOTE_CAST: "approval.vote_cast", VIEWERS, "A vote was cast, changed or withdrawn.";
    APPROVAL_WITHDRAWN: "approval.withdrawn", VIEWERS, "A proposal was withdrawn.";
    APPROVAL_WORKFLOW_BROKEN: "approval_workflow.broken", VIEWERS, "An approval workflow can no longer be met.";
    APPROVAL_WORKFLOW_DELETED: "approval_workflow.deleted", VIEWERS, "An approval workflow was deleted.";
    APPROVAL_WORKFLOW_SET: "approval_workflow.set", VIEWERS, "An approval workflow was set.";
    BOOT_HOOK_CREATED: "boot_hook.created", VIEWERS, "A boot hook was created.";
    BOOT_HOOK_DELETED: "boot_hook.deleted", VIEWERS, "A boot hook was deleted.";
    BOOT_HOOK_REORDERED: "boot_hook.reordered", VIEWERS, "The boot hooks of a phase were reordered.";
    BOOT_HOOK_RUN: "boot_hook.run", VIEWERS, "A boot hook ran.";
    BOOT_HOOK_UPDATED: "boot_hook.updated", VIEWERS, "A boot hook was changed.";
    DEVICE_CODE_APPROVED: "device_code.approved", GLOBAL_ADMINS, "A user approved the login of a device.";
    DEVICE_CODE_DENIED: "device_code.denied", GLOBAL_ADMINS, "A user denied the login of a device.";
    GATEWAY_CERT_EXPIRING: "gateway.cert_expiring", VIEWERS, "A certificate of a gateway expires soon.";
    GATEWAY_CREDENTIALS_ROTATED: "gateway.credentials_rotated", VIEWERS, "The credentials for a gateway were replaced.";
    GATEWAY_DISCOVERED: "gateway.discovered", GLOBAL_ADMINS, "A discovery ended.";
    GATEWAY_DOWN: "gateway.down", VIEWERS, "A gateway became unreachable.";
    GATEWAY_FINDING_CLOSED: "gateway.finding_closed", VIEWERS, "A finding about a gateway was closed.";
    GATEWAY_FINDING_OPENED: "gateway.finding_opened", VIEWERS, "A finding about a gateway was opened.";
    GATEWAY_OVER_BUDGET: "gateway.over_budget", VIEWERS, "A gateway has answered more than its budget allows.";
    GATEWAY_REGISTERED: "gateway.registered", VIEWERS, "A gateway was registered.";
    GATEWAY_STATUS_CHANGED: "gateway.status_changed", VIEWERS, "The status of a gateway changed.";
    GATEWAY_UNREGISTERED: "gateway.unregistered", VIEWERS, "A gateway was unregistered.";
    GATEWAY_UP: "gateway.up", VIEWERS, "A gateway became reachable.";
    GATEWAY_UPDATED: "gateway.updated", VIEWERS, "A gateway was changed.";
    GATEWAY_VERSION_CHANGED: "gateway.version_changed", VIEWERS, "A gateway reports another version.";
    GATEWAY_ROLE_REMOVED: "gateway_role.removed", ADMINS, "A role on gateways was removed.";
    GATEWAY_ROLE_SET: "gateway_role.set", ADMINS, "A role on gateways was set.";
    GATEWAY_SETTING_DELETED: "gateway_setting.deleted", OPERATORS, "A setting was deleted.";
    GATEWAY_SETTING_UPDATED: "gateway_setting.updated", OPERATORS, "A setting was changed.";
    GROUP_CREATED: "group.created", GLOBAL_ADMINS, "A group was created.";
    GROUP_DELETED: "group.deleted", GLOBAL_ADMINS, "A group was deleted.";
    GROUP_UPDATED: "group.updated", GLOBAL_ADMINS, "A group was changed.";
    GROUP_MEMBER_ADDED: "group_member.added", GLOBAL_ADMINS, "A user was added to a group.";
    GROUP_MEMBER_REMOVED: "group_member.removed", GLOBAL_ADMINS, "A user was removed from a group.";
    INFERENCE_UPDATED: "inference.updated", VIEWERS, "An inference route was set or deleted through the proxied API.";
    OPERATION_CANCELLING: "operation.cancelling", OPERATORS, "An operation is being canceled.";
    OPERATION_CREATED: "operation.created", OPERATORS, "An operation was started.";
    OPERATION_FAILED: "operation.failed", OPERATORS, "An operation failed.";
    OPERATION_SUCCEEDED: "operation.succeeded", OPERATORS, "An operation succeeded.";
    POLICY_APPLIED: "policy.applied", VIEWERS, "A sandbox has loaded the policy of an approved change.";
    POLICY_DRIFT_DETECTED: "policy.drift_detected", VIEWERS, "The policy of a pinned sandbox has changed, or a gateway has dropped marks of a written policy.";
    POLICY_LOAD_FAILED: "policy.load_failed", VIEWERS, "A sandbox could not load the policy of an approved change.";
    POLICY_PINNED: "policy.pinned", VIEWERS, "The policy of a sandbox was pinned, or its pin was changed.";
    POLICY_UNPINNED: "policy.unpinned", VIEWERS, "The pin of a sandbox was removed.";
    POLICY_UPDATED: "policy.updated", VIEWERS, "The policy of a sandbox was changed through the proxied API.";
    POLICY_PIN_EXPIRED: "policy_pin.expired", VIEWERS, "The pin of a sandbox expired.";
    SANDBOX_BYPASS_DETECTED: "sandbox.bypass_detected", VIEWERS, "The log of a sandbox shows attempts to bypass its policy.";
    SANDBOX_CREATED: "sandbox.created", VIEWERS, "A sandbox was created.";
    SANDBOX_DELETED: "sandbox.deleted", VIEWERS, "A sandbox was deleted.";
    SANDBOX_LOG_GAP: "sandbox.log_gap", VIEWERS, "A sandbox wrote more log lines than could be read.";
    SANDBOX_METADATA_UPDATED: "sandbox.metadata_updated", VIEWERS, "The description or the labels of a sandbox were changed.";
    SANDBOX_PHASE_CHANGED: "sandbox.phase_changed", VIEWERS, "A gateway reports another phase of a sandbox.";
    SANDBOX_STARTED: "sandbox.started", VIEWERS, "A sandbox was started.";
    SANDBOX_STOPPED: "sandbox.stopped", VIEWERS, "A sandbox was stopped.";
    SBOM_DELETED: "sbom.deleted", VIEWERS, "An SBOM was deleted.";
    SBOM_UPLOADED: "sbom.uploaded", VIEWERS, "An SBOM was uploaded.";
    SERVER_CERTIFICATE_REFUSED: "server.certificate_refused", GLOBAL_ADMINS, "A new certificate of this server could not be used.";
    SERVER_CERTIFICATE_RELOADED: "server.certificate_reloaded", GLOBAL_ADMINS, "The certificate of this server was replaced.";
    SERVICE_PRINCIPAL_CREATED: "service_principal.created", GLOBAL_ADMINS, "A service principal was created.";
    SERVICE_PRINCIPAL_DELETED: "service_principal.deleted", GLOBAL_ADMINS, "A service principal was deleted.";
    SERVICE_PRINCIPAL_ROTATED: "service_principal.rotated", GLOBAL_ADMINS, "The key of a service principal was replaced.";
    SERVICE_PRINCIPAL_UPDATED: "service_principal.updated", GLOBAL_ADMINS, "A service principal was changed.";
    SESSION_REUSED: "session.reused", GLOBAL_ADMINS, "A refresh token was used twice, so its session was revoked.";
    SESSION_REVOKED: "session.revoked", GLOBAL_ADMINS, "A session was revoked.";
    SESSION_STARTED: "session.started", GLOBAL_ADMINS, "A session was started.";
    SSH_SESSION_CREATED: "ssh_session.created", OPERATORS, "An SSH session was created.";
    SSH_SESSION_REVOKED: "ssh_session.revoked", OPERATORS, "An SSH session was revoked.";
    USER_CREATED: "user.created", GLOBAL_ADMINS, "An account was created.";
    USER_DELETED: "user.deleted", GLOBAL_ADMINS, "An account was deleted.";
    USER_INVITE_ACCEPTED: "user.invite_accepted", GLOBAL_ADMINS, "A user accepted an invitation.";
    USER_INVITE_RESENT: "user.invite_resent", GLOBAL_ADMINS, "An invitation was replaced.";
    USER_INVITED: "user.invited", GLOBAL_ADMINS, "A user was invited.";
    USER_LINKED: "user.linked", GLOBAL_ADMINS, "An account was linked to an OIDC identity.";
    USER_PASSWORD_RESET: "user.password_reset", GLOBAL_ADMINS, "A password was reset by an admin.";
    USER_PASSWORD_SET: "user.password_set", GLOBAL_ADMINS, "A password was set.";
    USER_REGISTERED: "user.registered", GLOBAL_ADMINS, "A user registered.";
    USER_SESSIONS_REVOKED: "user.sessions_revoked", GLOBAL_ADMINS, "Every session of a user was revoked.";
    USER_UNLINKED: "user.unlinked", GLOBAL_ADMINS, "The link of an account to an OIDC identity was removed.";
    USER_UNLOCKED: "user.unlocked", GLOBAL_ADMINS, "An account was unlocked.";
    USER_UPDATED: "user.updated", GLOBAL_ADMINS, "An account was changed.";
    WEBHOOK_CREATED: "webhook.created", GLOBAL_ADMINS, "A webhook was created.";
    WEBHOOK_DELETED: "webhook.deleted", GLOBAL_ADMINS, "A webhook was deleted.";
    WEBHOOK_DISABLED: "webhook.disabled", GLOBAL_ADMINS, "A webhook was disabled because its receiver does not accept messages.";
    WEBHOOK_SECRET_ROTATED: "webhook.secret_rotated", GLOBAL_ADMINS, "The signing secret of a webhook was replaced.";
    WEBHOOK_UPDATED: "webhook.updated", GLOBAL_ADMINS, "A webhook was changed.";
}

/// Former names of events that may still be stored, with their current types.
pub const FORMER: &[(&str, EventType)] = &[
    ("device.approved", DEVICE_CODE_APPROVED),
    ("device.denied", DEVICE_CODE_DENIED),
    ("gateway.setting_deleted", GATEWAY_SETTING_DELETED),
    ("gateway.setting_updated", GATEWAY_SETTING_UPDATED),
    ("group.member_added", GROUP_MEMBER_ADDED),
    ("group.member_removed", GROUP_MEMBER_REMOVED),
    ("sandbox.metadata.updated", SANDBOX_METADATA_UPDATED),
    ("sandbox.ssh_session.created", SSH_SESSION_CREATED),
    ("sandbox.ssh_session.revoked", SSH_SESSION_REVOKED),
];

fn stored_names() -> impl Iterator<Item = (&'static str, EventType)> {
    let present = ALL.iter().map(|(event_type, _)| (event_type.name, *event_type));
    present.chain(FORMER.iter().copied())
}

/// Returns who may read a stored event.
#[must_use]
pub fn audience(name: &str) -> Audience {
    let found = stored_names().find(|(stored, _)| *stored == name);
    found.map_or(Audience::GlobalAdmins, |(_, event_type)| event_type.audience)
}

/// Returns the names of stored events that a role on their gateway, but no lower one, may read.
#[must_use]
pub fn names_for(role: Role) -> Vec<&'static str> {
    let of_role = |(name, event_type): (&'static str, EventType)| {
        (event_type.audience == Audience::Gateway(role)).then_some(name)
    };
    stored_names().filter_map(of_role).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_names_are_unique_and_have_a_resource_and_a_participle() {
        let names: Vec<&str> = ALL.iter().map(|(event_type, _)| event_type.name()).collect();
        assert!(names.iter().all(|name| name.matches('.').count() == 1), "{names:?}");
        let mut once = names.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), names.len());
    }

    #[test]
    fn an_unknown_event_type_is_visible_only_to_global_admins() {
        assert_eq!(audience("something.else"), Audience::GlobalAdmins);
        assert_eq!(audience("sandbox.ssh_session.created"), Audience::Gateway(Role::Operator));
    }
}
