//! The content of a template, and lookup by name.

use std::collections::BTreeMap;

/// Initial settings for sandboxes of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Unique name.
    pub name: String,
    /// Description for users.
    pub description: String,
    /// Category of work.
    pub category: String,
    /// The image; empty means the gateway's default.
    pub image: String,
    /// Whether a sandbox gets a GPU.
    pub gpu: bool,
    /// Names of the providers.
    pub providers: Vec<String>,
    /// Environment variables of the sandbox.
    pub environment: BTreeMap<String, String>,
    /// Names of the presets of its policy.
    pub presets: Vec<String>,
}

/// Finds a template by name. `templates` must be sorted by name.
#[must_use]
pub fn find<'a>(templates: &'a [Template], name: &str) -> Option<&'a Template> {
    let at = templates.binary_search_by(|template| template.name.as_str().cmp(name)).ok()?;
    templates.get(at)
}
