//! One module per resource: deleting the module removes the feature.
//!
//! In each module, `rpc` translates messages, `domain` makes the decisions and `store` accesses the database. A
//! resource uses another one only through its `domain`.

pub mod access_bindings;
pub mod approval_workflows;
pub mod approvals;
pub mod audit;
pub mod auth;
pub mod boot_hooks;
pub mod bypass_events;
pub mod device_codes;
pub mod events;
pub mod followers;
pub mod gateway_tokens;
pub mod gateways;
pub mod groups;
pub mod operations;
pub mod policies;
pub mod policy_pins;
pub mod sandboxes;
pub mod sboms;
pub mod service_principals;
pub mod sessions;
pub mod stored_rules;
pub mod unlock;
pub mod users;
pub mod webhooks;
pub mod write_intents;
