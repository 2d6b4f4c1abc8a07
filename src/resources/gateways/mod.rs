//! The registry of gateways.
//!
//! Invariants
//! - a name is unique and never changes;
//! - a stored secret is bound to the destination it was given for: a change of the destination drops it (T04);
//! - an unreachable gateway is registered too, with the status `unreachable`;
//! - only a change by a caller increments the version, a probe does not;
//! - gateways are registered automatically only if the configuration enables it, with the same rules as any
//!   registration;
//! - only a global admin can change labels under `access/` (T07).

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
