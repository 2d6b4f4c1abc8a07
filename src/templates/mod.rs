//! Templates: what sandboxes of a kind begin with. Four come with the binary, others from the files of a folder.
//!
//! Invariants
//! - they are read once, at start; one that is wrong stops the start, and nothing of it is left out silently;
//! - each name is there once;
//! - they hold no secrets: everybody who may look at a gateway reads them.

pub mod domain;
pub mod file;

pub use domain::{Template, find};

/// The templates of this process, by name.
#[derive(Debug)]
pub struct Templates(pub Vec<Template>);
