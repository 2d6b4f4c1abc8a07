//! Values of a YAML document, and the place of a value in it.

use std::fmt;

/// Maximum length of a key in a displayed path, in characters.
const KEY_CHARACTERS_MAX: usize = 100;

/// A value of a YAML document.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Self>),
    /// Entries in their order.
    Map(Vec<(String, Self)>),
}

impl Node {
    /// Returns what it is, for messages.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Integer(_) | Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// The place of a value in a document, as a list that ends at the document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path<'a> {
    parent: Option<&'a Self>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Document,
    Key(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    /// The document itself.
    pub(super) const ROOT: Self = Self { parent: None, step: Step::Document };

    /// Returns the place of the value of a key in the mapping at this place.
    pub(super) fn key(&'a self, key: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Key(key) }
    }

    /// Returns the place of an item of the list at this place.
    pub(super) fn index(&'a self, index: usize) -> Self {
        Self { parent: Some(self), step: Step::Index(index) }
    }
}

/// Whether a key can be displayed without quotes.
fn is_plain(key: &str) -> bool {
    (1..=KEY_CHARACTERS_MAX).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parent = self.parent.filter(|parent| parent.parent.is_some());
        if let Some(parent) = parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Document => f.write_str("document"),
            Step::Key(key) if is_plain(key) => {
                f.write_str(if parent.is_some() { "." } else { "" })?;
                f.write_str(key)
            }
            Step::Key(key) => {
                let shown: String = key.chars().take(KEY_CHARACTERS_MAX).collect();
                let rest = if shown.len() < key.len() { "..." } else { "" };
                write!(f, "[{shown:?}{rest}]")
            }
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_displayed_with_dots_indexes_and_quoted_keys() {
        let root = Path::ROOT;
        let (rules, odd) = (root.key("network_policies"), root.key("a.b"));
        let rule = rules.key("git hub");
        let endpoints = rule.key("endpoints");
        assert_eq!(root.to_string(), "document");
        assert_eq!(odd.to_string(), "[\"a.b\"]");
        assert_eq!(endpoints.index(2).to_string(), "network_policies[\"git hub\"].endpoints[2]");
        let long = "x".repeat(KEY_CHARACTERS_MAX + 1);
        assert!(root.key(&long).to_string().ends_with("x\"...]"));
        assert!(!root.key("a\u{1b}[31m").to_string().contains('\u{1b}'));
    }
}
