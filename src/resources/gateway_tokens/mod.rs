//! Tokens for one gateway, for stock clients, which cannot specify the gateway in a call.
//!
//! Invariants
//! - a token becomes invalid with the credential it was made from (key, password, session) and with its gateway, whose
//!   id is never reused (T14);
//! - at most 24 tokens of one key and gateway are valid at a time, without storing them: a token contains the hour in
//!   which it was made, and another request in the same hour returns the same token;
//! - a caller without a role on a gateway and a caller who names an unknown gateway get the same error, after the same
//!   work (T15).

pub mod domain;
