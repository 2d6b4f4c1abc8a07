//! Pins: a pin locks the policy of one sandbox. `PolicyService` serves them.
//!
//! Invariants
//! - a pin is stored at once, also if the gateway does not respond: from its commit, no new write to the policy starts.
//!   What it names of the gateway (version, hash, id of the sandbox) is stored afterwards, if the gateway reports it;
//! - an expired pin is over, also before a job has deleted its row. Transactions take the time from the database;
//! - a pin outlives its sandbox, and locks the next sandbox of its name (T01);
//! - a repeated pin only lengthens it, and keeps the first setter and the highest role of a setter. A pin is shortened
//!   or removed only by a caller with at least that role, and under an approval workflow only after a review.

pub mod domain;
mod review;
pub mod rules;
pub mod store;
pub mod worker;
