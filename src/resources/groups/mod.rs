//! Groups: users who share a role.
//!
//! Invariants
//! - members are users: neither service principals nor groups;
//! - nobody gives a role above their own, by a group neither;
//! - whatever can take the last active admin away goes through `users::admins`;
//! - a write stands in one line with every other, so that what it counts stays true until it commits.

pub mod domain;
pub mod rpc;
pub mod store;
