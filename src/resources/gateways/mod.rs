//! The registry of gateways.
//!
//! Invariants
//! - a name is unique and never changes;
//! - a stored secret is bound to the destination that it was given for: a changed one drops it (T04);
//! - a gateway that does not answer is registered all the same, and says so;
//! - probes move no version: only a caller's change does;
//! - nothing is registered on its own unless the configuration says so, and then under the rules of every registration;
//! - labels under `access/` are changed by a global admin only (T07).

pub mod budgets;
pub mod certificates;
pub mod change;
pub mod discovery;
pub mod domain;
pub mod findings;
pub mod health;
pub mod input;
mod messages;
pub mod rotate;
pub mod rpc;
pub mod settings;
pub mod store;
pub mod unregister;
pub mod watch;
pub mod worker;
