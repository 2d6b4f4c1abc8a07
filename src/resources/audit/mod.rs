//! The audit log as its readers see it, and its retention. What is recorded stands in [`crate::audit`].
//!
//! Invariants
//! - an intent whose process died is closed as `unknown`, which is the truth;
//! - nothing is deleted but by retention.

pub mod domain;
pub mod rpc;
pub mod store;
pub mod worker;
