//! Placeholder.
#![allow(missing_docs)]
use std::collections::BTreeMap;
#[derive(Debug, Clone)]
pub struct Template {
    pub name: String,
    pub description: String,
    pub category: String,
    pub image: String,
    pub gpu: bool,
    pub providers: Vec<String>,
    pub environment: BTreeMap<String, String>,
    pub presets: Vec<String>,
}
pub fn all(_: &crate::app::App) -> &[Template] {
    &[]
}
pub fn find<'a>(_: &'a crate::app::App, _: &str) -> Option<&'a Template> {
    None
}
