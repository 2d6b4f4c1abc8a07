//! What a template says, and finding it.

use std::collections::BTreeMap;

/// What sandboxes of a kind begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Unique name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What kind of work it is for.
    pub category: String,
    /// The image; empty is the gateway's own.
    pub image: String,
    /// Whether a sandbox gets a GPU.
    pub gpu: bool,
    /// Names of the providers.
    pub providers: Vec<String>,
    /// Variables of the sandbox.
    pub environment: BTreeMap<String, String>,
    /// Names of the presets of its policy.
    pub presets: Vec<String>,
}

/// Returns the template of a name. They are in the order of their names.
#[must_use]
pub fn find<'a>(templates: &'a [Template], name: &str) -> Option<&'a Template> {
    let at = templates.binary_search_by(|template| template.name.as_str().cmp(name)).ok()?;
    templates.get(at)
}
