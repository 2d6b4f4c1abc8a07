//! Approved policies are written to their gateway exactly once. Rounds are opened as the calls that propose a change
//! open them; without a workflow, the caller has approved by calling.

mod crashes;
mod draft_crashes;
mod lost_answers;
mod lost_marks;
mod once;
mod reminders;
mod replicas;
mod vote_crashes;

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use shoreguard::app::App;
use shoreguard::ctx::Ctx;
use shoreguard::db::types::{ApprovalRoundId, SandboxName, SandboxRef};
use shoreguard::error::Error;
use shoreguard::openshell::Gateway;
use shoreguard::pb::v1 as pb;
use shoreguard::policy::Policy;
use shoreguard::resources::approvals::rounds::store;
use shoreguard::resources::approvals::{
    self, Bounds, Content, NewProposal, NewRound, PolicyContent, ProposalMode, Round, RoundState,
    Summary,
};
use shoreguard::rpc::call::handle_write;
use shoreguard_simulator::Simulator;
use tokio::sync::oneshot;

use crate::policies::{endpoint, with_rule};
use crate::support::eventually;
use crate::support::server::{Caller, TestServer};
use crate::support::work::{OperationSpec, start_request};

/// Times in which a pass of the dispatcher sees that an operation has ended, and in which the next one has an effect.
const PASS_TIMES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(300)];

/// Opens a round for a policy with one rule for a host. Its caller has approved it.
pub(crate) async fn open_round(
    app: &Arc<App>,
    proposal: &OperationSpec,
    host: &str,
) -> ApprovalRoundId {
    open_round_as(app, proposal, host, true).await
}

/// Opens such a round. With `decides`, its caller has approved it; otherwise, it waits for votes.
pub(crate) async fn open_round_as(
    app: &Arc<App>,
    proposal: &OperationSpec,
    host: &str,
    decides: bool,
) -> ApprovalRoundId {
    let candidate = with_rule("site", endpoint(host, 443)).encode_to_vec();
    let sandbox = SandboxName { workspace: "default".to_owned(), name: proposal.sandbox.clone() };
    let (sender, opened) = oneshot::channel();
    let answer = handle_write(app, start_request(app, proposal), async move |ctx, _| {
        let opened = propose(&ctx, sandbox, &candidate, decides).await?;
        let _ = sender.send(opened);
        Ok(pb::GetOperationResponse::default())
    });
    answer.await.unwrap();
    opened.await.unwrap()
}

async fn propose(
    ctx: &Ctx,
    sandbox: SandboxName,
    candidate: &[u8],
    decides: bool,
) -> Result<ApprovalRoundId, Error> {
    let gateway = ctx.required_gateway()?.clone();
    let connected = Gateway::connect(ctx.app(), &gateway).await?;
    let found = connected.get_sandbox(&sandbox).await?;
    let (revision, _) = connected.policy_revision(&sandbox, 0).await?;
    let effective = connected.effective_policy(&sandbox).await?;
    let base = Policy::decode(connected.generation(), &revision.policy.unwrap())?;
    let candidate = Policy::decode(connected.generation(), candidate)?;
    let content = Content::Policy(Box::new(PolicyContent { base, candidate }));
    let (place, actor) = (SandboxRef { gateway, name: sandbox }, ctx.actor());
    let opened = ctx
        .transaction(async |tx| {
            let proposal = NewProposal {
                yaml: "version: 1\n",
                mode: ProposalMode::Replace,
                expected_hash: None,
                actor: &actor,
                principal: ctx.principal(),
            };
            let bounds = Bounds {
                sandbox_id: Some(&found.id),
                effective_hash: Some(&effective.policy_hash),
                ..Bounds::default()
            };
            let new = NewRound {
                place: &place,
                content: &content,
                bounds,
                base_version: Some(i64::from(revision.version)),
                authors: &[],
                owner: None,
                summary: Summary::default(),
                previous: None,
                proposal: Some(proposal),
                decides,
            };
            approvals::open(ctx, tx, new).await
        })
        .await?;
    approvals::wake(ctx.app());
    Ok(opened.round.id)
}

/// Returns a round.
pub(crate) async fn round(app: &App, id: ApprovalRoundId) -> Round {
    let mut conn = app.db.read().await.unwrap();
    store::by_id(&mut conn, id).await.unwrap().unwrap()
}

/// Waits until a round is in a state. Returns it.
pub(crate) async fn wait_for(app: &App, id: ApprovalRoundId, state: RoundState) -> Round {
    eventually(state.as_str(), || async {
        let round = round(app, id).await;
        let is_there = round.state == state;
        assert!(is_there || !round.state.is_closed(), "it has ended in another way: {round:?}");
        is_there
    })
    .await;
    round(app, id).await
}

/// Lets the delay between two operations pass until a round is in a state.
pub(crate) async fn advance_until(app: &App, id: ApprovalRoundId, state: RoundState) {
    while round(app, id).await.state != state {
        // The first pass sees that the operation has ended, the second that the delay has passed.
        for (by, time) in [Duration::ZERO, Duration::from_secs(6)].into_iter().zip(PASS_TIMES) {
            app.clock.advance(by);
            approvals::wake(app);
            let is_there = || async { round(app, id).await.state == state };
            let _ = tokio::time::timeout(time, eventually(state.as_str(), is_there)).await;
        }
    }
}

/// Returns the payload of an event about a round.
pub(crate) async fn find_event(
    caller: &Caller,
    name: &str,
    id: ApprovalRoundId,
) -> serde_json::Value {
    let request = pb::WatchEventsRequest { names: vec![name.to_owned()], ..Default::default() };
    let mut events = caller.events().watch_events(request).await.unwrap().into_inner();
    loop {
        let Some(event) = events.message().await.unwrap().unwrap().event else { continue };
        let payload: serde_json::Value = serde_json::from_str(&event.payload_json).unwrap();
        if payload["approval"] == id.get() {
            return payload;
        }
    }
}

/// Returns the number of calls that write a policy or a setting.
pub(crate) fn updates(simulator: &Simulator) -> u64 {
    let calls = simulator.calls();
    calls.get("/openshell.v1.OpenShell/UpdateConfig").copied().unwrap_or_default()
}

/// Returns the number of revisions of the policy of `coder`.
pub(crate) fn revisions(simulator: &Simulator) -> u64 {
    simulator.policy_counts("", "coder").unwrap().revisions
}

/// Number of writes of the policy of `coder` in the demo data: one draft is approved.
const SEEDED_WRITES: u64 = 1;

/// Returns the number of writes of the policy of `coder` that the gateway has carried out since it was seeded.
pub(crate) fn writes(simulator: &Simulator) -> u64 {
    simulator.policy_counts("", "coder").unwrap().writes - SEEDED_WRITES
}

impl TestServer {
    /// Opens a round of `coder` as the admin, who has approved it by calling.
    pub(crate) async fn open_round(&self, gateway: &str, host: &str) -> ApprovalRoundId {
        open_round(&self.app, &self.operation_spec(gateway, "coder"), host).await
    }
}
