//! Templates: initial settings for sandboxes of a kind. Four are built into the binary, others are read from a folder.
//!
//! Invariants
//! - they are read once, at startup; an invalid template prevents the start and is never skipped silently;
//! - names are unique;
//! - they contain no secrets: every caller who can read a gateway can read them.

pub mod domain;
pub mod file;

pub use domain::{Template, find};

/// The templates of this process, sorted by name.
#[derive(Debug)]
pub struct Templates(pub Vec<Template>);
