//! Boot hooks: commands that run before a sandbox of some name is created, on our own host, and after it, inside.
//!
//! Invariants
//! - who writes one that runs on our host is a global admin, and it runs a file of the configured folder or nothing:
//!   without that folder there is none (an admin of one gateway is no admin of this host);
//! - the environment of such a hook is a short list of ours and its own variables, of which none is ours, and none
//!   chooses what is run;
//! - the values of variables are sealed for their command and working directory, come back to nobody, and are masked in
//!   what is kept of the output;
//! - a hook is found by gateway, workspace and sandbox together with its id, never by its id alone (T08);
//! - hooks go with their sandbox and with their gateway.

pub mod domain;
pub mod input;
pub mod rpc;
pub mod run;
mod sealed;
pub mod store;
