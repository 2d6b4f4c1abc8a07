//! Labels, and selectors in Kubernetes syntax: `env=prod,team in (ml,web),!legacy`.
//!
//! Unlike there, `in ()` and `notin ()` without a value are errors.
//!
//! Labels under `access/` affect access and can be changed by global admins only (T07).

mod selector;

use std::collections::BTreeMap;

use crate::characters::{excerpt, is_ascii_name, is_plain_line};
use crate::error::Error;

pub use selector::{REQUIREMENTS_MAX, Requirement, SELECTOR_CHARACTERS_MAX, Selector};

/// Maximum number of labels of an object.
pub const LABELS_MAX: usize = 20;
/// Maximum length of a key without its prefix, in characters.
pub const KEY_CHARACTERS_MAX: usize = 63;
/// Maximum length of a value, in characters.
pub const VALUE_CHARACTERS_MAX: usize = 253;
/// Prefix of labels that affect access.
pub const ACCESS_PREFIX: &str = "access/";

/// Valid labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels(BTreeMap<String, String>);

/// An empty set of labels.
pub static UNLABELLED: Labels = Labels(BTreeMap::new());

impl Labels {
    /// Parses the labels of a request.
    pub fn parse(
        field: &str,
        given: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let labels: BTreeMap<String, String> = given.into_iter().collect();
        if labels.len() > LABELS_MAX {
            let why = format!("must be at most {LABELS_MAX} labels, got {}", labels.len());
            return Err(Error::invalid(field, why));
        }
        for (key, value) in &labels {
            if !is_key(key) {
                let why = format!(
                    "has the key `{}`: a key is a letter or digit, then up to {} of letters, digits, `.`, `_`, `-`",
                    excerpt(key, 80),
                    KEY_CHARACTERS_MAX - 1
                );
                return Err(Error::invalid(field, why));
            }
            if value.chars().count() > VALUE_CHARACTERS_MAX || !is_plain_line(value) {
                let why = format!(
                    "has an invalid value at `{key}`: must be at most {VALUE_CHARACTERS_MAX} characters, without control characters and marks of direction"
                );
                return Err(Error::invalid(field, why));
            }
        }
        Ok(Self(labels))
    }

    /// Parses stored labels, a JSON object. Returns no labels if the JSON is invalid.
    #[must_use]
    pub fn from_json(text: Option<&str>) -> Self {
        Self(text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default())
    }

    /// Encodes the labels for storage. Returns `None` if there are no labels.
    pub fn to_json(&self) -> Result<Option<String>, Error> {
        if self.0.is_empty() {
            return Ok(None);
        }
        serde_json::to_string(&self.0).map(Some).map_err(Error::internal)
    }

    /// Iterates over keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Returns the labels that affect access.
    #[must_use]
    pub fn access_labels(&self) -> Self {
        let under = self.0.iter().filter(|(key, _)| key.starts_with(ACCESS_PREFIX));
        Self(under.map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Converts the labels to a map.
    #[must_use]
    pub fn into_map(self) -> BTreeMap<String, String> {
        self.0
    }
}

fn is_key(key: &str) -> bool {
    let name = key.strip_prefix(ACCESS_PREFIX).unwrap_or(key);
    name.len() <= KEY_CHARACTERS_MAX && is_ascii_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_keys_values_and_counts_are_limited() {
        let one = |k: &str, v: &str| Labels::parse("labels", [(k.to_owned(), v.to_owned())]);
        assert!(one("env", "prod").is_ok());
        assert!(one("access/zone", "eu").is_ok());
        assert!(one(&"k".repeat(KEY_CHARACTERS_MAX), &"v".repeat(VALUE_CHARACTERS_MAX)).is_ok());
        for (k, v) in [
            ("", ""),
            ("-a", ""),
            ("a/b", ""),
            ("access/", ""),
            (&*"k".repeat(KEY_CHARACTERS_MAX + 1), ""),
            ("a", &*"v".repeat(VALUE_CHARACTERS_MAX + 1)),
            ("a", "x\u{7}"),
            ("a", "safe \u{202e}live"),
            ("a", "x\u{2066}"),
        ] {
            assert!(one(k, v).is_err(), "{k} {v}");
        }
        let many =
            |n: usize| Labels::parse("labels", (0..n).map(|i| (format!("k{i}"), String::new())));
        assert!(many(LABELS_MAX).is_ok() && many(LABELS_MAX + 1).is_err());
    }
}
