//! Boot hooks: commands that run when a sandbox of a given name is created: before the creation on Shoreguard's host,
//! or after it inside the sandbox.
//!
//! Invariants
//! - only a global admin can write a hook that runs on Shoreguard's host, and it can only run a file of the configured
//!   folder; without that folder, these hooks are disabled (an admin of one gateway is not an admin of this host);
//! - the environment of such a hook is a short list of variables set by Shoreguard plus the hook's own variables, which
//!   cannot override these and cannot influence which program runs;
//! - the values of variables are sealed for their command and working directory, are never returned, and are masked in
//!   the stored output;
//! - a hook is looked up by gateway, workspace, sandbox and id, never by its id alone (T08);
//! - hooks are deleted with their sandbox and with their gateway.

pub mod domain;
pub mod input;
pub mod rpc;
pub mod run;
mod sealed;
pub mod store;
