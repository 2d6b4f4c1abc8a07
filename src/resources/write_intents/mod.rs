//! Writes to gateways that have begun and whose outcome is not stored yet.
//!
//! Invariants
//! - a write is stored before it is sent, in the transaction that reads the rules that apply to it. That transaction
//!   holds the lock of the gateway as shared, and a transaction that stores a rule holds it as exclusive. So a write is
//!   either in progress when a rule is stored, or the rule applies to it;
//! - a write without a round is over when its deadline has passed, even before its row was deleted. A write of a
//!   round is in progress until its outcome is stored;
//! - a write that is not over blocks no rule: a call that stores a rule waits for a short time and then names it.

pub mod domain;
mod messages;
pub mod store;
pub mod worker;
