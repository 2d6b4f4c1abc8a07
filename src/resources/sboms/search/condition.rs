//! Conditions of searches: keys that an index finds, and patterns that decide.

use serde::Serialize;

use super::keys::{KEY_BYTES_MAX, cut, own_name};
use crate::resources::sboms::purl;

/// Condition of a search. Patterns are those of LIKE, with `\` before literal characters, and match the search text
/// of a component: its name with the group, a line break, and its package URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum SearchBy {
    /// The name has one of these keys, and the search text matches a pattern.
    Name {
        /// Keys of the name without its group.
        keys: Vec<String>,
        /// Patterns, of which one must match.
        patterns: [String; 3],
    },
    /// The name contains one of these texts.
    NamePart {
        /// One or two texts.
        texts: Vec<String>,
        /// The pattern of each text.
        patterns: Vec<String>,
    },
    /// The key of the package URL begins with this text, and the search text matches the pattern.
    Purl {
        /// The text, cut to the length of a key.
        prefix: String,
        /// Pattern of the whole text. It matches everything if the text is not longer than a key.
        pattern: String,
    },
    /// The search text matches the pattern.
    PurlPart {
        /// The pattern.
        pattern: String,
    },
}

impl SearchBy {
    /// The name, with its group or a part of it, is this text in lower case.
    #[must_use]
    pub fn name(text: &str) -> Self {
        let other = with_slash(text);
        let mut keys: Vec<String> =
            [own_name(text), text, own_name(&other)].map(|key| cut(key).to_owned()).into();
        keys.sort();
        keys.dedup();
        let (text, other) = (escape_like(text), escape_like(&other));
        Self::Name {
            keys,
            patterns: [format!("{text}\n%"), format!("%/{text}\n%"), format!("{other}\n%")],
        }
    }

    /// The name with its group contains this text in lower case.
    #[must_use]
    pub fn name_part(text: &str) -> Self {
        let mut texts = vec![text.to_owned(), with_slash(text)];
        texts.dedup();
        let pattern = |text: &String| format!("%{}%\n%", escape_like(text));
        let patterns = texts.iter().map(pattern).collect();
        Self::NamePart { texts, patterns }
    }

    /// The package URL begins with this text in lower case.
    #[must_use]
    pub fn purl(text: &str) -> Self {
        let text = purl::normalize(text);
        let is_long = text.len() > KEY_BYTES_MAX;
        let pattern = if is_long { format!("%\n{}%", escape_like(&text)) } else { "%".to_owned() };
        Self::Purl { prefix: cut(&text).to_owned(), pattern }
    }

    /// The package URL contains this text in lower case.
    #[must_use]
    pub fn purl_part(text: &str) -> Self {
        Self::PurlPart { pattern: format!("%\n%{}%", escape_like(&purl::normalize(text))) }
    }

    /// Returns whether it is about names, by which the results are then sorted, and not about package URLs.
    #[must_use]
    pub fn is_name(&self) -> bool {
        match self {
            Self::Name { .. } | Self::NamePart { .. } => true,
            Self::Purl { .. } | Self::PurlPart { .. } => false,
        }
    }

    /// Returns the sort order of the results.
    #[must_use]
    pub fn order(&self) -> &'static str {
        if self.is_name() { "name, version" } else { "purl" }
    }
}

/// Returns one to three patterns, of which one matches if group, name or package URL contains this text in lower case,
/// as it is or without its escapes. Most texts have one, and each further one is compared with every component.
#[must_use]
pub fn anywhere(text: &str) -> Vec<String> {
    let mut texts = vec![text.to_owned(), purl::normalize(text), with_slash(text)];
    texts.sort_unstable();
    texts.dedup();
    texts.iter().map(|text| format!("%{}%", escape_like(text))).collect()
}

/// Returns a name that is written as `group:name`, as Maven does, with a slash. Other texts are returned unchanged.
fn with_slash(text: &str) -> String {
    if text.contains('/') || text.matches(':').count() != 1 {
        return text.to_owned();
    }
    text.replace(':', "/")
}

/// Escapes a text for LIKE.
fn escape_like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_by_its_last_part_and_compared_as_a_whole() {
        let SearchBy::Name { keys, patterns } = SearchBy::name("@case/le_ft") else { panic!() };
        assert_eq!(keys, ["@case/le_ft", "le_ft"]);
        assert_eq!(patterns, ["@case/le\\_ft\n%", "%/@case/le\\_ft\n%", "@case/le\\_ft\n%"]);
        let SearchBy::Name { keys, patterns } = SearchBy::name("org.x:core") else { panic!() };
        assert_eq!(keys, ["core", "org.x:core"]);
        assert_eq!(patterns[2], "org.x/core\n%");
        let SearchBy::Name { keys, .. } = SearchBy::name("left") else { panic!() };
        assert_eq!(keys, ["left"]);
        assert_eq!(with_slash("foo::bar"), "foo::bar");
    }

    #[test]
    fn a_text_longer_than_a_key_is_compared_as_a_whole() {
        let long = format!("pkg:npm/{}", "\u{1f600}".repeat(200));
        let SearchBy::Purl { prefix, pattern } = SearchBy::purl(&long) else { panic!() };
        assert!(prefix.len() <= KEY_BYTES_MAX && long.starts_with(&prefix));
        assert_eq!(pattern, format!("%\n{long}%"));
        let short = SearchBy::purl("pkg:npm/%40case/");
        let prefix = "pkg:npm/@case/".to_owned();
        assert_eq!(short, SearchBy::Purl { prefix, pattern: "%".to_owned() });
    }

    #[test]
    fn a_text_is_searched_for_with_and_without_escapes() {
        assert_eq!(anywhere("%40case:a"), ["%\\%40case/a%", "%\\%40case:a%", "%@case:a%"]);
        assert_eq!(anywhere("case:a"), ["%case/a%", "%case:a%"]);
        assert_eq!(anywhere("left_pad"), ["%left\\_pad%"]);
    }
}
