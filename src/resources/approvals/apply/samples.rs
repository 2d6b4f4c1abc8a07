//! A round for unit tests.

use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::types::{GatewayId, GatewayRef, SandboxName, SandboxRef, UserId};
use crate::governance::Action;
use crate::openshell::Generation;
use crate::resources::approvals::rounds::{Progress, Round, RoundState, Summary};

/// Returns an approved round of the sandbox with the id `sandbox`, based on a policy with the digest `base`.
pub(super) fn round() -> Round {
    let gateway = GatewayRef { id: GatewayId(1), name: "edge".into() };
    let name = SandboxName { workspace: "default".to_owned(), name: "box".to_owned() };
    Round {
        id: 7.into(),
        action: Action::PolicyApply,
        place: SandboxRef { gateway, name },
        sandbox_id: Some("sandbox".to_owned()),
        chunk_id: "policy.apply:digest".to_owned(),
        state: RoundState::Approved,
        digest: "digest".to_owned(),
        generation: Some(Generation::V0_1),
        base_version: Some(3),
        base_digest: Some("base".to_owned()),
        effective_hash: Some("effective".to_owned()),
        authors: vec![PrincipalId::User(UserId(1))],
        owner: None,
        summary: Summary::default(),
        grant_minutes: None,
        opened_at: Timestamp::EPOCH,
        escalates_at: None,
        escalated_at: None,
        expires_at: None,
        due_at: None,
        closed_at: None,
        version: 1,
        progress: Progress::default(),
    }
}
