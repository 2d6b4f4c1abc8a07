//! What we ask of a gateway on our own account, in the same words whatever its generation.
//!
//! [`Gateway`] is the handle; `sandbox`, `settings`, `exec` and `watch` are what can be asked, and `v0_0` and `v0_1` translate.
//! `capability` says what a gateway can do at all, `annotation` what we write into its record.
//!
//! Invariants
//! - what a gateway tells is bounded on its way in (T20);
//! - nothing is decided here: who may ask what is for the domain.
//!
//! `Health` is the same in both generations, and a gateway answers it without a credential: its version tells the
//! generation, and with it how everything else is read. `credential` checks the credential by calls that require one.

pub mod annotation;
pub mod exec;
pub(crate) mod gateway;
mod messages;
mod outgoing;
pub mod policy_file;
mod reached;
pub mod sandbox;
pub mod settings;
pub mod ssh;
pub mod templates;
mod v0_0;
mod v0_1;
pub mod watch;

pub use self::gateway::Gateway;
pub use crate::upstream::generation::Generation;
