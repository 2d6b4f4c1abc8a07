//! People who propose and vote, and the calls of a review.

use std::net::SocketAddr;

use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::approval_service_client::ApprovalServiceClient;
use shoreguard::pb::v1::approval_workflow_service_client::ApprovalWorkflowServiceClient;
use shoreguard::pb::v1::auth_service_client::AuthServiceClient;
use shoreguard::pb::v1::policy_service_client::PolicyServiceClient;
use shoreguard::pb::v1::user_service_client::UserServiceClient;

use crate::BoxError;
use crate::fleet::Admin;

/// Name of the sandbox, which the seed data of a simulated gateway has.
pub(super) const SANDBOX: &str = "coder";
/// Password of all people.
const PASSWORD: &str = "correct horse battery";

/// Creates an operator with an account. Returns its client.
pub(super) async fn hire(
    admin: &Admin,
    address: SocketAddr,
    name: &str,
) -> Result<Admin, BoxError> {
    let request = pb::InviteUserRequest {
        email: format!("{name}@example.com"),
        role: pb::Role::Operator.into(),
        ..Default::default()
    };
    let mut users = UserServiceClient::new(admin.channel());
    let invited = users.invite_user(admin.with_bearer(request)).await?.into_inner();
    let (invite_token, password) = (invited.invite_token, PASSWORD.to_owned());
    let mut auth = AuthServiceClient::new(admin.channel());
    let accepted = auth.accept_invite(pb::AcceptInviteRequest { invite_token, password }).await?;
    Admin::connect(address, &accepted.into_inner().session_token).await
}

/// Requires approvals of a number of operators on a gateway.
pub(super) async fn govern(admin: &Admin, gateway: &str, required: u32) -> Result<(), BoxError> {
    let operators = pb::VoterGroup {
        name: "operators".to_owned(),
        required,
        voters: Some(pb::VoterSet::default()),
    };
    let request = pb::SetWorkflowRequest {
        gateway: gateway.to_owned(),
        rule: Some(pb::ApprovalRule { groups: vec![operators], ..Default::default() }),
        ..Default::default()
    };
    let mut workflows = ApprovalWorkflowServiceClient::new(admin.channel());
    workflows.set_workflow(admin.with_bearer(request)).await?;
    Ok(())
}

/// Proposes a policy. Returns the approval, and the digest to vote for.
pub(super) async fn propose(
    by: &Admin,
    gateway: &str,
    yaml: String,
    mode: pb::PolicyApplyMode,
) -> Result<(i64, String), BoxError> {
    let request = pb::ApplyPolicyRequest {
        gateway: gateway.to_owned(),
        sandbox: SANDBOX.to_owned(),
        yaml,
        mode: mode.into(),
        ..Default::default()
    };
    let mut policies = PolicyServiceClient::new(by.channel());
    let answer = policies.apply_policy(by.with_bearer(request)).await?.into_inner();
    let change = answer.policy_change.ok_or("an answer without a change")?;
    if change.outcome() != pb::PolicyChangeOutcome::Proposed {
        return Err(format!("a proposal was {}", change.outcome().as_str_name()).into());
    }
    Ok((change.approval_id, change.approval_digest))
}

/// Returns a document that adds a rule for a host.
pub(super) fn addition(host: &str) -> String {
    format!(
        "network_policies: {{site: {{endpoints: [{{host: {host}, port: 443}}], binaries: [{{path: /usr/bin/git}}]}}}}"
    )
}

/// Returns the newest policy of the sandbox, as YAML.
pub(super) async fn policy(by: &Admin, gateway: &str) -> Result<String, BoxError> {
    let request = pb::GetPolicyRequest {
        gateway: gateway.to_owned(),
        sandbox: SANDBOX.to_owned(),
        ..Default::default()
    };
    let mut policies = PolicyServiceClient::new(by.channel());
    let answer = policies.get_policy(by.with_bearer(request)).await?.into_inner();
    Ok(answer.policy.ok_or("an answer without a policy")?.yaml)
}

/// Approves a change.
pub(super) async fn approve(by: &Admin, id: i64, digest: String) -> Result<(), BoxError> {
    let request = pb::VoteRequest {
        approval_id: id,
        digest,
        decision: pb::VoteDecision::Approve.into(),
        ..Default::default()
    };
    let mut approvals = ApprovalServiceClient::new(by.channel());
    approvals.vote(by.with_bearer(request)).await?;
    Ok(())
}

/// Returns the state of an approval.
pub(super) async fn state(by: &Admin, id: i64) -> Result<pb::ApprovalState, BoxError> {
    let request = pb::GetApprovalRequest { approval_id: id };
    let mut approvals = ApprovalServiceClient::new(by.channel());
    let answer = approvals.get_approval(by.with_bearer(request)).await?.into_inner();
    let found = answer.approval_detail.and_then(|detail| detail.approval);
    Ok(found.ok_or("an answer without an approval")?.state())
}
