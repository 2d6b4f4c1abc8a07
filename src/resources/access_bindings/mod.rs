//! Who holds which role on which gateway, by its name or by a selector, and the feed of the access snapshot.
//!
//! Invariants
//! - a change that makes its holder an admin, or unmakes one, is a global admin's alone: what counts is the effective role
//!   that results, read in the transaction (T06);
//! - a role of a group, and one by selector, is no single gateway's and is written by a global admin only (T06);
//! - nobody gives a role above their own;
//! - whatever changes access writes a row of `access_changes` in the same transaction, in commit order, and is in the
//!   snapshot of this replica before the write is answered.

pub mod difference;
pub mod domain;
pub mod effect;
pub mod explain;
pub mod list;
pub mod rpc;
pub mod store;
pub mod worker;
