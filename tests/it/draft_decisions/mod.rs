//! Decisions about what agents ask for: through Shoreguard's own API and by stock clients of both generations.

mod attacks;
mod bulk;
mod changes;
mod gaps;
mod marks;
mod once;
mod stock;

use prost::Message;
use shoreguard::db::types::ApprovalRoundId;
use shoreguard::pb::v0_0::openshell::sandbox::v1 as old_sandbox;
use shoreguard::pb::v0_0::openshell::v1 as old;
use shoreguard::pb::v0_1::openshell::sandbox::v1 as new_sandbox;
use shoreguard::pb::v0_1::openshell::v1 as new;
use shoreguard::pb::v1 as pb;
use shoreguard_simulator::{Generation, Simulator};
use tonic::Status;

use crate::approvals::fact;
use crate::policies::{endpoint, seeded};
use crate::proposals::{Staff, govern};
use crate::proxy::for_gateway;
use crate::support::gateways::propose_host;
use crate::support::server::{Caller, TestServer};

/// Name and generation of a gateway.
pub(crate) type GatewayOf<'a> = (&'a str, Generation);

/// A chunk as a stock client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Chunk {
    id: String,
    status: String,
    token: String,
    rule_name: String,
}

/// Calls a method with the request of the generation of a gateway.
macro_rules! stock {
    ($caller:expr, $of:expr, $method:ident, $old:expr, $new:expr) => {{
        let (name, generation) = $of;
        match generation {
            Generation::V0_0 => {
                let mut client = $caller.openshell_v0_0();
                client.$method(for_gateway(name, $old)).await.map(|answer| {
                    let answer = answer.into_inner();
                    answer.encode_to_vec()
                })
            }
            Generation::V0_1 => {
                let mut client = $caller.openshell_v0_1();
                client.$method(for_gateway(name, $new)).await.map(|answer| {
                    let answer = answer.into_inner();
                    answer.encode_to_vec()
                })
            }
        }
    }};
}

/// Returns the chunks of `coder`.
async fn chunks(caller: &Caller, of: GatewayOf<'_>) -> Vec<Chunk> {
    let answer = stock!(
        caller,
        of,
        get_draft_policy,
        old::GetDraftPolicyRequest { name: "coder".to_owned(), ..Default::default() },
        new::GetDraftPolicyRequest { sandbox: "coder".to_owned(), ..Default::default() }
    );
    // These fields are the same in both generations.
    let answer = answer.unwrap();
    let found = match of.1 {
        Generation::V0_0 => {
            let found = old::GetDraftPolicyResponse::decode(&answer[..]).unwrap().chunks;
            let chunk = |found: old::PolicyChunk| {
                (found.id, found.status, found.review_token, found.rule_name)
            };
            found.into_iter().map(chunk).collect::<Vec<_>>()
        }
        Generation::V0_1 => {
            let found = new::GetDraftPolicyResponse::decode(&answer[..]).unwrap().chunks;
            let chunk = |found: new::PolicyChunk| {
                (found.id, found.status, found.review_token, found.rule_name)
            };
            found.into_iter().map(chunk).collect()
        }
    };
    let chunk = |(id, status, token, rule_name)| Chunk { id, status, token, rule_name };
    found.into_iter().map(chunk).collect()
}

/// Returns a chunk of `coder`.
async fn chunk(caller: &Caller, of: GatewayOf<'_>, id: &str) -> Chunk {
    let found = chunks(caller, of).await.into_iter().find(|chunk| chunk.id == id);
    found.expect("the gateway has the chunk")
}

/// Returns the chunk of `coder` that is pending in the demo data.
async fn pending(caller: &Caller, of: GatewayOf<'_>) -> Chunk {
    let found = chunks(caller, of).await.into_iter().find(|chunk| chunk.status == "pending");
    found.expect("the gateway has a pending chunk")
}

/// Lets the agent of `coder` ask for a host. Returns the id of the chunk.
fn ask(simulator: &Simulator, host: &str) -> String {
    propose_host(simulator, "coder", host)
}

/// Approves a chunk as a stock client. Returns version and hash of the policy.
async fn approve(
    caller: &Caller,
    of: GatewayOf<'_>,
    chunk: &Chunk,
) -> Result<(u32, String), Status> {
    let (chunk_id, review_token) = (chunk.id.clone(), chunk.token.clone());
    let answer = stock!(
        caller,
        of,
        approve_draft_chunk,
        old::ApproveDraftChunkRequest {
            name: "coder".to_owned(),
            chunk_id: chunk_id.clone(),
            review_token: review_token.clone(),
            ..Default::default()
        },
        new::ApproveDraftChunkRequest {
            sandbox: "coder".to_owned(),
            chunk_id,
            review_token,
            ..Default::default()
        }
    );
    // Its fields are the same in both generations.
    let answer = old::ApproveDraftChunkResponse::decode(&answer?[..]).unwrap();
    Ok((answer.policy_version, answer.policy_hash))
}

/// Approves a list of chunks, or all without one, as a stock client.
async fn approve_all(
    caller: &Caller,
    of: GatewayOf<'_>,
    listed: &[Chunk],
) -> Result<old::ApproveAllDraftChunksResponse, Status> {
    let old_item = |chunk: &Chunk| old::DraftChunkApproval {
        chunk_id: chunk.id.clone(),
        review_token: chunk.token.clone(),
    };
    let new_item = |chunk: &Chunk| new::DraftChunkApproval {
        chunk_id: chunk.id.clone(),
        review_token: chunk.token.clone(),
    };
    let answer = stock!(
        caller,
        of,
        approve_all_draft_chunks,
        old::ApproveAllDraftChunksRequest {
            name: "coder".to_owned(),
            include_security_flagged: true,
            approvals: listed.iter().map(old_item).collect(),
            ..Default::default()
        },
        new::ApproveAllDraftChunksRequest {
            sandbox: "coder".to_owned(),
            include_security_flagged: true,
            approvals: listed.iter().map(new_item).collect(),
            ..Default::default()
        }
    );
    // Its fields are the same in both generations.
    Ok(old::ApproveAllDraftChunksResponse::decode(&answer?[..]).unwrap())
}

/// Rejects a chunk as a stock client.
async fn reject(caller: &Caller, of: GatewayOf<'_>, id: &str) -> Result<(), Status> {
    let (chunk_id, reason) = (id.to_owned(), "not needed".to_owned());
    stock!(
        caller,
        of,
        reject_draft_chunk,
        old::RejectDraftChunkRequest {
            name: "coder".to_owned(),
            chunk_id: chunk_id.clone(),
            reason: reason.clone(),
            ..Default::default()
        },
        new::RejectDraftChunkRequest {
            sandbox: "coder".to_owned(),
            chunk_id,
            reason,
            ..Default::default()
        }
    )
    .map(drop)
}

/// Undoes a chunk as a stock client.
async fn undo(caller: &Caller, of: GatewayOf<'_>, id: &str) -> Result<(), Status> {
    let chunk_id = id.to_owned();
    stock!(
        caller,
        of,
        undo_draft_chunk,
        old::UndoDraftChunkRequest {
            name: "coder".to_owned(),
            chunk_id: chunk_id.clone(),
            ..Default::default()
        },
        new::UndoDraftChunkRequest { sandbox: "coder".to_owned(), chunk_id, ..Default::default() }
    )
    .map(drop)
}

/// Returns a rule for a host and the program of the chunks.
fn rule(host: &str) -> old_sandbox::NetworkPolicyRule {
    old_sandbox::NetworkPolicyRule {
        endpoints: vec![endpoint(host, 443)],
        binaries: vec![old_sandbox::NetworkBinary {
            path: "/usr/bin/node".to_owned(),
            harness: false,
        }],
        ..Default::default()
    }
}

/// Replaces the rule of a chunk as a stock client.
async fn edit(caller: &Caller, of: GatewayOf<'_>, id: &str, host: &str) -> Result<(), Status> {
    let (chunk_id, edited) = (id.to_owned(), rule(host));
    // The fields of this rule are the same in both generations.
    let new_rule = new_sandbox::NetworkPolicyRule::decode(&edited.encode_to_vec()[..]).unwrap();
    stock!(
        caller,
        of,
        edit_draft_chunk,
        old::EditDraftChunkRequest {
            name: "coder".to_owned(),
            chunk_id: chunk_id.clone(),
            proposed_rule: Some(edited),
            ..Default::default()
        },
        new::EditDraftChunkRequest {
            sandbox: "coder".to_owned(),
            chunk_id,
            proposed_rule: Some(new_rule),
            ..Default::default()
        }
    )
    .map(drop)
}

/// Deletes the pending chunks as a stock client.
async fn clear(caller: &Caller, of: GatewayOf<'_>) -> Result<u32, Status> {
    let answer = stock!(
        caller,
        of,
        clear_draft_chunks,
        old::ClearDraftChunksRequest { name: "coder".to_owned(), ..Default::default() },
        new::ClearDraftChunksRequest { sandbox: "coder".to_owned(), ..Default::default() }
    );
    Ok(old::ClearDraftChunksResponse::decode(&answer?[..]).unwrap().chunks_cleared)
}

/// Votes for a chunk as a stock client, below quorum. Returns the number of the approval.
async fn open_by_vote(caller: &Caller, of: GatewayOf<'_>, chunk: &Chunk) -> i64 {
    let required = approve(caller, of, chunk).await;
    let required = assert_refused!(required, FailedPrecondition, "APPROVAL_REQUIRED");
    fact(&required, "approval").parse().unwrap()
}

/// Starts a gateway on which `required` of three operators must approve changes. Returns it with its pending draft.
async fn drafted(sg: &TestServer, of: GatewayOf<'_>, required: u32) -> (Simulator, Staff, Chunk) {
    let simulator = seeded(sg, of.0, of.1).await;
    let staff = govern(sg, of.0, required).await;
    let wanted = pending(&staff.dora, of).await;
    (simulator, staff, wanted)
}

/// Starts a gateway with a pending draft for which one of two operators has voted. Returns both, and the number of the
/// approval.
async fn voted(sg: &TestServer, of: GatewayOf<'_>) -> (Simulator, Staff, Chunk, i64) {
    let (simulator, staff, wanted) = drafted(sg, of, 2).await;
    let id = open_by_vote(&staff.dora, of, &wanted).await;
    (simulator, staff, wanted, id)
}

/// Returns the number of calls of a method that have reached a gateway.
fn calls(simulator: &Simulator, method: &str) -> u64 {
    let path = format!("/openshell.v1.OpenShell/{method}");
    simulator.calls().get(path.as_str()).copied().unwrap_or_default()
}

fn round_id(id: i64) -> ApprovalRoundId {
    ApprovalRoundId(id)
}

/// Returns an approval.
async fn shown(caller: &Caller, id: i64) -> pb::Approval {
    caller.approval(id).await.approval.unwrap()
}
