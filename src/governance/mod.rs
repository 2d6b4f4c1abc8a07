//! Governance of policy changes: what a change needs, and when a review is decided. Pure: no storage, no clock, no
//! gateway.
//!
//! [`judge()`] decides whether a change passes, is refused or needs a round. [`tally()`] decides a round and explains
//! the decision. [`weakens()`] and [`satisfiable`] decide which rules can be stored.
//!
//! Invariants of governance. Each has a test that carries its number (`g03_..`).
//! 1. Never below quorum: no write of a round starts unless [`tally()`] returns `Approved` in the transaction that
//!    stores its write intent.
//! 2. Never twice: a round leads to at most one effective revision.
//! 3. Never other content: what is sent is the encoding of exactly what was reviewed. If what it is based on has moved,
//!    nothing is sent.
//! 4. Never self-approved: authors, the owner of the sandbox and the makers of a service principal among them do not
//!    count toward a quorum, unless the rule sets `distinct_actors` to false.
//! 5. One person counts once: in one rule, for at most one group.
//! 6. Never lost: an acknowledged vote or decision survives every crash and gateway failure.
//! 7. Rules protect themselves: a change that weakens a rule is decided under the rules of its scope. A rule that
//!    cannot be met is refused when it is set, and reported when people leave.
//! 8. Fails closed: an unreadable rule leads to a refusal, never to a pass. To a gateway whose generation is in doubt,
//!    nothing is sent that could change a policy (`upstream::capability`).
//! 9. Locks do not race and do not wait: rules are read in the transaction that stores the write intent, and a rule or
//!    lock is stored at once. No gateway can prevent it.
//! 10. No rule, no difference: without a rule, a proxied call keeps its bytes, its role and the gateway's response.
//! 11. Terminal states are terminal.
//! 12. The explanation is the decision: inbox and decision call the same [`tally()`].
//! 13. No request ids of Shoreguard are sent to a gateway.
//! 14. Expired is expired: a pin or a round past its time is over on every path. Transactions take the time from the
//!     database.
//! 15. There is always a way out, and every way out is audited.

mod change;
mod in_force;
mod judge;
mod matching;
mod people;
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
