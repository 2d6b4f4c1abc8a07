//! Who may do what: roles, callers, verifiers, decisions.
//!
//! Invariants
//! - nothing here knows SQL or gRPC: the snapshot is fed, it does not fetch;
//! - only [`authn`] makes a [`principal::Caller`];
//! - what cannot be confirmed to be fresh is refused.

pub mod action;
pub mod authn;
pub mod credential_limit;
pub mod live;
pub mod live_work;
pub mod policy;
pub mod principal;
pub mod roles;
pub mod snapshot;
pub mod standing;
