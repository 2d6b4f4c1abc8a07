//! Labels, and selectors in the syntax of Kubernetes: `env=prod,team in (ml,web),!legacy`.
//!
//! Labels under `access/` decide about access and are changed by a global admin only (T07).

use std::collections::BTreeMap;

use crate::error::Error;

/// Most labels of one thing.
pub const LABELS_MAX: usize = 20;
/// Most characters of a key, without its prefix.
pub const KEY_CHARACTERS_MAX: usize = 63;
/// Most characters of a value.
pub const VALUE_CHARACTERS_MAX: usize = 253;
/// Most characters of a selector.
pub const SELECTOR_CHARACTERS_MAX: usize = 1_000;
/// Most requirements of a selector.
pub const REQUIREMENTS_MAX: usize = 20;
/// The prefix of labels that decide about access.
pub const ACCESS_PREFIX: &str = "access/";

/// Valid labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// From what a caller sent.
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
                    key.chars().take(80).collect::<String>(),
                    KEY_CHARACTERS_MAX - 1
                );
                return Err(Error::invalid(field, why));
            }
            if value.chars().count() > VALUE_CHARACTERS_MAX || value.chars().any(char::is_control) {
                let why = format!(
                    "has at `{key}` a value that is not at most {VALUE_CHARACTERS_MAX} plain characters"
                );
                return Err(Error::invalid(field, why));
            }
        }
        Ok(Self(labels))
    }

    /// From what is stored: a JSON object; what is broken there is none.
    #[must_use]
    pub fn from_json(text: Option<&str>) -> Self {
        Self(text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default())
    }

    /// As it is stored; none where there is no label.
    pub fn to_json(&self) -> Result<Option<String>, Error> {
        if self.0.is_empty() {
            return Ok(None);
        }
        serde_json::to_string(&self.0).map(Some).map_err(Error::internal)
    }

    /// Key and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Those that decide about access.
    #[must_use]
    pub fn of_access(&self) -> Self {
        let under = self.0.iter().filter(|(key, _)| key.starts_with(ACCESS_PREFIX));
        Self(under.map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    /// As a plain map.
    #[must_use]
    pub fn into_map(self) -> BTreeMap<String, String> {
        self.0
    }
}

fn is_key(key: &str) -> bool {
    let name = key.strip_prefix(ACCESS_PREFIX).unwrap_or(key);
    name.len() <= KEY_CHARACTERS_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// One requirement of a selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// The label has one of these values.
    In(String, Vec<String>),
    /// The label is missing or has none of these values.
    NotIn(String, Vec<String>),
    /// The label is there.
    Exists(String),
    /// The label is missing.
    Missing(String),
}

/// What all must hold. Empty selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector(pub Vec<Requirement>);

impl Selector {
    /// From its text.
    pub fn parse(field: &str, text: &str) -> Result<Self, Error> {
        let count = text.chars().count();
        if count > SELECTOR_CHARACTERS_MAX {
            let why = format!("must be at most {SELECTOR_CHARACTERS_MAX} characters, got {count}");
            return Err(Error::invalid(field, why));
        }
        let bad = |part: &str| {
            Error::invalid(field, format!("has a part that is no requirement: `{part}`"))
        };
        let mut requirements = Vec::new();
        for part in split(text).ok_or_else(|| bad(text))? {
            requirements.push(requirement(part).ok_or_else(|| bad(part))?);
        }
        if requirements.len() > REQUIREMENTS_MAX {
            let why = format!("must have at most {REQUIREMENTS_MAX} requirements");
            return Err(Error::invalid(field, why));
        }
        Ok(Self(requirements))
    }
}

/// At the commas outside parentheses. None where parentheses don't match or a part is empty.
fn split(text: &str) -> Option<Vec<&str>> {
    if text.trim().is_empty() {
        return Some(Vec::new());
    }
    let (mut parts, mut start, mut open) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            '(' if open => return None,
            '(' => open = true,
            ')' if !open => return None,
            ')' => open = false,
            ',' if !open => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    (!open && parts.iter().all(|part| !part.is_empty())).then_some(parts)
}

fn requirement(part: &str) -> Option<Requirement> {
    let key = |text: &str| Some(text.trim().to_owned()).filter(|key| is_key(key));
    let value = |text: &str| {
        let text = text.trim();
        let plain =
            !text.contains(['(', ')', '=', '!', ',']) && !text.contains(char::is_whitespace);
        plain.then(|| text.to_owned())
    };
    if let Some(rest) = part.strip_suffix(')') {
        let (head, values) = rest.split_once('(')?;
        let values: Vec<String> = values.split(',').map(value).collect::<Option<_>>()?;
        let (name, operator) = head.trim().rsplit_once(char::is_whitespace)?;
        return match operator {
            "in" => Some(Requirement::In(key(name)?, values)),
            "notin" => Some(Requirement::NotIn(key(name)?, values)),
            _ => None,
        };
    }
    if let Some((name, text)) = part.split_once("!=") {
        return Some(Requirement::NotIn(key(name)?, vec![value(text)?]));
    }
    if let Some((name, text)) = part.split_once('=') {
        let text = text.strip_prefix('=').unwrap_or(text);
        return Some(Requirement::In(key(name)?, vec![value(text)?]));
    }
    match part.strip_prefix('!') {
        Some(name) => Some(Requirement::Missing(key(name)?)),
        None => Some(Requirement::Exists(key(part)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_read_as_kubernetes_has_them() {
        let parsed = Selector::parse(
            "s",
            "env=prod, team in (ml,web) ,tier!=a,!legacy,zone,x notin (1), y==2",
        )
        .unwrap();
        let text = |s: &str| s.to_owned();
        assert_eq!(
            parsed.0,
            [
                Requirement::In(text("env"), vec![text("prod")]),
                Requirement::In(text("team"), vec![text("ml"), text("web")]),
                Requirement::NotIn(text("tier"), vec![text("a")]),
                Requirement::Missing(text("legacy")),
                Requirement::Exists(text("zone")),
                Requirement::NotIn(text("x"), vec![text("1")]),
                Requirement::In(text("y"), vec![text("2")]),
            ]
        );
        assert_eq!(Selector::parse("s", " ").unwrap(), Selector::default());
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for bad in [
            ",",
            "a,",
            "a in (b",
            "a in b)",
            "a in ((b))",
            "=b",
            "a b",
            "a=b=c",
            "a in",
            "!",
            "a=b c",
            "-a=b",
        ] {
            assert!(Selector::parse("s", bad).is_err(), "{bad}");
        }
        assert!(Selector::parse("s", &"a".repeat(SELECTOR_CHARACTERS_MAX + 1)).is_err());
        assert!(Selector::parse("s", &vec!["a"; REQUIREMENTS_MAX].join(",")).is_ok());
        assert!(Selector::parse("s", &vec!["a"; REQUIREMENTS_MAX + 1].join(",")).is_err());
    }

    #[test]
    fn labels_are_bounded() {
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
        ] {
            assert!(one(k, v).is_err(), "{k} {v}");
        }
        let many =
            |n: usize| Labels::parse("labels", (0..n).map(|i| (format!("k{i}"), String::new())));
        assert!(many(LABELS_MAX).is_ok() && many(LABELS_MAX + 1).is_err());
    }
}
