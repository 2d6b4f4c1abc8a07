//! Conversion of a round with its content and its progress to its message.

use super::detail::{ContentView, Detail, GroupProgress, RuleProgress};
use super::store::Rejection;
use crate::db::types::ApprovalRoundId;
use crate::error::Error;
use crate::pb::v1 as pb;
use crate::resources::approvals::messages::{uncounted, vote_decision};
use crate::resources::bypass_events::refused::RefusedConnection;
use crate::rpc::wire;

/// Scope of the default rule.
const DEFAULT_RULE: &str = "the default rule";

/// Converts a number of items.
fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}

impl From<GroupProgress> for pb::ApprovalGroupProgress {
    fn from(group: GroupProgress) -> Self {
        Self {
            name: group.name,
            needed: group.needed,
            counting: group.counting,
            chosen: group.is_chosen,
            lacks: group.lacks,
            could_vote: group.could,
            could_vote_count: count(group.could_count),
        }
    }
}

impl From<RuleProgress> for pb::ApprovalRuleProgress {
    fn from(rule: RuleProgress) -> Self {
        let scope = rule.scope.unwrap_or_else(|| DEFAULT_RULE.to_owned());
        let groups = rule.groups.into_iter().map(Into::into).collect();
        Self { scope, met: rule.is_met, groups }
    }
}

impl From<Rejection> for pb::ApprovalRejection {
    fn from(rejection: Rejection) -> Self {
        Self {
            approval_id: rejection.round.get(),
            voter: rejection.voter,
            comment: rejection.comment,
            rejection_time: Some(wire::to_timestamp(rejection.at)),
        }
    }
}

impl From<RefusedConnection> for pb::RefusedConnection {
    fn from(refused: RefusedConnection) -> Self {
        let RefusedConnection { at, binary, host, line } = refused;
        Self { log_time: Some(wire::to_timestamp(at)), binary, host, line }
    }
}

fn content(
    view: ContentView,
    base_digest: String,
    omitted_findings: usize,
) -> Result<pb::ApprovalContent, Error> {
    Ok(match view {
        ContentView::Policy { differences, omitted, yaml, marks } => pb::ApprovalContent {
            policy_differences: differences.into_iter().map(Into::into).collect(),
            omitted: count(omitted),
            yaml,
            marks,
            base_digest,
            ..pb::ApprovalContent::default()
        },
        ContentView::Rule(change) => pb::ApprovalContent {
            rule_change_json: serde_json::to_string(&change).map_err(Error::internal)?,
            ..pb::ApprovalContent::default()
        },
        ContentView::Draft(content) => pb::ApprovalContent {
            omitted_findings: count(omitted_findings),
            ..pb::ApprovalContent::from(&*content)
        },
        ContentView::Undo(content) => pb::ApprovalContent::from(&*content),
    })
}

/// Converts a round with its content and its progress.
///
/// # Errors
/// `Internal` if a change of a rule cannot be encoded.
pub(in crate::resources::approvals) fn detail(detail: Detail) -> Result<pb::ApprovalDetail, Error> {
    let base_digest = detail.item.round.base_digest.clone().unwrap_or_default();
    let uncounted_votes = detail.uncounted.into_iter().map(|(voter, why)| {
        let reason = uncounted(why).into();
        pb::UncountedVote { voter, reason }
    });
    let unspecified = pb::VoteDecision::Unspecified;
    let caller_uncounted = detail.caller.uncounted.map(uncounted);
    Ok(pb::ApprovalDetail {
        content: Some(content(detail.content, base_digest, detail.omitted_findings)?),
        rules: detail.rules.into_iter().map(Into::into).collect(),
        uncounted_votes: uncounted_votes.collect(),
        could_vote: detail.could,
        satisfiable: detail.is_satisfiable,
        blockers: detail.blockers,
        caller_vote: detail.caller.vote.map_or(unspecified, vote_decision).into(),
        caller_uncounted: caller_uncounted.unwrap_or(pb::UncountedReason::Unspecified).into(),
        caller_can_reject: detail.caller.can_reject,
        caller_can_withdraw: detail.caller.can_withdraw,
        successor_approval_id: detail.successor.map_or(0, ApprovalRoundId::get),
        earlier_rejection: detail.earlier_rejection.map(Into::into),
        refused_connections: detail.refused.into_iter().map(Into::into).collect(),
        marks_lost_time: detail.marks_lost_at.map(wire::to_timestamp),
        approval: Some(detail.item.into()),
    })
}
