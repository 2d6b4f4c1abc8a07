//! Rules applied to changes of policies: the gate that every change passes, reviews, and the votes that decide them.
//!
//! A [`Round`] is one review of one exact content. `rounds` opens and ends them, `votes` decides them by
//! [`tally`](crate::governance::tally), `inbox` shows them. `rules` reads what applies, `rule_changes` makes changes of
//! rules that were approved, `proposals` computes what a change leads to and opens its round, and `drafts` opens those of
//! what agents ask for.
//!
//! Invariants
//! - a call that can change a policy is judged in the transaction that stores its write intent, by what is stored then
//!   (T13);
//! - calls to which no rule applies do not exclude each other, and none of them waits for a gateway here;
//! - a change never starts below its quorum: a round is approved only by the votes that are stored in the same
//!   transaction, counted by current rules and current access data;
//! - votes count for exactly the content that the voter has seen, and never for a later one;
//! - a vote is never lost: it is cleared only when its voter changes it or its round ends, and stays in the history;
//! - what is shown is what decides: the inbox and the decision count votes by the same function.

pub mod apply;
pub mod domain;
pub mod drafts;
pub mod gate;
pub mod inbox;
mod messages;
pub mod proposals;
pub mod rounds;
pub mod rpc;
pub mod rule_changes;
pub mod rules;
pub mod votes;
pub mod worker;

use tokio::sync::Notify;

use self::apply::fail_points::{self, FailPoint};
use crate::app::App;

pub use self::proposals::ProposalMode;
pub use self::proposals::store::NewProposal;
pub use self::rounds::content::{Bounds, Content, PolicyContent, RuleContent, Summary};
pub use self::rounds::open::{NewRound, Opened, open};
pub use self::rounds::{Round, RoundState};

/// State of this module in the process.
#[derive(Debug, Default)]
pub struct Approvals {
    /// Notified after the commit of a transaction in which a round was approved: it can be written.
    pub approved: Notify,
}

/// Wakes the job that writes approved changes. Call it after the commit of a transaction that approved one.
pub fn wake(app: &App) {
    fail_points::reached(FailPoint::DecisionCommitted);
    app.part::<Approvals>().approved.notify_one();
}
