//! Changes of a sandbox's policy by a caller, through Shoreguard's own API.
//!
//! Invariants
//! - the result is computed on the newest revision, and keeps its marks;
//! - every change is a round: without a workflow, the caller decides it by calling. Nothing is written here: the
//!   operation of an approved round writes it.

pub mod make;
pub(super) mod messages;
