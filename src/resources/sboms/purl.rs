//! Finds the version in a package URL, as defined by the Package-URL specification (ECMA-427).

use percent_encoding::percent_decode_str;

/// Returns where the version begins, at its `@`, and where it ends.
fn version_in(purl: &str) -> (usize, usize) {
    let end = purl.find(['?', '#']).unwrap_or(purl.len());
    let name = purl[..end].rfind('/').map_or(0, |slash| slash + 1);
    // An `@` before the last slash, or as the first character of the name, is part of an unescaped scope.
    match purl[name..end].rfind('@') {
        Some(at) if at > 0 => (name + at, end),
        Some(_) | None => (end, end),
    }
}

/// Returns a package URL without its version and everything after it.
pub(super) fn without_version(purl: &str) -> &str {
    &purl[..version_in(purl).0]
}

/// Returns the version in a package URL. `None` if the version is missing or no valid text.
pub(super) fn version(purl: &str) -> Option<String> {
    let (at, end) = version_in(purl);
    let version = percent_decode_str(purl[at..end].strip_prefix('@')?).decode_utf8().ok()?;
    let good = !version.trim().is_empty() && !version.contains(char::is_control);
    good.then(|| version.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_url_is_split_at_its_version() {
        for (purl, without, of) in [
            ("pkg:npm/lodash@4.17.21", "pkg:npm/lodash", Some("4.17.21")),
            ("pkg:npm/%40types/node@1.0?a=b@c#d", "pkg:npm/%40types/node", Some("1.0")),
            ("pkg:npm/@types/node@1.0", "pkg:npm/@types/node", Some("1.0")),
            ("pkg:npm/@types/node", "pkg:npm/@types/node", None),
            ("pkg:generic/@odd", "pkg:generic/@odd", None),
            ("pkg:generic/x@1@2", "pkg:generic/x@1", Some("2")),
            ("pkg:deb/debian/curl@7.50.3-1%2Bb1", "pkg:deb/debian/curl", Some("7.50.3-1+b1")),
            ("pkg:deb/debian/curl@", "pkg:deb/debian/curl", None),
            ("pkg:deb/debian/curl@%00", "pkg:deb/debian/curl", None),
            ("", "", None),
        ] {
            assert_eq!((without_version(purl), version(purl).as_deref()), (without, of), "{purl}");
        }
    }
}
