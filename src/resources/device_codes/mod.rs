//! Device codes: a client without a browser shows a code, a logged-in user enters and approves it, and the client gets
//! tokens of that user for one gateway, or a session of the user.
//!
//! Invariants
//! - both codes are stored as hashes only: the device code as SHA-256, and the short user code, which could be guessed
//!   from a plain hash, as an HMAC with a key outside the database (T15);
//! - a code is valid for ten minutes and once; the number of codes is bounded, per address, per IPv6 /48 network and for
//!   each scope, independent of what is decided about them;
//! - a user who approves must have logged in less than ten minutes ago, needs a role on the gateway, and has five wrong
//!   attempts in ten minutes; an approval names its scope, and gives no session unless it names it;
//! - a code for a gateway that the user cannot see is reported as not found;
//! - a code without a decision leaves no event, and no more than one audit entry: a flood of requests stores a bounded
//!   number of rows. What is refused, and a poll with a code that cannot be exchanged, does not occupy the writer (T16).

pub mod decide;
pub mod domain;
pub mod store;
pub mod worker;
