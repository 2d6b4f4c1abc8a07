//! Events: every change of state, in one order that readers can resume from.
//!
//! Invariants
//! - an event is written in the transaction of the change that it tells of;
//! - its sequence is given after commit, so that concurrent writers leave no reader a gap or a skip;
//! - a reader gets the events of gateways that it may read; those without a gateway are for global admins.

pub mod domain;
pub mod feed;
