//! One folder per resource: removing the folder removes the feature.
//!
//! In each, `rpc` translates, `domain` decides, `store` remembers. A resource uses another only through its `domain`.

pub mod access_bindings;
pub mod audit;
pub mod auth;
pub mod boot_hooks;
pub mod device_codes;
pub mod events;
pub mod gateway_tokens;
pub mod gateways;
pub mod groups;
pub mod operations;
pub mod sandboxes;
pub mod sboms;
pub mod service_principals;
pub mod sessions;
pub mod users;
