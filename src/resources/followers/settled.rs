//! Data of a pass in which nothing had changed and nothing was written. The next pass reads it again only if something
//! has changed.
//!
//! Invariants
//! - the counts and versions of the rows were read before the rows, and before the gateway was called: they differ if
//!   a row has changed since;
//! - the data is dropped when a pass begins, and kept again by a pass that has not failed and has written nothing: it
//!   is never older than the last pass;
//! - of the list of the gateway, only the stored fields are compared, since a gateway may encode the same list in
//!   another way.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

use super::store::Stamp;
use crate::db::types::{ApprovalRoundId, SandboxName};
use crate::openshell::sandbox::Sandbox;
use crate::resources::approvals::rounds::Round;
use crate::resources::sandboxes::domain::SandboxMeta;
use crate::resources::sandboxes::positions::store::Position;
use crate::seal::join_parts;

/// Rounds of drafts of one gateway that are remembered. With more, they are read in each pass.
const ROUNDS_MAX: usize = 1_000;

/// The positions of the sandboxes of a gateway.
pub(super) type Positions = HashMap<SandboxName, Position>;

/// Data of the last pass, kept in memory.
#[derive(Debug)]
pub(super) struct Settled {
    /// Counts and versions of the stored rows.
    pub(super) stamp: Stamp,
    /// The list of the gateway.
    pub(super) list: ListDigest,
    /// The positions of the listed sandboxes.
    pub(super) positions: Positions,
    /// Stored rows about drafts.
    pub(super) drafts: StoredDrafts,
}

/// Stored rows about the drafts of a gateway.
#[derive(Debug, Default)]
pub(super) struct StoredDrafts {
    /// Number of rounds that have not ended, of the sandboxes that have some.
    pub(super) open: HashMap<SandboxName, i64>,
    /// Sandboxes that have a row of drafts without a round.
    pub(super) noted: HashSet<SandboxName>,
    /// Rounds that have not ended, of the sandboxes whose rounds were read.
    pub(super) rounds: HashMap<SandboxName, Vec<OpenRound>>,
}

impl StoredDrafts {
    /// Drops the rounds if there are too many.
    pub(super) fn limit(&mut self) {
        if self.rounds.values().map(Vec::len).sum::<usize>() > ROUNDS_MAX {
            self.rounds.clear();
        }
    }
}

/// A round of a draft that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OpenRound {
    pub(super) id: ApprovalRoundId,
    pub(super) version: i64,
    pub(super) chunk_id: String,
    /// Whether it can be decided.
    pub(super) is_voting: bool,
    /// Whether its chunk was rejected when it was opened.
    pub(super) was_rejected: bool,
}

impl From<Round> for OpenRound {
    fn from(round: Round) -> Self {
        let draft = round.summary.draft.as_ref();
        Self {
            id: round.id,
            version: round.version,
            is_voting: round.state.is_voting(),
            was_rejected: draft.is_some_and(|draft| draft.was_rejected),
            chunk_id: round.chunk_id,
        }
    }
}

/// A list of sandboxes, as far as something is stored of it: names, ids and phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ListDigest([u8; 32]);

impl ListDigest {
    /// Returns the digest of a complete list in the order of the names.
    pub(super) fn of(sandboxes: &[Sandbox]) -> Self {
        let mut digest = Sha256::new();
        for Sandbox { full_name: SandboxName { workspace, name }, id, phase, .. } in sandboxes {
            let parts = [workspace.as_str(), name, id, phase.as_str()];
            digest.update(join_parts(&parts.map(str::as_bytes)));
        }
        Self(digest.finalize().into())
    }
}

/// Returns whether a comparison of these rows with a complete list would store nothing: each listed sandbox is known
/// and was reported in its phase, and no sandbox is missing.
pub(super) fn is_settled(
    metas: &[SandboxMeta],
    positions: &Positions,
    sandboxes: &[Sandbox],
) -> bool {
    let listed: HashMap<&SandboxName, &Sandbox> =
        sandboxes.iter().map(|sandbox| (&sandbox.full_name, sandbox)).collect();
    let mut known = HashSet::new();
    for meta in metas {
        let name = meta.full_name();
        match (listed.get(&name), meta.sandbox_id.as_ref()) {
            // It was never seen, so that it is not missing.
            (None, None) => {}
            (Some(live), Some(id)) if live.id == *id && meta.missing_since.is_none() => {
                known.insert(name);
            }
            (None | Some(_), None | Some(_)) => return false,
        }
    }
    let is_reported = |sandbox: &Sandbox| {
        let position = positions.get(&sandbox.full_name);
        position.is_some_and(|at| at.sandbox_uid == sandbox.id && at.phase == sandbox.phase)
    };
    sandboxes.iter().all(|sandbox| known.contains(&sandbox.full_name) && is_reported(sandbox))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::openshell::samples;
    use crate::openshell::sandbox::Phase;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

    fn name() -> SandboxName {
        SandboxName { workspace: "default".to_owned(), name: "box".to_owned() }
    }

    fn sandbox(id: &str, phase: Phase) -> Sandbox {
        Sandbox { id: id.to_owned(), phase, ..samples::sandbox(&name().name) }
    }

    fn meta(id: Option<&str>, missing_since: Option<Timestamp>) -> SandboxMeta {
        SandboxMeta {
            id: 1,
            workspace: name().workspace,
            sandbox_name: name().name,
            sandbox_id: id.map(str::to_owned),
            description: None,
            labels_json: None,
            created_at: NOW,
            updated_at: None,
            missing_since,
            version: 1,
        }
    }

    fn position(id: &str, phase: Phase) -> Positions {
        let position = Position {
            workspace: name().workspace,
            sandbox_name: name().name,
            sandbox_uid: id.to_owned(),
            phase,
            log_time: None,
            log_gaps: 0,
            bypass_dropped: 0,
        };
        HashMap::from([(name(), position)])
    }

    #[test]
    fn only_a_list_of_which_everything_is_stored_needs_no_comparison() {
        let (ready, none) = (Phase::Ready, Positions::new());
        let listed = [sandbox("a", ready)];
        let known = [meta(Some("a"), None)];
        assert!(is_settled(&known, &position("a", ready), &listed));
        assert!(is_settled(&[], &none, &[]));
        assert!(is_settled(&[meta(None, None)], &none, &[]), "it was never seen");
        for (metas, positions) in [
            (vec![], position("a", ready)),
            (vec![meta(None, None)], position("a", ready)),
            (vec![meta(Some("b"), None)], position("a", ready)),
            (vec![meta(Some("a"), Some(NOW))], position("a", ready)),
            (known.to_vec(), none.clone()),
            (known.to_vec(), position("b", ready)),
            (known.to_vec(), position("a", Phase::Stopped)),
        ] {
            assert!(!is_settled(&metas, &positions, &listed), "{metas:?} {positions:?}");
        }
        for missing_since in [None, Some(NOW)] {
            assert!(!is_settled(&[meta(Some("a"), missing_since)], &none, &[]), "it is missing");
        }
    }

    #[test]
    fn a_list_differs_if_a_name_an_id_or_a_phase_does() {
        let before = ListDigest::of(&[sandbox("a", Phase::Ready)]);
        let changed = |change: fn(&mut Sandbox)| {
            let mut sandbox = sandbox("a", Phase::Ready);
            change(&mut sandbox);
            ListDigest::of(&[sandbox]) != before
        };
        assert!(!changed(|_| {}));
        assert!(!changed(|sandbox| sandbox.resource_version += 1));
        assert!(changed(|sandbox| sandbox.phase = Phase::Stopped));
        assert!(changed(|sandbox| "b".clone_into(&mut sandbox.id)));
        assert!(changed(|sandbox| "b".clone_into(&mut sandbox.full_name.name)));
        assert!(changed(|sandbox| "b".clone_into(&mut sandbox.full_name.workspace)));
        assert_ne!(ListDigest::of(&[]), before);
    }

    #[test]
    fn t20_the_number_of_remembered_rounds_is_limited() {
        let round = OpenRound {
            id: ApprovalRoundId(1),
            version: 1,
            chunk_id: "c".to_owned(),
            is_voting: true,
            was_rejected: false,
        };
        let mut drafts = StoredDrafts::default();
        for (rounds, left) in [(ROUNDS_MAX, 1), (ROUNDS_MAX + 1, 0)] {
            drafts.rounds.insert(name(), vec![round.clone(); rounds]);
            drafts.limit();
            assert_eq!(drafts.rounds.len(), left);
        }
    }
}
