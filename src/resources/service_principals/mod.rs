//! Service principals: callers that are programs, each with one API key.
//!
//! Invariants
//! - a key is `sg_` and 43 characters of 32 random bytes; only its SHA-256 is stored, and it is shown once;
//! - a key that was replaced is dead when the new one is answered, and so are the streams that it opened, unless it was
//!   given an overlap; then it is one more key until the end of it, and there is never a third;
//! - nobody gives a role above their own.

pub mod domain;
pub mod provided;
pub mod rpc;
pub mod store;
pub mod worker;
