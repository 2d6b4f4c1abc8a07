//! Determines the outcome of a decision about a draft from its status on the gateway and from the revisions.

use super::found::{Found, Written};
use super::live;
use crate::db::Conn;
use crate::error::{Error, ResourceKind};
use crate::openshell::drafts::ChunkStatus;
use crate::openshell::policies::Revision;
use crate::openshell::{Gateway, Generation};
use crate::policy::{LostMarks, Policy};
use crate::resources::approvals::drafts::content::{DraftContent, UndoContent};
use crate::resources::approvals::rounds::{Content, Round, store as rounds};

/// The reviewed content of a draft.
#[derive(Debug)]
pub(super) enum Reviewed {
    /// Its approval.
    Approve(Box<DraftContent>),
    /// The removal of an approved one.
    Undo(Box<UndoContent>),
}

/// A revision of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SeenRule {
    version: u32,
    policy_hash: String,
    /// Approved marks that its rule lacks. `None` if it does not have the approved rule.
    lost_marks: Option<LostMarks>,
}

impl SeenRule {
    /// Compares the rule of a revision. A policy with a part that this build does not know does not have the approved
    /// rule: the part may widen it.
    fn of(reviewed: &Reviewed, generation: Generation, revision: Revision) -> Self {
        let policy = live::readable(generation, &revision);
        Self {
            version: revision.version,
            policy_hash: revision.policy_hash,
            lost_marks: policy.and_then(|policy| reviewed.marks_lost_in(&policy)),
        }
    }

    /// Returns whether it has the approved rule with all its marks.
    fn is_complete(&self) -> bool {
        self.lost_marks.as_ref().is_some_and(LostMarks::is_empty)
    }
}

impl Reviewed {
    /// Reads the content of a round.
    pub(super) async fn read(conn: &mut Conn, round: &Round) -> Result<Self, Error> {
        let stored = rounds::content(conn, round.id).await?;
        match Content::decode(round.action, round.generation, &stored)? {
            Content::Draft(content) => Ok(Self::Approve(content)),
            Content::Undo(content) => Ok(Self::Undo(content)),
            Content::Policy(_) | Content::Rule(_) => {
                Err(Error::internal("a content that is not that of a draft"))
            }
        }
    }

    /// Returns the gateway's id of the chunk.
    pub(super) fn chunk_id<'a>(&'a self, round: &'a Round) -> &'a str {
        match self {
            // A repeated ask has another id, and the same round.
            Self::Approve(_) => &round.chunk_id,
            Self::Undo(content) => &content.chunk_id,
        }
    }

    /// Returns the approved marks that the rule of a policy lacks. `None` if the policy does not have the rule as it
    /// was approved.
    fn marks_lost_in(&self, policy: &Policy) -> Option<LostMarks> {
        let (wanted, found) = match self {
            Self::Approve(content) => (&content.result, policy.rules_named_in(&content.result)),
            Self::Undo(content) => (&content.after, policy.only_rule(&content.rule_name)),
        };
        wanted.marks_lost_in(&found.ok()?)
    }

    fn wanted(&self) -> Wanted {
        match self {
            Self::Approve(_) => Wanted::Approved,
            Self::Undo(_) => Wanted::Removed,
        }
    }
}

/// State of the chunk after a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// The chunk is approved.
    Approved,
    /// The chunk is pending again.
    Removed,
}

/// Asks the gateway for the outcome of a decision. `base_version` is the newest version before it.
///
/// # Errors
/// `NOT_FOUND` if the sandbox does not exist, or is another one.
pub(super) async fn look(
    gateway: &Gateway,
    round: &Round,
    reviewed: &Reviewed,
    base_version: u32,
) -> Result<Found, Error> {
    let sandbox = &round.place.name;
    let id = gateway.get_sandbox(sandbox).await?.id;
    if round.sandbox_id.as_ref().is_some_and(|known| *known != id) {
        return Err(Error::not_found(ResourceKind::Sandbox, &sandbox.name));
    }
    let status = gateway.chunk_status(sandbox, reviewed.chunk_id(round)).await?;
    let revisions = live::full_revisions_after(gateway, sandbox, base_version).await?;
    let seen = |revision| SeenRule::of(reviewed, gateway.generation(), revision);
    let revisions = live::map_in_turns(revisions, seen).await;
    Ok(decide(reviewed.wanted(), status, &revisions, base_version))
}

/// Determines the outcome of a decision. `revisions` are the newest one and all after the base, newest first.
fn decide(
    wanted: Wanted,
    status: Option<ChunkStatus>,
    revisions: &[SeenRule],
    base_version: u32,
) -> Found {
    // The first revision with the rule, with all its marks if there is one. Without a change, a gateway writes no
    // revision.
    let after_base = || revisions.iter().rev().filter(move |seen| seen.version > base_version);
    let complete = after_base().find(|seen| seen.is_complete());
    let later = complete.or_else(|| after_base().find(|seen| seen.lost_marks.is_some()));
    let newest = revisions.first();
    let reached = later.or_else(|| newest.filter(|seen| seen.lost_marks.is_some()));
    let done = |seen: &SeenRule| {
        Found::Done(Written {
            version: seen.version,
            policy_hash: seen.policy_hash.clone(),
            lost_marks: seen.lost_marks.clone().unwrap_or_default(),
        })
    };
    let altered = || Found::Altered { version: newest.map_or(base_version, |seen| seen.version) };
    // It was done, and another decision followed. It is not repeated (g02).
    let not_done = || if later.is_some() { Found::Moved } else { Found::NotDone };
    match (wanted, status) {
        (Wanted::Approved, Some(ChunkStatus::MaybeApproved))
        | (Wanted::Removed, Some(ChunkStatus::Pending)) => reached.map_or_else(altered, done),
        (Wanted::Approved, Some(ChunkStatus::Pending | ChunkStatus::Rejected))
        | (Wanted::Removed, Some(ChunkStatus::MaybeApproved)) => not_done(),
        (Wanted::Approved, None) => Found::Moved,
        // Another decision followed, or came first.
        (Wanted::Removed, Some(ChunkStatus::Rejected) | None) => reached.map_or(Found::Moved, done),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prost::Message as _;
    use shoreguard_proto::v0_0::openshell::sandbox::v1 as proto;
    use shoreguard_proto::wire;

    use super::*;
    use crate::openshell::policies::RevisionStatus;

    fn with_marks(version: u32, lost_marks: Option<&[&str]>) -> SeenRule {
        let lost = |paths: &[&str]| {
            let named: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
            LostMarks { total: named.len(), named }
        };
        let lost_marks = lost_marks.map(lost);
        SeenRule { version, policy_hash: format!("hash {version}"), lost_marks }
    }

    fn revision(version: u32, is_as_approved: bool) -> SeenRule {
        if is_as_approved { with_marks(version, Some(&[])) } else { with_marks(version, None) }
    }

    fn done(version: u32) -> Found {
        let policy_hash = format!("hash {version}");
        Found::Done(Written { version, policy_hash, lost_marks: LostMarks::default() })
    }

    /// Field 99 with the number 1, which no message has.
    const UNKNOWN_FIELD: [u8; 3] = [0x98, 0x06, 0x01];

    #[test]
    fn an_approved_rule_with_an_unknown_field_is_another_rule() {
        let generation = Generation::V0_0;
        let endpoint = proto::NetworkEndpoint {
            host: "a.example".to_owned(),
            port: 443,
            ..Default::default()
        };
        let rule = proto::NetworkPolicyRule { endpoints: vec![endpoint], ..Default::default() };
        let approved = rule.encode_to_vec();
        let result = Policy::of_rule(generation, "site", &approved).unwrap();
        let reviewed = Reviewed::Approve(Box::new(DraftContent {
            rule_name: "site".to_owned(),
            proposed: result.clone(),
            result,
            findings: Vec::new(),
        }));
        let seen = |rule: &[u8]| {
            // The fields of the map and of its entries have the same numbers in all policies.
            let mut entry = Vec::new();
            wire::put_bytes(&mut entry, 1, b"site");
            wire::put_bytes(&mut entry, 2, rule);
            let mut policy = Vec::new();
            wire::put_bytes(&mut policy, 5, &entry);
            let revision = Revision {
                version: 4,
                policy_hash: "hash 4".to_owned(),
                status: RevisionStatus::Pending,
                load_error: String::new(),
                created_at: None,
                loaded_at: None,
                provenance: BTreeMap::new(),
                policy: Some(policy.into()),
            };
            SeenRule::of(&reviewed, generation, revision)
        };
        assert_eq!(seen(&approved), revision(4, true));
        let altered = seen(&[&approved[..], &UNKNOWN_FIELD[..]].concat());
        assert_eq!(altered, revision(4, false));
        let found = decide(Wanted::Approved, Some(ChunkStatus::MaybeApproved), &[altered], 3);
        assert_eq!(found, Found::Altered { version: 4 });
    }

    #[test]
    fn a_rule_that_lacks_only_marks_is_in_force() {
        let base = revision(3, false);
        let unmarked = |version| with_marks(version, Some(&["a mark"]));
        let found = |revisions: &[SeenRule]| {
            let status = Some(ChunkStatus::MaybeApproved);
            let found = decide(Wanted::Approved, status, revisions, 3);
            let Found::Done(written) = found else { panic!("{found:?}") };
            (written.version, written.lost_marks.total)
        };
        assert_eq!(found(&[unmarked(4), base.clone()]), (4, 1));
        // The gateway had the rule already, without the mark.
        assert_eq!(found(&[unmarked(3)]), (3, 1));
        // Another revision has the rule with its marks.
        assert_eq!(found(&[revision(5, true), unmarked(4), base.clone()]), (5, 0));
        // It was done, and undone by another client.
        let status = Some(ChunkStatus::Pending);
        let undone = [revision(5, false), unmarked(4), base.clone()];
        assert_eq!(decide(Wanted::Approved, status, &undone, 3), Found::Moved);
        assert_eq!(decide(Wanted::Approved, status, &[base], 3), Found::NotDone);
    }

    #[test]
    fn g02_the_status_of_a_chunk_and_the_rule_in_the_revisions_decide() {
        use ChunkStatus::{MaybeApproved, Pending, Rejected};
        let base = revision(3, false);
        let (with, without) = (revision(4, true), revision(4, false));
        let later = [revision(5, false), with.clone(), base.clone()];
        for (status, revisions, approved, removed) in [
            (Some(Pending), vec![base.clone()], Found::NotDone, Found::Altered { version: 3 }),
            (
                Some(MaybeApproved),
                vec![base.clone()],
                Found::Altered { version: 3 },
                Found::NotDone,
            ),
            (Some(MaybeApproved), vec![with.clone(), base.clone()], done(4), Found::Moved),
            (Some(Pending), vec![with.clone(), base.clone()], Found::Moved, done(4)),
            // Another write followed.
            (Some(MaybeApproved), later.to_vec(), done(4), Found::Moved),
            (Some(Pending), later.to_vec(), Found::Moved, done(4)),
            // The gateway has made another rule of it.
            (
                Some(MaybeApproved),
                vec![without.clone(), base.clone()],
                Found::Altered { version: 4 },
                Found::NotDone,
            ),
            // Nothing had to change, so no revision was written.
            (Some(MaybeApproved), vec![revision(3, true)], done(3), Found::NotDone),
            (Some(Rejected), vec![base.clone()], Found::NotDone, Found::Moved),
            (Some(Rejected), vec![with.clone(), base.clone()], Found::Moved, done(4)),
            (None, vec![with, base.clone()], Found::Moved, done(4)),
            (None, vec![base], Found::Moved, Found::Moved),
        ] {
            let found = |wanted| decide(wanted, status, &revisions, 3);
            assert_eq!(found(Wanted::Approved), approved, "{status:?} {revisions:?}");
            assert_eq!(found(Wanted::Removed), removed, "{status:?} {revisions:?}");
        }
    }
}
