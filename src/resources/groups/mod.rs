//! Groups: users who share a role.
//!
//! Invariants
//! - members are users, not service principals or groups;
//! - a caller cannot grant a role above their own, not even by a group;
//! - every change that can remove the last active admin uses `users::admins`;
//! - writes are serialized by a lock, so that the counts they check stay valid until the commit.

pub mod domain;
pub mod rpc;
pub mod store;
