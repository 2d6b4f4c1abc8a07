//! Selectors: conditions on labels.

use std::fmt;

use super::{ACCESS_PREFIX, Labels, is_key};
use crate::characters::is_plain_line;
use crate::error::Error;

/// Maximum length of a selector, in characters.
pub const SELECTOR_CHARACTERS_MAX: usize = 1_000;
/// Maximum number of requirements of a selector.
pub const REQUIREMENTS_MAX: usize = 20;

/// One requirement of a selector.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Requirement {
    /// The label has one of these values.
    In(String, Vec<String>),
    /// The label is missing or has none of these values.
    NotIn(String, Vec<String>),
    /// The label exists.
    Exists(String),
    /// The label is missing.
    Missing(String),
}

impl Requirement {
    fn key(&self) -> &str {
        match self {
            Self::In(key, _) | Self::NotIn(key, _) | Self::Exists(key) | Self::Missing(key) => key,
        }
    }

    fn is_met_by(&self, labels: &Labels) -> bool {
        let among = |values: &[String], found: &str| values.iter().any(|value| value == found);
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|found| among(values, found)),
            Self::NotIn(key, values) => !labels.get(key).is_some_and(|found| among(values, found)),
            Self::Exists(key) => labels.get(key).is_some(),
            Self::Missing(key) => labels.get(key).is_none(),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::In(key, values) => match values.as_slice() {
                [value] => write!(f, "{key}={value}"),
                values => write!(f, "{key} in ({})", values.join(",")),
            },
            Self::NotIn(key, values) => match values.as_slice() {
                [value] => write!(f, "{key}!={value}"),
                values => write!(f, "{key} notin ({})", values.join(",")),
            },
            Self::Exists(key) => f.write_str(key),
            Self::Missing(key) => write!(f, "!{key}"),
        }
    }
}

/// Requirements that must all hold. An empty selector matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector(pub Vec<Requirement>);

impl Selector {
    /// Parses a selector.
    pub fn parse(field: &str, text: &str) -> Result<Self, Error> {
        let count = text.chars().count();
        if count > SELECTOR_CHARACTERS_MAX {
            let why = format!("must be at most {SELECTOR_CHARACTERS_MAX} characters, got {count}");
            return Err(Error::invalid(field, why));
        }
        let bad = |part: &str| {
            let why = format!(
                "has an invalid requirement `{part}`: use `k=v`, `k!=v`, `k in (a,b)`, `k notin (a,b)`, `k` or `!k`"
            );
            Error::invalid(field, why)
        };
        let mut requirements = Vec::new();
        for part in split_requirements(text).ok_or_else(|| bad(text))? {
            // Kubernetes reads `()` as a list with the empty value. It is more likely a list that was not filled in.
            if part.strip_suffix(')').is_some_and(|rest| rest.trim_end().ends_with('(')) {
                let why = format!(
                    "has no value in the parentheses of `{part}`: list values, or use `k=` for the empty value"
                );
                return Err(Error::invalid(field, why));
            }
            requirements.push(parse_requirement(part).ok_or_else(|| bad(part))?);
        }
        if requirements.len() > REQUIREMENTS_MAX {
            let why = format!("must have at most {REQUIREMENTS_MAX} requirements");
            return Err(Error::invalid(field, why));
        }
        Ok(Self(requirements))
    }

    /// Parses a selector of an access binding. It must use only labels under `access/`, and no requirement that holds
    /// because a label is missing, since callers who can remove labels could gain access that way (T07). The result is
    /// normalized: it does not depend on the order in the text.
    pub fn parse_access(field: &str, text: &str) -> Result<Self, Error> {
        let Self(mut requirements) = Self::parse(field, text)?;
        if requirements.is_empty() {
            return Err(Error::invalid(field, "must have a requirement"));
        }
        for requirement in &mut requirements {
            if !requirement.key().starts_with(ACCESS_PREFIX) {
                let why = format!(
                    "uses label `{}`: only labels under `{ACCESS_PREFIX}` are allowed",
                    requirement.key()
                );
                return Err(Error::invalid(field, why));
            }
            match requirement {
                Requirement::In(_, values) => {
                    values.sort_unstable();
                    values.dedup();
                }
                Requirement::Exists(_) => {}
                Requirement::NotIn(..) | Requirement::Missing(_) => {
                    let why = format!("must not have `!`, `!=` or `notin`, got `{requirement}`");
                    return Err(Error::invalid(field, why));
                }
            }
        }
        requirements.sort_unstable();
        requirements.dedup();
        Ok(Self(requirements))
    }

    /// Parses a selector that will be stored and shown to others. Besides the rules of [`Self::parse_access`], its
    /// values have no control characters and no marks of direction. Selectors that are older than this rule apply.
    pub fn parse_new_access(field: &str, text: &str) -> Result<Self, Error> {
        let parsed = Self::parse_access(field, text)?;
        if is_plain_line(text) {
            return Ok(parsed);
        }
        let why = "must be free of control characters and marks of direction";
        Err(Error::invalid(field, why))
    }

    /// Whether the selector matches an object with these labels.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.is_met_by(labels))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, requirement) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

/// Splits a selector at the commas outside parentheses. Returns `None` if the parentheses do not match or a part is
/// empty.
fn split_requirements(text: &str) -> Option<Vec<&str>> {
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

fn parse_requirement(part: &str) -> Option<Requirement> {
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
    use super::super::UNLABELLED;
    use super::*;

    #[test]
    fn selectors_use_the_kubernetes_syntax() {
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
    fn an_invalid_selector_is_refused() {
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
    fn empty_parentheses_are_refused_and_an_empty_value_is_not() {
        for bad in ["a in ()", "a notin ()", "a in ( )", "a=b,x notin( ) ,c", "a in (x),b in ()"] {
            let refused = Selector::parse("s", bad).unwrap_err().to_string();
            assert!(refused.contains("has no value"), "{bad}: {refused}");
        }
        assert!(Selector::parse_access("s", "access/a in ()").is_err());
        let empty = || vec![String::new()];
        for (text, requirement) in [
            ("a=", Requirement::In("a".to_owned(), empty())),
            ("a==", Requirement::In("a".to_owned(), empty())),
            ("a!=", Requirement::NotIn("a".to_owned(), empty())),
        ] {
            assert_eq!(Selector::parse("s", text).unwrap().0, [requirement], "{text}");
        }
    }

    #[test]
    fn a_selector_matches_labels_that_meet_every_requirement() {
        let labels = |pairs: &[(&str, &str)]| {
            Labels::parse("l", pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned()))).unwrap()
        };
        let prod = labels(&[("access/env", "prod"), ("access/team", "ml")]);
        for (selector, picked, bare) in [
            ("", true, true),
            ("access/env=prod", true, false),
            ("access/env=test", false, false),
            ("access/env in (test,prod),access/team", true, false),
            ("access/env=prod,access/zone", false, false),
            ("access/env!=test", true, true),
            ("access/env notin (prod)", false, true),
            ("!access/zone", true, true),
            ("!access/env", false, true),
        ] {
            let selector = Selector::parse("s", selector).unwrap();
            assert_eq!(
                (selector.matches(&prod), selector.matches(&UNLABELLED)),
                (picked, bare),
                "{selector}"
            );
        }
    }

    #[test]
    fn t20_a_new_access_selector_is_read_as_it_is_stored() {
        assert!(Selector::parse_new_access("selector", "access/a in (x,\u{e4})").is_ok());
        for bad in ["access/a=x\u{202e}y", "access/a in (x,\u{2066}y)", "access/a=\u{1b}[2J"] {
            assert!(Selector::parse_new_access("selector", bad).is_err(), "{bad:?}");
            // A stored selector of an earlier release must not keep the access data from being read.
            assert!(Selector::parse_access("selector", bad).is_ok(), "{bad:?}");
        }
        assert!(Selector::parse_new_access("selector", "env=prod").is_err());
    }

    #[test]
    fn t07_an_access_selector_is_canonical_and_requires_present_access_labels() {
        let text = |s: &str| Selector::parse_access("selector", s).map(|s| s.to_string());
        for same in ["access/b,access/a in (y,x,y)", " access/a in (x, y) , access/b,access/b"] {
            assert_eq!(text(same).unwrap(), "access/a in (x,y),access/b");
        }
        assert_eq!(text("access/a==x").unwrap(), "access/a=x");
        for form in ["access/a in (,x)", "access/a in (x,y),access/b", "access/a=x", "access/a="] {
            assert_eq!(text(form).unwrap(), form);
        }
        for bad in [
            "",
            " ",
            "env=prod",
            "access/a=x,env",
            "!access/a",
            "access/a!=x",
            "access/a notin (x)",
            "access/",
            "access",
            "Access/a",
        ] {
            assert!(text(bad).is_err(), "{bad}");
        }
    }
}
