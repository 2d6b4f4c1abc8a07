//! Shoreguard's own calls to a gateway, with the same interface for all generations.
//!
//! [`Gateway`] is the handle; `sandbox`, `settings`, `policies`, `policy_writes`, `drafts`, `draft_writes`, `exec` and
//! `watch` contain the calls, and `v0_0` and `v0_1` translate them. `sandbox_update` and `draft_requests` read those of
//! clients. `upstream::capability` defines what a gateway supports, `annotation` which annotations Shoreguard adds.
//!
//! Invariants
//! - data from a gateway is bounded when it is read (T20);
//! - nothing is authorized here: that is the task of the calling modules. The caller of a write is checked again when
//!   it is sent (T14).
//!
//! `Health` is the same in both generations, and a gateway serves it without a credential: its version determines the
//! generation, and thus how everything else is parsed. `upstream::credential` checks the credential by calls that
//! require one.

pub mod annotation;
pub mod draft_requests;
pub mod draft_writes;
pub mod drafts;
pub mod exec;
pub(crate) mod gateway;
mod messages;
mod own_encoding;
pub mod policies;
pub mod policy_writes;
pub mod providers;
pub mod reach;
mod reached;
#[cfg(test)]
pub(crate) mod samples;
pub mod sandbox;
pub mod sandbox_update;
pub mod settings;
pub mod ssh;
pub mod templates;
mod terms;
mod times;
mod v0_0;
mod v0_1;
pub mod watch;

pub use self::gateway::Gateway;
pub use self::reached::Usage;
pub use crate::upstream::generation::Generation;
