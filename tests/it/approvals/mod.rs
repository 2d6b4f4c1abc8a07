//! Reviews through the API. They are opened as the rpcs that propose changes open them: in a transaction of a checked
//! call, by `handle_write`.

mod attacks;
mod context;
mod ends;
mod inbox;
mod model;
mod plans;
mod reminders;
mod rule_changes;
mod touched;
mod voting;

use std::sync::Arc;
use std::time::{Duration, Instant};

use shoreguard::access::principal::PrincipalId;
use shoreguard::ctx::Call;
use shoreguard::db::types::{ApprovalRoundId, SandboxName, SandboxRef};
use shoreguard::governance::{Rule, VoterGroup, VoterSet};
use shoreguard::pb::v1 as pb;
use shoreguard::policy::Policy;
use shoreguard::resources::approvals::rounds::open::supersede;
use shoreguard::resources::approvals::rounds::store;
use shoreguard::resources::approvals::{
    Bounds, Content, NewProposal, NewRound, PolicyContent, ProposalMode, Summary, open,
};
use shoreguard::role::Role;
use shoreguard::rpc::call::handle_write;
use shoreguard::upstream::generation::Generation;
use tokio::sync::oneshot;
use tonic::{Request, Status};

use crate::support::server::{Caller, TestServer};
use crate::support::work::authenticate;

/// The method whose access check the proposals use.
const METHOD: &str = "/shoreguard.v1.ApprovalService/VoteMany";
/// A day.
pub(crate) const DAY: Duration = Duration::from_hours(24);

/// A change to propose.
#[derive(Clone)]
pub(crate) struct Proposal {
    pub(crate) gateway: &'static str,
    pub(crate) sandbox: &'static str,
    /// Host that the policy allows.
    pub(crate) host: String,
    pub(crate) owner: Option<PrincipalId>,
    pub(crate) authors: Vec<PrincipalId>,
    /// The round that it replaces.
    pub(crate) replaces: Option<i64>,
    /// Whether the caller decides if no workflow applies.
    pub(crate) decides: bool,
    /// Instead of a policy.
    pub(crate) content: Option<Content>,
    /// Version of the policy that it replaces.
    pub(crate) base_version: i64,
}

/// Returns a proposal for `box` on `edge`.
pub(crate) fn proposal(host: &str) -> Proposal {
    Proposal {
        gateway: "edge",
        sandbox: "box",
        host: host.to_owned(),
        owner: None,
        authors: Vec::new(),
        replaces: None,
        decides: false,
        content: None,
        base_version: 3,
    }
}

pub(crate) fn policy(host: &str) -> Policy {
    let text = format!(
        "version: 1\nnetwork_policies:\n  web:\n    endpoints:\n      - {{ host: {host}, port: 443 }}\n    binaries:\n      - {{ path: /usr/bin/curl }}\n"
    );
    Policy::from_yaml(Generation::V0_1, "yaml", &text).unwrap()
}

/// Builds a call, as the layers pass it to a handler.
fn request(sg: &TestServer, key: &str, gateway: &str) -> Request<pb::VoteManyRequest> {
    let message = pb::VoteManyRequest { gateway: gateway.to_owned(), ..Default::default() };
    let mut request = Request::new(message);
    request.extensions_mut().insert(Call {
        request_id: sg.app.new_id(),
        at: sg.app.clock.now(),
        started: Instant::now(),
        deadline: None,
        client_ip: None,
        caller: authenticate(&sg.app, key),
        method: METHOD,
        note: Arc::default(),
        traceparent: None,
        memory: None,
        read_tracker: None,
    });
    request
}

/// Proposes a change with this credential. Returns the id of the approval, and whether it was opened now.
pub(crate) async fn propose(
    sg: &TestServer,
    key: &str,
    proposal: &Proposal,
) -> Result<(i64, bool), Status> {
    let (sender, opened) = oneshot::channel();
    let wanted = proposal.clone();
    let work = async move |ctx: shoreguard::ctx::Ctx, _: pb::VoteManyRequest| {
        let name = SandboxName { workspace: "default".to_owned(), name: wanted.sandbox.to_owned() };
        let place = SandboxRef { gateway: ctx.required_gateway()?.clone(), name };
        let candidate = policy(&wanted.host);
        let yaml = candidate.to_yaml();
        let content = wanted.content.clone().unwrap_or_else(|| {
            let base = policy("base.example.com");
            Content::Policy(Box::new(PolicyContent { base, candidate }))
        });
        let actor = ctx.actor();
        let document = NewProposal {
            yaml: &yaml,
            mode: ProposalMode::Replace,
            expected_hash: Some("hash-of-base"),
            actor: &actor,
            principal: ctx.principal(),
        };
        let bounds = Bounds {
            sandbox_id: Some("id-of-box"),
            effective_hash: Some("hash-in-force"),
            grant_minutes: None,
        };
        let summary = Summary { comment: "a comment".to_owned(), added: 1, ..Summary::default() };
        let new = NewRound {
            place: &place,
            content: &content,
            bounds,
            base_version: Some(wanted.base_version),
            authors: &wanted.authors,
            owner: wanted.owner,
            summary,
            previous: wanted.replaces.map(ApprovalRoundId),
            proposal: matches!(content, Content::Policy(_)).then_some(document),
            decides: wanted.decides,
        };
        let opened = ctx
            .transaction(async |tx| {
                if let Some(id) = wanted.replaces {
                    let now = ctx.db().now(tx).await?;
                    let mut replaced = store::by_id(tx, ApprovalRoundId(id)).await?.unwrap();
                    supersede(&ctx, tx, &mut replaced, "edited", now).await?;
                }
                open(&ctx, tx, new).await
            })
            .await?;
        sender.send((opened.round.id.get(), opened.is_new)).unwrap();
        Ok(pb::VoteManyResponse::default())
    };
    handle_write(&sg.app, request(sg, key, proposal.gateway), work).await?;
    Ok(opened.await.unwrap())
}

/// People who propose and vote, each operator: the credential of each by name.
pub(crate) struct People {
    pub(crate) ana: String,
    pub(crate) ben: String,
    pub(crate) cleo: String,
    pub(crate) dora: String,
}

/// Registers `edge`, and creates four operators. `dora` proposes in most tests.
pub(crate) async fn people(sg: &TestServer) -> People {
    sg.register_unreachable("edge").await;
    People {
        ana: sg.create_user("ana@example.com", pb::Role::Operator).await,
        ben: sg.create_user("ben@example.com", pb::Role::Operator).await,
        cleo: sg.create_user("cleo@example.com", pb::Role::Operator).await,
        dora: sg.create_user("dora@example.com", pb::Role::Operator).await,
    }
}

/// Returns the id of a user.
pub(crate) fn user(sg: &TestServer, name: &str) -> i64 {
    sg.app.snapshot.user_by_email(&format!("{name}@example.com")).unwrap().get()
}

/// Returns the id of a service principal.
pub(crate) fn program(sg: &TestServer, name: &str) -> i64 {
    sg.app.snapshot.service_principal_by_name(name).unwrap().get()
}

/// Returns a set of named voters.
pub(crate) fn named(mut users: Vec<i64>, mut service_principals: Vec<i64>) -> VoterSet {
    users.sort_unstable();
    service_principals.sort_unstable();
    VoterSet { users, service_principals, ..VoterSet::of_role(Role::Viewer) }
}

/// Returns a rule of groups, all of which must be met.
pub(crate) fn rule(groups: &[(&str, u32, VoterSet)]) -> Rule {
    let groups: Vec<VoterGroup> = groups
        .iter()
        .map(|(name, required, voters)| VoterGroup {
            name: (*name).to_owned(),
            required: *required,
            voters: voters.clone(),
        })
        .collect();
    Rule {
        required_groups: u32::try_from(groups.len()).unwrap(),
        groups,
        distinct_actors: true,
        escalation: None,
        escalation_timeout_minutes: None,
        expire_minutes: 10_080,
        apply_window_minutes: 1_440,
    }
}

/// Stores a rule for `edge` as an earlier call would have.
pub(crate) async fn govern(sg: &TestServer, rule: &Rule) {
    let json = serde_json::to_string(rule).unwrap();
    govern_by(sg, &json).await;
}

/// Stores the JSON of a rule for `edge`.
pub(crate) async fn govern_by(sg: &TestServer, json: &str) {
    sg.sql("DELETE FROM approval_workflows").await;
    let statement = format!(
        "INSERT INTO approval_workflows (gateway_name, required_approvals, created_by, created_at, updated_at, \
         rule_json) VALUES ('edge', 1, 'test', '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000', '{json}')"
    );
    assert_eq!(sg.sql(&statement).await, 1);
}

/// Requires this many operators.
pub(crate) async fn require(sg: &TestServer, operators: u32) {
    govern(sg, &rule(&[("reviewers", operators, VoterSet::of_role(Role::Operator))])).await;
}

impl Caller {
    /// Gets an approval.
    pub(crate) async fn approval(&self, id: i64) -> pb::ApprovalDetail {
        let request = pb::GetApprovalRequest { approval_id: id };
        let found = self.approvals().get_approval(request).await.unwrap().into_inner();
        found.approval_detail.unwrap()
    }

    /// Votes for the content that an approval has now.
    pub(crate) async fn vote(
        &self,
        id: i64,
        decision: pb::VoteDecision,
    ) -> Result<pb::Approval, Status> {
        let digest = self.approval(id).await.approval.unwrap().digest;
        let comment = "a reason".to_owned();
        let request = pb::VoteRequest {
            approval_id: id,
            digest,
            decision: decision.into(),
            comment,
            ..Default::default()
        };
        Ok(self.approvals().vote(request).await?.into_inner().approval.unwrap())
    }

    /// Approves the content that an approval has now.
    pub(crate) async fn approve(&self, id: i64) -> Result<pb::Approval, Status> {
        self.vote(id, pb::VoteDecision::Approve).await
    }

    /// Returns the votes of an approval, including those that were cleared.
    pub(crate) async fn votes(&self, id: i64) -> Vec<pb::ApprovalDecision> {
        let request = pb::ListApprovalDecisionsRequest { approval_id: id, ..Default::default() };
        let page = self.approvals().list_approval_decisions(request).await.unwrap().into_inner();
        page.approval_decisions
    }
}

/// Returns the number of events of a type.
pub(crate) async fn events(sg: &TestServer, name: &str) -> usize {
    sg.sql(&format!("UPDATE events SET name = name WHERE name = '{name}'")).await
}

/// Returns a fact in the metadata of a refusal.
pub(crate) fn fact(status: &Status, key: &str) -> String {
    use tonic_types::StatusExt;
    let details = status.get_error_details();
    let info = details.error_info().expect("a reason");
    info.metadata.get(key).cloned().unwrap_or_default()
}
