//! Access control: roles, callers, verifiers, decisions.
//!
//! Invariants
//! - nothing here knows SQL or gRPC: the snapshot is fed and does not load data itself;
//! - only [`authn`] creates a [`principal::Caller`];
//! - access that cannot be confirmed with fresh data is refused.

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
