//! Service principals: programs that call Shoreguard, each with one API key.
//!
//! Invariants
//! - a key is `sg_` and 43 characters of 32 random bytes; only its SHA-256 is stored, and it is shown once;
//! - a replaced key is invalid before the response with the new key is sent, and the streams that it opened are closed,
//!   unless the rotation has an overlap; then the old key stays valid until the overlap ends, and there is never a
//!   third one;
//! - a caller cannot grant a role above their own.

pub mod domain;
pub mod from_config;
pub mod rpc;
pub mod store;
pub mod worker;
