//! Service principals: callers that are programs, each with one API key.
//!
//! Invariants
//! - a key is `sg_` and 43 characters of 32 random bytes; only its SHA-256 is stored, and it is shown once;
//! - a rotated key is dead before the new one is answered, and so are the streams that it opened;
//! - nobody gives a role above their own.

pub mod domain;
pub mod provided;
pub mod rpc;
pub mod store;
pub mod worker;
