//! Role bindings: which subject has which role on which gateways, by name or by selector, and the feed of the access
//! snapshot.
//!
//! Invariants
//! - only a global admin can make a change that gives its subject the admin role or takes it away; the effective role
//!   that results decides, read in the transaction (T06);
//! - a role of a group or by selector is not limited to one principal on one gateway, so only a global admin can write
//!   it (T06);
//! - a caller cannot grant a role above their own;
//! - every change of access writes a row of `access_changes` in the same transaction, and is in the snapshot of this
//!   replica before the response is sent.

pub mod domain;
pub mod effect;
pub mod explain;
pub mod label_changes;
pub mod list;
pub mod rpc;
pub mod store;
pub mod worker;
