//! The registry of gateways.
//!
//! Invariants
//! - a name is unique and never changes;
//! - a stored secret is bound to the endpoint that it was given for: a changed destination drops it (T04);
//! - a gateway that does not answer is registered all the same, and says so;
//! - labels under `access/` are changed by a global admin only (T07).

pub mod domain;
pub mod targets;
