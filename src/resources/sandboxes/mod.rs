//! Sandboxes: the state that their gateway reports, and the metadata that Shoreguard stores.
//!
//! A sandbox lives on its gateway. A row of `sandbox_meta` records that it was seen there and under which id, and holds
//! its description and labels. Hooks and SBOMs may be written for a name before the sandbox exists.
//!
//! Invariants
//! - hooks, SBOMs, metadata and SSH sessions are deleted with their sandbox, even if it was deleted outside Shoreguard:
//!   a new sandbox of that name inherits nothing;
//! - the audit log and events use the names that the gateway has assigned;
//! - a creation is sent once. If its response is lost, Shoreguard queries the gateway for the outcome and never
//!   guesses;
//! - nothing is deleted because a gateway did not respond.

pub mod after_create;
pub mod bypass;
pub mod cleanup;
pub mod create;
pub mod domain;
pub mod exec;
mod first_policy;
pub mod fleet;
pub mod forwarded;
mod forwarded_drafts;
pub mod input;
mod leftovers;
pub mod lists;
pub mod logs;
mod lost_response;
mod messages;
pub mod positions;
mod presets;
pub mod rpc;
pub mod ssh;
pub mod stock_client;
pub mod store;
pub mod templates;
mod undo;
pub mod worker;
