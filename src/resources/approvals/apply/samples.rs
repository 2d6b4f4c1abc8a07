//! A round for unit tests.

use crate::openshell::Generation;
use crate::resources::approvals::rounds::{Round, RoundState, tests};

/// Returns an approved round of the sandbox with the id `sandbox`, based on a policy with the digest `base`.
pub(super) fn round() -> Round {
    Round {
        sandbox_id: Some("sandbox".to_owned()),
        state: RoundState::Approved,
        generation: Some(Generation::V0_1),
        base_version: Some(3),
        base_digest: Some("base".to_owned()),
        effective_hash: Some("effective".to_owned()),
        ..tests::round()
    }
}
