//! Keys by which components are found.
//!
//! Two tools write one package in two ways: with the scope in the group or in the name, and with or without escapes in
//! the package URL. The keys are the same for both.
//!
//! Invariants
//! - a key is cut where an index requires it; the text is never cut, and decides;
//! - the text is one line for the name and one for the package URL, since neither contains control characters.

use crate::resources::sboms::cyclonedx::Component;
use crate::resources::sboms::purl;

/// Most bytes of the key of a name or package URL: together with the other columns it fits in an index.
pub(super) const KEY_BYTES_MAX: usize = 512;

/// Types of package URLs whose namespace is part of the name. In others it is the distributor, such as `debian`.
const NAMESPACED: [&str; 6] = ["npm", "maven", "golang", "composer", "github", "swift"];

/// Keys by which a component is found and sorted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SearchKeys {
    /// Key of the name without its group.
    pub name: String,
    /// Key of the version, which sorts as versions of its ecosystem do.
    pub version: String,
    /// Key of the package URL. Empty if it has none.
    pub purl: String,
    /// Name with its group, a line break, and the package URL.
    pub text: String,
}

impl SearchKeys {
    /// Returns the keys of a component.
    #[must_use]
    pub fn from_component(component: &Component) -> Self {
        let full = full_name(component);
        // A file is named by its path, which contains no group.
        let is_file = component.kind.as_deref() == Some("file");
        let own = if is_file { &full } else { own_name(&full) };
        let purl = fold(&purl::normalize(component.purl.as_deref().unwrap_or_default()));
        Self {
            name: cut(own).to_owned(),
            version: component.version_key(),
            purl: cut(&purl).to_owned(),
            text: format!("{full}\n{purl}"),
        }
    }
}

/// Returns group and name of a component as `group/name`, in lower case. If the group is only in the package URL or in
/// the name, as in `@scope/name`, the result is the same.
fn full_name(component: &Component) -> String {
    let url = component.purl.as_deref().unwrap_or_default();
    let ecosystem = purl::ecosystem(url).unwrap_or_default();
    let mut name = fold(&component.name);
    if ecosystem == "maven" {
        name = name.replacen(':', "/", 1);
    }
    let mut group = fold(component.group.as_deref().unwrap_or_default());
    if group.is_empty() && !name.contains('/') && NAMESPACED.contains(&ecosystem.as_str()) {
        let (namespace, own) = purl::namespace_and_name(url);
        if fold(&own) == name {
            group = fold(&namespace);
        }
    }
    let has_group = name.strip_prefix(&group).is_some_and(|rest| rest.starts_with('/'));
    if group.is_empty() || has_group { name } else { format!("{group}/{name}") }
}

/// Returns the part after the last slash, or the whole text if that is empty.
pub(super) fn own_name(full: &str) -> &str {
    full.rsplit('/').next().filter(|own| !own.is_empty()).unwrap_or(full)
}

/// Converts a text to lower case, for keys and for search texts alike. The last character of Unicode, which has no
/// meaning, is replaced: it marks the end of a range of keys.
pub(in crate::resources::sboms) fn fold(text: &str) -> String {
    text.to_lowercase().replace('\u{10ffff}', "\u{fffd}")
}

/// Cuts a text to [`KEY_BYTES_MAX`].
pub(super) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(KEY_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(group: &str, name: &str, purl: &str) -> SearchKeys {
        let optional = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        SearchKeys::from_component(&Component {
            name: name.to_owned(),
            group: optional(group),
            purl: optional(purl),
            ..Component::default()
        })
    }

    #[test]
    fn a_package_has_the_same_keys_however_a_tool_writes_it() {
        for (forms, name, text) in [
            (
                [
                    ("@Case", "left", "pkg:npm/%40case/left@1"),
                    ("", "@case/left", "pkg:npm/@case/left@1"),
                    ("", "left", "pkg:npm/%40case/left@1"),
                    ("@case", "@case/left", "pkg:npm/%40Case/Left@1"),
                ],
                "left",
                "@case/left\npkg:npm/@case/left@1",
            ),
            (
                [
                    ("org.Example", "core", "pkg:maven/org.example/core"),
                    ("", "org.example:core", "pkg:maven/org.example/core"),
                    ("", "core", "pkg:maven/org.example/core"),
                    ("", "org.example/core", "pkg:maven/org.example/core"),
                ],
                "core",
                "org.example/core\npkg:maven/org.example/core",
            ),
        ] {
            for (group, written, purl) in forms {
                let keys = keys(group, written, purl);
                assert_eq!((keys.name.as_str(), keys.text.as_str()), (name, text), "{written}");
            }
        }
        // A distributor is no group, and a package URL of another name says nothing.
        assert!(keys("", "curl", "pkg:deb/debian/curl").text.starts_with("curl\n"));
        assert!(keys("", "left", "pkg:npm/%40case/right").text.starts_with("left\n"));
        assert_eq!(keys("", "g++-12", "pkg:deb/debian/g%2B%2B-12").purl, "pkg:deb/debian/g++-12");
        assert_eq!(keys("", "a/", "").name, "a/");
    }

    #[test]
    fn a_file_is_named_by_its_whole_path() {
        let (name, kind) = ("/usr/bin/curl".to_owned(), Some("file".to_owned()));
        let file = Component { name, kind, ..Component::default() };
        assert_eq!(SearchKeys::from_component(&file).name, "/usr/bin/curl");
    }

    #[test]
    fn keys_fit_in_an_index_and_the_text_is_whole() {
        let wide = "\u{1f600}".repeat(512);
        let keys = keys(&wide, &wide, &wide);
        assert_eq!((keys.name.len(), keys.purl.len()), (KEY_BYTES_MAX, KEY_BYTES_MAX));
        assert_eq!(keys.text.len(), 3 * wide.len() + 2);
        // A character of three bytes is not cut in the middle.
        assert_eq!(cut(&"\u{20ac}".repeat(200)).len(), 510);
        assert_eq!(fold("\u{10ffff}A"), "\u{fffd}a");
    }
}
