//! Governance of policy changes: what a change needs, and when a review is decided. Pure: no storage, no clock, no
//! gateway.
//!
//! [`judge()`] decides whether a change passes, is refused or needs a round. [`tally()`] decides a round and explains
//! the decision. [`weakens()`] and [`satisfiable`] decide which rules can be stored.
//!
//! Invariants of governance, with their tests. Each has one whose name begins with its number (`g03_..`).
//! 1. Never below quorum: no write of a round starts unless [`tally()`] returns `Approved` in the transaction that
//!    stores its write intent. `g01_every_tally_equals_that_of_the_reference_model`,
//!    `g01_nothing_is_written_after_a_voter_has_lost_its_role`.
//! 2. Never twice: a round leads to at most one effective revision. `g02_killed_before_the_answer_is_written_once`,
//!    `g02_killed_after_the_answer_is_written_once`, `g02_an_answer_lost_after_the_effect_is_not_sent_again`,
//!    `g02_two_replicas_write_each_policy_once`, `g02_a_replica_that_was_frozen_writes_nothing_more`.
//! 3. Never other content: what is sent is the encoding of exactly what was reviewed. If what it is based on has moved,
//!    nothing is sent. `g03_what_differs_from_what_was_reviewed_is_not_sent`,
//!    `g03_nothing_is_written_after_what_was_reviewed_has_changed`.
//! 4. Never self-approved: authors, the owner of the sandbox and the makers of a service principal among them do not
//!    count toward a quorum, unless the rule sets `distinct_actors` to false.
//!    `g04_authors_owners_and_makers_do_not_count`, `g04_an_editor_before_a_rule_does_not_approve_under_it`.
//! 5. One person counts once: in one rule, for at most one group. `g05_one_person_many_clicks_counts_once`.
//! 6. Never lost: an acknowledged vote or decision survives every crash and gateway failure.
//!    `g06_a_vote_is_not_cleared_before_the_gateway_has_answered`,
//!    `g06_a_refused_write_fails_with_the_words_of_the_gateway`, `g06_a_vote_and_a_decision_survive_a_kill`.
//! 7. Rules protect themselves: a change that weakens a rule is decided under the rules of its scope. A rule that
//!    cannot be met is refused when it is set, and reported when people leave.
//!    `g07_a_weaker_or_deleted_workflow_is_reviewed_and_a_tighter_one_is_not`,
//!    `g07_a_weaker_rule_is_made_by_its_review`, `g07_a_rule_that_cannot_be_met_is_refused`,
//!    `g07_people_who_leave_break_a_workflow_once`.
//! 8. Fails closed: an unreadable rule leads to a refusal, never to a pass. To a gateway whose generation is in doubt,
//!    nothing is sent that could change a policy (`upstream::capability`).
//!    `g08_what_is_not_known_is_refused_where_a_rule_applies`, `g08_a_rule_that_cannot_be_read_stays_in_force`.
//! 9. Locks do not race and do not wait: rules are read in the transaction that stores the write intent, and a rule or
//!    lock is stored at once. No gateway can prevent it. `g09_a_rule_is_stored_at_once_while_the_gateway_hangs`,
//!    `g09_writes_in_progress_are_named`.
//! 10. No rule, no difference: without a rule, a proxied call keeps its bytes, its role and the gateway's response.
//!     `g10_without_a_rule_a_call_keeps_its_role_and_gets_the_answer_of_the_gateway`,
//!     `t09_the_gateway_gets_the_callers_bytes_or_our_encoding_under_a_rule`.
//! 11. Terminal states are terminal. `g11_a_review_that_has_ended_never_changes`.
//! 12. The explanation is the decision: inbox and decision call the same [`tally()`].
//!     `g12_what_is_shown_is_what_decides`.
//! 13. No request ids of Shoreguard are sent to a gateway. `g13_approved_changes_need_no_request_id`,
//!     `request_ids_are_never_ours`.
//! 14. Expired is expired: a pin or a round past its time is over on every path. Transactions take the time from the
//!     database. `g14_a_pin_past_its_time_is_over`, `g14_an_expired_review_is_over_before_a_worker_ran`,
//!     `g14_a_late_escalation_decides_nothing_after_the_end_of_voting`.
//! 15. There is always a way out, and every way out is audited. `g15_no_rule_and_no_gateway_prevents_a_way_out`,
//!     `unlock_removes_the_rules_of_exactly_one_scope`.

mod change;
mod in_force;
mod judge;
mod matching;
mod people;
mod possible;
mod reachable;
mod reason;
mod rule;
mod stored;
mod tally;
#[cfg(test)]
mod tests;
mod verdict;
mod voters;
mod weakens;

pub use self::change::{
    Action, CallerFacts, Change, Indirect, Origin, Reach, RuleChange, WideKind,
};
pub use self::in_force::{Doubt, InForce, Lock, RuleScope, Workflow};
pub use self::judge::judge;
pub use self::people::{Makers, Membership, People, Person};
pub use self::possible::possible_voters;
pub use self::reachable::{Electorate, Shortfall, electorate, is_fragile, satisfiable, shortfall};
pub use self::reason::parse_reason;
pub use self::rule::{
    APPLY_WINDOW_MINUTES_DEFAULT, EXPIRE_MINUTES_DEFAULT, GROUP_NAME_DEFAULT, GROUPS_MAX,
    REQUIRED_MAX, Rule, RuleFault, VOTERS_MAX, VoterGroup, VoterSet,
};
pub use self::stored::RuleColumns;
pub use self::tally::{
    Decision, GroupTally, Missing, Outcome, RoundFacts, RuleTally, Tally, Vote, tally,
};
pub use self::verdict::{
    Deciders, Governed, GovernedBy, Instead, NAMED_SANDBOXES_MAX, Refusal, Verdict,
};
pub use self::voters::Why;
pub use self::weakens::weakens;
