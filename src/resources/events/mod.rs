//! Events: every change of state, in one order that readers can resume from.
//!
//! Invariants
//! - an event is written in the transaction of the change that it describes;
//! - its sequence number is assigned after commit, one batch at a time, so that no event appears later at a position
//!   that a reader has already passed: no gaps and no skips, even with many writers and replicas;
//! - a reader gets the events of gateways that it can read; events without a gateway are for global admins;
//! - the oldest stored sequence is known, so a reader whose cursor is older gets an error.

pub mod domain;
pub mod follow;
pub mod rpc;
pub mod store;
pub mod worker;
