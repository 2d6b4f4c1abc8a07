//! Policies of sandboxes, which their gateways keep: reading, comparing and exporting them, and what changes of them
//! lead to; and presets of policies.
//!
//! Invariants
//! - a revision is shown as its gateway reports it, and nothing of it is stored here;
//! - a difference or an export is complete: it is refused if the policy has a part that this build does not know;
//! - text of a gateway is bounded and shown as such (T20).

pub mod changes;
pub mod domain;
mod messages;
pub mod rpc;
