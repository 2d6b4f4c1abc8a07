//! Reading and retention of the audit log. [`crate::audit`] writes it.
//!
//! Invariants
//! - an entry whose process crashed is closed as `unknown`, since its outcome is not known;
//! - entries are deleted only by retention.

pub mod domain;
pub mod rpc;
pub mod store;
pub mod worker;
