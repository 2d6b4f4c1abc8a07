//! Device codes: a client without a browser shows a code, a user types it where it is logged in and approves, and the
//! client gets tokens of that user for one gateway.
//!
//! Invariants
//! - both codes are stored as hashes only: the long one as SHA-256, the one that is typed, which could be guessed from
//!   that, as an HMAC under a key outside the database (T15);
//! - a code is good for ten minutes and once; there are a bounded number of them, an address and in all;
//! - who approves has logged in less than ten minutes ago, has a role on the gateway, and has five wrong tries in ten
//!   minutes;
//! - a code for a gateway that its typist may not see is one that does not exist;
//! - what nobody has approved leaves no event and no audit entry: a flood of requests is a bounded number of rows.

pub mod domain;
pub mod store;
pub mod worker;
