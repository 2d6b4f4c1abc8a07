//! A round: one review of one exact content.
//!
//! Invariants
//! - the digest of a round covers everything that was reviewed. Another content is another round;
//! - a transaction on a round holds the lock of its gateway, and first ends it if its time is over: a late worker
//!   changes nothing. An escalation is reported by a transaction that then decides the round;
//! - each rule escalates at its own time: a rule with a short one adds no voters to another rule;
//! - a round that has ended never changes again. Its votes and its proposal are cleared in the transaction that ends it;
//! - a round is bound to the id of its gateway, and so never applies to another gateway of that name.

pub mod clocks;
pub mod close;
pub mod content;
pub mod events;
pub mod open;
pub mod reminders;
pub mod state;
pub mod store;

use std::time::Duration;

use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::types::{ApprovalRoundId, SandboxRef, UserId};
use crate::governance::{
    APPLY_WINDOW_MINUTES_DEFAULT, Action, EXPIRE_MINUTES_DEFAULT, RoundFacts, Rule,
};
use crate::upstream::generation::Generation;

pub use self::content::{Content, PolicyContent, RuleContent, Summary};
pub use self::state::RoundState;

/// A round, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// Permanent id.
    pub id: ApprovalRoundId,
    /// Kind of the change.
    pub action: Action,
    /// The sandbox. Its name, or name and workspace, are empty for a change of a wider rule. The gateway may have been
    /// unregistered.
    pub place: SandboxRef,
    /// The gateway's id of the sandbox; `None` for a change of a rule.
    pub sandbox_id: Option<String>,
    /// Identifies the content in its place: the action, `:` and the digest, or the id of a draft chunk.
    pub chunk_id: String,
    /// State.
    pub state: RoundState,
    /// Digest of what is reviewed: 64 hexadecimal digits.
    pub digest: String,
    /// Wire generation of the content; `None` for a change of a rule.
    pub generation: Option<Generation>,
    /// Newest version of the policy when the round was opened.
    pub base_version: Option<i64>,
    /// Digest of that version.
    pub base_digest: Option<String>,
    /// The gateway's hash of the policy that was in force then.
    pub effective_hash: Option<String>,
    /// Who proposed or edited the content, the proposer first.
    pub authors: Vec<PrincipalId>,
    /// Owner of the sandbox; `None` if it is not known.
    pub owner: Option<PrincipalId>,
    /// Facts about the content that lists show.
    pub summary: Summary,
    /// Duration of what is granted, in minutes; `None` if it is unlimited.
    pub grant_minutes: Option<i32>,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When the voters of the next escalation join, or of the last one if none follows; `None` if no rule has one.
    pub escalates_at: Option<Timestamp>,
    /// When an escalation was last reported.
    pub escalated_at: Option<Timestamp>,
    /// When voting ends.
    pub expires_at: Option<Timestamp>,
    /// When the next clock is due; `None` if no clock runs.
    pub due_at: Option<Timestamp>,
    /// When it ended.
    pub closed_at: Option<Timestamp>,
    /// Incremented by each change.
    pub version: i64,
    /// State of its decision and of its write.
    pub progress: Progress,
}

/// State of the decision and of the write of a round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// When enough voters had approved it.
    pub decided_at: Option<Timestamp>,
    /// When the time for the write ends.
    pub apply_by: Option<Timestamp>,
    /// Why it ended, for people.
    pub close_reason: Option<String>,
    /// Whether the gateway knows the decision.
    pub gateway_told: bool,
    /// The operation that writes it.
    pub operation_id: Option<String>,
    /// Number of attempts to write it.
    pub attempts: i32,
    /// Version of the policy that was written.
    pub written_version: Option<i64>,
    /// The gateway's hash of that version.
    pub written_hash: Option<String>,
    /// The round that this one replaces.
    pub previous_id: Option<ApprovalRoundId>,
    /// Version of the policy without the rule that the rejection has removed, since it reached the gateway after the rule
    /// was approved there.
    pub removed_version: Option<i64>,
}

/// The clocks of a round, from the rules in force when it was opened. The shortest of each counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// Minutes to the first escalation; `None` if no rule has one.
    pub escalation: Option<u32>,
    /// Minutes for voting.
    pub expiry: u32,
}

impl Clocks {
    /// Returns the clocks of a round under these rules.
    #[must_use]
    pub fn of(rules: &[Rule]) -> Self {
        let expiry = rules.iter().map(|rule| rule.expire_minutes).min();
        Self {
            escalation: rules.iter().filter_map(|rule| rule.escalation_timeout_minutes).min(),
            expiry: expiry.unwrap_or(EXPIRE_MINUTES_DEFAULT),
        }
    }
}

/// Returns when the first escalation of these rules after a time is due, in a round that was opened at `opened_at`.
#[must_use]
pub fn next_escalation(
    rules: &[Rule],
    opened_at: Timestamp,
    after: Timestamp,
) -> Option<Timestamp> {
    let timeouts = rules.iter().filter_map(|rule| rule.escalation_timeout_minutes);
    let times = timeouts.map(|timeout| opened_at.plus(minutes(timeout)));
    times.filter(|at| *at > after).min()
}

/// Returns the time from the decision to the latest write.
#[must_use]
pub fn apply_window(rules: &[Rule]) -> Duration {
    let window = rules.iter().map(|rule| rule.apply_window_minutes).min();
    minutes(window.unwrap_or(APPLY_WINDOW_MINUTES_DEFAULT))
}

pub(in crate::resources::approvals) fn minutes(count: u32) -> Duration {
    Duration::from_mins(u64::from(count))
}

/// Returns the state of a round at a time. A round whose time is over has expired, even if no worker has stored that
/// yet.
#[must_use]
pub fn effective_state(round: &Round, now: Timestamp) -> RoundState {
    match clocks::due(round, now) {
        Some(clocks::Due::Expiry | clocks::Due::ApplyWindow) => RoundState::Expired,
        Some(clocks::Due::Escalation) | None => round.state,
    }
}

impl Round {
    /// Returns the facts that decide who counts.
    #[must_use]
    pub fn facts(&self) -> RoundFacts {
        let (authors, owner) = (self.authors.clone(), self.owner);
        let roots = self.summary.roots.iter().copied().map(UserId).collect();
        RoundFacts { opened_at: self.opened_at, authors, owner, roots }
    }

    /// Returns when the next clock is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        if self.state == RoundState::Open {
            return [self.unreported_escalation(), self.expires_at].into_iter().flatten().min();
        }
        self.progress.apply_by.filter(|_| self.state == RoundState::Approved)
    }

    /// Returns when the escalation is due that was not reported yet.
    fn unreported_escalation(&self) -> Option<Timestamp> {
        self.escalates_at.filter(|at| self.escalated_at.is_none_or(|reported| reported < *at))
    }

    /// Returns whether a principal proposed or edited the content.
    #[must_use]
    pub fn is_author(&self, principal: PrincipalId) -> bool {
        self.authors.contains(&principal)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::db::types::{GatewayId, GatewayRef, SandboxName};
    use crate::governance::{VoterGroup, VoterSet};
    use crate::role::Role;

    /// Returns an open round.
    pub(in crate::resources::approvals) fn round() -> Round {
        let gateway = GatewayRef { id: GatewayId(1), name: "edge".into() };
        let name = SandboxName { workspace: "default".to_owned(), name: "box".to_owned() };
        Round {
            id: ApprovalRoundId(1),
            action: Action::PolicyApply,
            place: SandboxRef { gateway, name },
            sandbox_id: None,
            chunk_id: "policy.apply:1".to_owned(),
            state: RoundState::Open,
            digest: "1".to_owned(),
            generation: None,
            base_version: None,
            base_digest: None,
            effective_hash: None,
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

    fn rule(expire: u32, window: u32, escalation: Option<u32>) -> Rule {
        let voters = VoterSet::of_role(Role::Operator);
        Rule {
            groups: vec![VoterGroup { name: "a".to_owned(), required: 1, voters }],
            required_groups: 1,
            distinct_actors: true,
            escalation: None,
            escalation_timeout_minutes: escalation,
            expire_minutes: expire,
            apply_window_minutes: window,
        }
    }

    #[test]
    fn the_shortest_clock_of_the_rules_counts() {
        let rules = [rule(60, 30, None), rule(50, 40, Some(9)), rule(90, 20, Some(7))];
        assert_eq!(Clocks::of(&rules), Clocks { escalation: Some(7), expiry: 50 });
        assert_eq!(apply_window(&rules), Duration::from_mins(20));
        let default = Clocks { escalation: None, expiry: EXPIRE_MINUTES_DEFAULT };
        assert_eq!(Clocks::of(&[]), default);
    }

    #[test]
    fn each_rule_escalates_at_its_own_time() {
        let rules = [rule(60, 30, None), rule(60, 30, Some(9)), rule(60, 30, Some(7))];
        let opened_at = Timestamp::EPOCH;
        let at = |count| opened_at.plus(minutes(count));
        for (after, expected) in [(0, Some(7)), (6, Some(7)), (7, Some(9)), (9, None)] {
            let next = next_escalation(&rules, opened_at, at(after));
            assert_eq!(next, expected.map(at), "{after}");
        }
    }
}
