//! Sandboxes: what their gateway tells of them, and what is kept here about them.
//!
//! A sandbox lives on its gateway. A row of `sandbox_meta` says that one was seen there, under which id, and holds its
//! description and labels; hooks and SBOMs may be written for a name before there is a sandbox of it.
//!
//! Invariants
//! - what hangs on a sandbox's name goes with the sandbox, whoever deleted it: a new one of that name inherits nothing;
//! - the names that the log and events use are those that the gateway gave;
//! - a creation is sent once; what became of one whose answer was lost is asked, never guessed;
//! - nothing is deleted because a gateway did not answer.

pub mod cleanup;
pub mod create;
pub mod domain;
pub mod exec;
pub mod fleet;
mod former;
pub mod input;
pub mod listing;
pub mod lists;
pub mod logs;
mod lost;
pub mod made;
mod messages;
pub mod proxied;
pub mod rpc;
pub mod ssh;
pub mod store;
mod undo;
pub mod worker;
