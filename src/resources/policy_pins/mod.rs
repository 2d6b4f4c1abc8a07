//! Pins: a pin locks the policy of one sandbox. `PolicyService` serves them: its methods are in `policies/rpc.rs`, its
//! messages in `policies/messages.rs`.
//!
//! Invariants
//! - a pin is stored at once, even if the gateway does not respond: from its commit, no new write to the policy starts.
//!   What it names of the gateway (version, hash, id of the sandbox) is stored afterwards, once no write is in progress
//!   and the gateway reports it;
//! - an expired pin is over, even before a job has deleted its row. Transactions take the time from the database. Its
//!   end is an act of the clock, and its audit entry is opened before the row is deleted;
//! - a pin outlives its sandbox, and locks the next sandbox of its name (T01);
//! - a repeated pin keeps the first setter and, unless it is longer, the reason and the role. A pin is shortened or
//!   removed only by its setter or a caller with at least the role of the pin, and under an approval workflow only after
//!   a review.

pub mod complete;
pub mod domain;
mod expiry;
mod review;
pub mod rules;
pub mod store;
pub mod worker;
