//! Writes approved policies to their gateways, each exactly once.
//!
//! An operation of kind `policy`, with the key `round/<id>`, writes a round and waits until the sandbox has loaded the
//! policy. Its lease, fence and takeover are those of operations; rounds have none of their own. The dispatcher starts
//! an operation for each decided round that has no active one.
//!
//! Invariants
//! - g01: nothing is sent unless `tally` returns `Approved`, and `judge` no refusal, in the transaction that stores the
//!   write intent. It holds the lock of the gateway as exclusive;
//! - g02: a write whose outcome is not known is not repeated before the deadline of its intent has passed by
//!   [`settle::GRACE`]. Then only what the gateway has decides. An intent is deleted in the transaction that stores the
//!   outcome, and a round of the same sandbox cannot begin before;
//! - g03: what is sent is the canonical form of the candidate, and only if everything that was reviewed is as it was.
//!   The resource version of the sandbox, read before the comparison, makes the gateway refuse it if that is outdated;
//!   for a draft, its review token does;
//! - a gateway that drops marks has written what was approved: that is reported, and nothing is sent again;
//! - g06: votes are cleared in the transaction that stores the gateway's answer, or the end of the round;
//! - g13: no request has an id of Shoreguard's.

pub mod begin;
pub mod dispatch;
mod draft_found;
mod draft_successor;
mod drafts;
pub mod fail_points;
pub mod found;
pub mod live;
pub mod loading;
mod lost_marks;
pub mod outcome;
mod replace;
pub mod run;
#[cfg(test)]
mod samples;
pub mod send;
pub mod settle;
pub mod store;
pub mod successor;

use std::time::Duration;

use crate::db::types::ApprovalRoundId;

pub use self::dispatch::{DISPATCH, DispatchState, start_now};
pub use self::run::resume;

/// Time from the transaction that stores the intent to the end of the call.
pub const CALL_TIME: Duration = Duration::from_secs(20);

/// Returns the key of the operation that writes a round.
#[must_use]
pub fn operation_key(round: ApprovalRoundId) -> String {
    format!("round/{round}")
}
