//! Approval workflows: rules about who must approve changes of policies, on a gateway, a workspace or a sandbox.
//!
//! Invariants
//! - a rule is stored at once, under the lock of the gateway: no gateway is called before, so none can prevent it. What
//!   the gateway reports afterwards (its approval mode) is a warning in the response. Only a gateway that is known to
//!   approve drafts by itself gets no rule: the check of its settings has stored that as a finding;
//! - a stored rule is replaced by a weaker one, or deleted, only by a review under the rules of its scope, the old one
//!   included, or on the server's host;
//! - a rule that the principals of the gateway cannot meet is not stored. If they can no longer meet it, it raises one
//!   event, and stays in force;
//! - a rule that this version cannot read is shown as such; it stays in force as a refusal. A rule of a selector is
//!   such a rule, on every gateway.

pub mod approval_mode;
pub mod domain;
pub mod explain;
pub mod input;
mod messages;
mod review;
pub mod rpc;
pub mod rules;
pub mod store;
pub mod worker;
