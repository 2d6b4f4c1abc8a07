//! Conversion between the messages of `ApprovalService` and the domain types.

use super::inbox::InboxFilter;
use super::inbox::view::Item;
use super::rounds::{RoundState, Summary};
use super::votes::store::StoredVote;
use super::votes::{Ballot, BallotDecision, COMMENT_CHARACTERS_MAX, VOTES_MAX};
use crate::db::types::{ApprovalRoundId, PLACE_CHARACTERS_MAX};
use crate::error::Error;
use crate::etag;
use crate::governance::{Action, Decision, Why};
use crate::names::fold_address;
use crate::pb::v1 as pb;
use crate::role::Role;
use crate::rpc::wire;
use crate::seal::is_sha256_hex;
use crate::texts::check_text;
use crate::upstream::generation::Generation;

/// Maximum length of the name of a principal in a filter, in characters.
const PRINCIPAL_CHARACTERS_MAX: usize = 300;

/// Parses the id of a round.
pub(super) fn approval_id(field: &str, id: i64) -> Result<ApprovalRoundId, Error> {
    if id > 0 {
        return Ok(ApprovalRoundId(id));
    }
    Err(Error::invalid(field, "is required: a number above 0"))
}

/// Parses a comment; `None` if it is empty.
pub(super) fn comment(field: &str, text: String) -> Result<Option<String>, Error> {
    check_text(field, &text, COMMENT_CHARACTERS_MAX, "\n")?;
    Ok((!text.trim().is_empty()).then_some(text))
}

/// Parses the only vote of a call.
pub(super) fn vote(req: pb::VoteRequest) -> Result<Ballot, Error> {
    let pb::VoteRequest { approval_id, digest, decision, comment, grant_duration, .. } = req;
    ballot("", pb::Ballot { approval_id, digest, decision, comment, grant_duration })
}

/// Parses a vote. `prefix` is the path of its message.
fn ballot(prefix: &str, ballot: pb::Ballot) -> Result<Ballot, Error> {
    let field = |name: &str| format!("{prefix}{name}");
    let approval = approval_id(&field("approval_id"), ballot.approval_id)?;
    let decision = match pb::VoteDecision::try_from(ballot.decision) {
        Ok(pb::VoteDecision::Approve) => BallotDecision::Cast(Decision::Approve),
        Ok(pb::VoteDecision::Reject) => BallotDecision::Cast(Decision::Reject),
        Ok(pb::VoteDecision::Withdraw) => BallotDecision::Withdraw,
        Ok(pb::VoteDecision::Unspecified) | Err(_) => {
            return Err(Error::invalid(field("decision"), "must be approve, reject or withdraw"));
        }
    };
    let comment = comment(&field("comment"), ballot.comment)?;
    if decision == BallotDecision::Cast(Decision::Reject) && comment.is_none() {
        return Err(Error::invalid(field("comment"), "is required to reject"));
    }
    let digest = ballot.digest;
    let is_optional = decision == BallotDecision::Withdraw && digest.is_empty();
    if !is_sha256_hex(&digest) && !is_optional {
        let why = "must be the digest of the approval: 64 hexadecimal digits";
        return Err(Error::invalid(field("digest"), why));
    }
    // A vote with a duration must not count as one without an end.
    if ballot.grant_duration.is_some() {
        let why = "must be unset: it is not supported yet";
        return Err(Error::invalid(field("grant_duration"), why));
    }
    Ok(Ballot { approval, digest, decision, comment })
}

/// Parses the votes of one call.
pub(super) fn ballots(given: Vec<pb::Ballot>) -> Result<Vec<Ballot>, Error> {
    let count = given.len();
    if !(1..=VOTES_MAX).contains(&count) {
        return Err(Error::invalid("ballots", format!("must be 1 to {VOTES_MAX}, got {count}")));
    }
    let mut parsed: Vec<Ballot> = Vec::with_capacity(count);
    for (at, given) in given.into_iter().enumerate() {
        let next = ballot(&format!("ballots[{at}]."), given)?;
        if parsed.iter().any(|other| other.approval == next.approval) {
            let field = format!("ballots[{at}].approval_id");
            return Err(Error::invalid(field, "is the approval of another vote of this request"));
        }
        parsed.push(next);
    }
    Ok(parsed)
}

fn text(field: &str, text: String, max: usize) -> Result<Option<String>, Error> {
    if text.chars().count() > max || text.contains(char::is_control) {
        let why = format!("must be at most {max} characters, without control characters");
        return Err(Error::invalid(format!("filter.{field}"), why));
    }
    Ok((!text.is_empty()).then_some(text))
}

/// Parses the name of a principal in a filter. Addresses are compared in the form in which they are stored.
fn principal(field: &str, name: String) -> Result<Option<String>, Error> {
    let name = text(field, name, PRINCIPAL_CHARACTERS_MAX)?;
    Ok(name.map(|name| if name.starts_with("sp:") { name } else { fold_address(&name) }))
}

/// Parses a filter; unset selects everything.
pub(super) fn filter(filter: Option<pb::ApprovalFilter>) -> Result<InboxFilter, Error> {
    let given = filter.unwrap_or_default();
    let bad_state = "must be open, approved, sending, written or unspecified";
    let state = match pb::ApprovalState::try_from(given.state) {
        Ok(pb::ApprovalState::Unspecified) => None,
        Ok(pb::ApprovalState::Open) => Some(RoundState::Open),
        Ok(pb::ApprovalState::Approved) => Some(RoundState::Approved),
        Ok(pb::ApprovalState::Sending) => Some(RoundState::Sending),
        Ok(pb::ApprovalState::Written) => Some(RoundState::Written),
        Ok(
            pb::ApprovalState::Applied
            | pb::ApprovalState::Rejected
            | pb::ApprovalState::Withdrawn
            | pb::ApprovalState::Expired
            | pb::ApprovalState::Superseded
            | pb::ApprovalState::Failed
            | pb::ApprovalState::RolledBack,
        )
        | Err(_) => return Err(Error::invalid("filter.state", bad_state)),
    };
    let action = match pb::ApprovalAction::try_from(given.action) {
        Ok(pb::ApprovalAction::Unspecified) => None,
        Ok(pb::ApprovalAction::PolicyApply) => Some(Action::PolicyApply),
        Ok(pb::ApprovalAction::DraftApprove) => Some(Action::DraftApprove),
        Ok(pb::ApprovalAction::DraftUndo) => Some(Action::DraftUndo),
        Ok(pb::ApprovalAction::RuleChange) => Some(Action::RuleChange),
        Ok(pb::ApprovalAction::OverrideReview) => Some(Action::OverrideReview),
        Err(_) => return Err(Error::invalid("filter.action", "is unknown to this server")),
    };
    Ok(InboxFilter {
        gateway: text("gateway", given.gateway, PLACE_CHARACTERS_MAX)?,
        workspace: text("workspace", given.workspace, PLACE_CHARACTERS_MAX)?,
        sandbox: text("sandbox", given.sandbox, PLACE_CHARACTERS_MAX)?,
        action,
        state,
        author: principal("author", given.author)?,
        owner: principal("owner", given.owner)?,
        is_overdue: given.overdue,
        awaits_caller: given.awaiting_me,
    })
}

fn action(action: Action) -> pb::ApprovalAction {
    match action {
        Action::PolicyApply => pb::ApprovalAction::PolicyApply,
        Action::DraftApprove => pb::ApprovalAction::DraftApprove,
        Action::DraftUndo => pb::ApprovalAction::DraftUndo,
        Action::RuleChange => pb::ApprovalAction::RuleChange,
        Action::OverrideReview => pb::ApprovalAction::OverrideReview,
    }
}

fn state(state: RoundState) -> pb::ApprovalState {
    match state {
        RoundState::Open => pb::ApprovalState::Open,
        RoundState::Approved => pb::ApprovalState::Approved,
        RoundState::Sending => pb::ApprovalState::Sending,
        RoundState::Written => pb::ApprovalState::Written,
        RoundState::Applied => pb::ApprovalState::Applied,
        RoundState::Rejected => pb::ApprovalState::Rejected,
        RoundState::Withdrawn => pb::ApprovalState::Withdrawn,
        RoundState::Expired => pb::ApprovalState::Expired,
        RoundState::Superseded => pb::ApprovalState::Superseded,
        RoundState::Failed => pb::ApprovalState::Failed,
        RoundState::RolledBack => pb::ApprovalState::RolledBack,
    }
}

pub(super) fn vote_decision(decision: Decision) -> pb::VoteDecision {
    match decision {
        Decision::Approve => pb::VoteDecision::Approve,
        Decision::Reject => pb::VoteDecision::Reject,
    }
}

pub(super) fn uncounted(why: Why) -> pb::UncountedReason {
    match why {
        Why::NotNamed => pb::UncountedReason::NotNamed,
        Why::JoinedLater => pb::UncountedReason::JoinedLater,
        Why::RoleTooLow => pb::UncountedReason::RoleTooLow,
        Why::BesideMaker => pb::UncountedReason::BesideMaker,
        Why::MakerUnknown => pb::UncountedReason::MakerUnknown,
        Why::Maker => pb::UncountedReason::Maker,
        Why::Owner => pb::UncountedReason::Owner,
        Why::Author => pb::UncountedReason::Author,
        Why::Left => pb::UncountedReason::Left,
    }
}

fn wire_generation(generation: Option<Generation>) -> pb::WireGeneration {
    match generation {
        None => pb::WireGeneration::Unspecified,
        Some(Generation::V0_0) => pb::WireGeneration::V00,
        Some(Generation::V0_1) => pb::WireGeneration::V01,
    }
}

/// Converts a number that is stored as signed and never negative.
fn count(stored: i32) -> u32 {
    u32::try_from(stored).unwrap_or_default()
}

impl From<Item> for pb::Approval {
    fn from(item: Item) -> Self {
        let round = item.round;
        let progress = round.progress;
        let Summary { comment, added, removed, changed, draft, .. } = round.summary;
        Self {
            id: round.id.get(),
            action: action(round.action).into(),
            state: state(item.state).into(),
            gateway: round.place.gateway.name.to_string(),
            workspace: round.place.name.workspace,
            sandbox: round.place.name.name,
            sandbox_id: round.sandbox_id.unwrap_or_default(),
            digest: round.digest,
            chunk_id: round.chunk_id,
            wire_generation: wire_generation(round.generation).into(),
            base_version: round.base_version.unwrap_or_default(),
            effective_hash: round.effective_hash.unwrap_or_default(),
            grant_minutes: round.grant_minutes.map_or(0, count),
            authors: item.authors,
            owner: item.owner.unwrap_or_default(),
            comment,
            added,
            removed,
            changed,
            votes: item.votes,
            needed: item.needed,
            awaits_caller: item.awaits_caller,
            create_time: Some(wire::to_timestamp(round.opened_at)),
            escalation_time: round.escalates_at.map(wire::to_timestamp),
            expire_time: round.expires_at.map(wire::to_timestamp),
            decision_time: progress.decided_at.map(wire::to_timestamp),
            apply_deadline_time: progress.apply_by.map(wire::to_timestamp),
            close_time: round.closed_at.map(wire::to_timestamp),
            close_reason: progress.close_reason.unwrap_or_default(),
            operation: progress.operation_id.unwrap_or_default(),
            attempts: count(progress.attempts),
            written_version: progress.written_version.unwrap_or_default(),
            written_hash: progress.written_hash.unwrap_or_default(),
            previous_approval_id: progress.previous_id.map_or(0, ApprovalRoundId::get),
            etag: etag::from_version(round.version),
            draft: draft.map(Into::into),
            removed_version: progress.removed_version.unwrap_or_default(),
        }
    }
}

impl From<StoredVote> for pb::ApprovalDecision {
    fn from(vote: StoredVote) -> Self {
        let role: Role = vote.role.parse().unwrap_or(Role::None);
        Self {
            id: vote.id,
            voter: vote.actor,
            principal: vote.principal.unwrap_or_default(),
            role: pb::Role::from(role).into(),
            decision: vote_decision(vote.decision).into(),
            comment: vote.comment.unwrap_or_default(),
            digest: vote.digest.unwrap_or_default(),
            create_time: Some(wire::to_timestamp(vote.created_at)),
            clear_time: vote.cleared_at.map(wire::to_timestamp),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> pb::Ballot {
        pb::Ballot {
            approval_id: 1,
            digest: "a".repeat(64),
            decision: pb::VoteDecision::Approve.into(),
            comment: String::new(),
            grant_duration: None,
        }
    }

    #[test]
    fn a_vote_names_approval_digest_and_decision_and_a_reject_has_a_comment() {
        assert!(ballot("", valid()).is_ok());
        let reject = pb::VoteDecision::Reject.into();
        let withdraw = pb::VoteDecision::Withdraw.into();
        let long = "\u{e4}".repeat(COMMENT_CHARACTERS_MAX);
        for good in [
            pb::Ballot { comment: long.clone(), decision: reject, ..valid() },
            pb::Ballot { digest: String::new(), decision: withdraw, ..valid() },
            pb::Ballot { comment: "a\nb".to_owned(), ..valid() },
        ] {
            assert!(ballot("", good.clone()).is_ok(), "{good:?}");
        }
        for bad in [
            pb::Ballot { approval_id: 0, ..valid() },
            pb::Ballot { approval_id: -1, ..valid() },
            pb::Ballot { digest: String::new(), ..valid() },
            pb::Ballot { digest: "g".repeat(64), ..valid() },
            pb::Ballot { digest: "a".repeat(65), ..valid() },
            pb::Ballot { decision: 0, ..valid() },
            pb::Ballot { decision: 9, ..valid() },
            pb::Ballot { decision: reject, comment: " ".to_owned(), ..valid() },
            pb::Ballot { comment: format!("{long}a"), ..valid() },
            pb::Ballot { comment: "\u{1b}[2J".to_owned(), ..valid() },
            pb::Ballot { grant_duration: Some(prost_types::Duration::default()), ..valid() },
        ] {
            assert!(ballot("", bad.clone()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_call_has_one_to_a_hundred_votes_each_for_another_approval() {
        let many = |count: i64| (1..=count).map(|id| pb::Ballot { approval_id: id, ..valid() });
        assert_eq!(ballots(many(100).collect()).unwrap().len(), VOTES_MAX);
        for bad in [vec![], many(101).collect(), vec![valid(), valid()]] {
            assert!(ballots(bad).is_err());
        }
    }

    #[test]
    fn every_state_of_a_round_has_a_proto_value() {
        for found in RoundState::ALL {
            let name = format!("APPROVAL_STATE_{}", found.as_str().to_ascii_uppercase());
            assert_eq!(state(*found).as_str_name(), name);
            let wanted = pb::ApprovalFilter { state: state(*found).into(), ..Default::default() };
            assert_eq!(filter(Some(wanted)).is_ok(), !found.is_closed(), "{found}");
        }
    }
}
