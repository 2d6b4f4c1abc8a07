//! Events: every change of state, in one order that readers can resume from.
//!
//! Invariants
//! - an event is written in the transaction of the change that it tells of;
//! - its sequence is given after commit, one batch at a time, so that what a reader has seen up to a sequence never grows
//!   behind it: no gap, no skip, also with many writers and replicas;
//! - a reader gets the events of gateways that it may read; those without a gateway are for global admins;
//! - the oldest sequence that is kept is known, so a reader whose place is gone is told so.

pub mod domain;
pub mod follow;
pub mod rpc;
pub mod store;
pub mod worker;
