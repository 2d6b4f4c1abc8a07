//! Reads the parts of package URLs, as defined by the Package-URL specification (ECMA-427), and compares them.

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

/// Returns the type in lower case, such as `npm`. `None` if the text is no package URL.
pub(super) fn ecosystem(purl: &str) -> Option<String> {
    let (scheme, rest) = purl.split_once(':')?;
    let (kind, _) = rest.trim_start_matches('/').split_once('/')?;
    scheme.eq_ignore_ascii_case("pkg").then(|| kind.to_lowercase())
}

/// Returns the namespace and the name, decoded. Each may be empty.
pub(super) fn namespace_and_name(purl: &str) -> (String, String) {
    let rest = without_version(purl).split_once(':').map_or("", |(_, rest)| rest);
    let path = rest.trim_start_matches('/').split_once('/').map_or("", |(_, path)| path);
    let (namespace, name) = path.rsplit_once('/').unwrap_or(("", path));
    (decode(namespace), decode(name))
}

/// Returns the value of a qualifier, decoded.
pub(super) fn qualifier(purl: &str, key: &str) -> Option<String> {
    let (_, qualifiers) = purl.split('#').next()?.split_once('?')?;
    let pairs = qualifiers.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| decode(value)).next()
}

/// Returns the form in which package URLs are compared: lower case, without escapes, and without slashes before the
/// type. It is for comparisons only: a decoded `@` or `/` no longer separates anything.
pub(super) fn normalize(purl: &str) -> String {
    let decoded = decode(purl).to_lowercase();
    match decoded.strip_prefix("pkg:/") {
        Some(rest) => format!("pkg:{}", rest.trim_start_matches('/')),
        None => decoded,
    }
}

/// Decodes percent-encoded text. What is not UTF-8 and control characters stay encoded.
pub(super) fn decode(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        rest = &rest[at..];
        let escapes = rest.as_bytes().chunks_exact(3).take_while(|triple| is_escape(triple));
        // A `%` alone stays as it is.
        let end = match escapes.count() {
            0 => 1,
            count => count * 3,
        };
        let (encoded, after) = rest.split_at(end);
        match percent_decode_str(encoded).decode_utf8() {
            Ok(text) if !text.contains(char::is_control) => decoded.push_str(&text),
            Ok(_) | Err(_) => decoded.push_str(encoded),
        }
        rest = after;
    }
    decoded.push_str(rest);
    decoded
}

fn is_escape(triple: &[u8]) -> bool {
    matches!(triple, [b'%', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
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

    #[test]
    fn package_urls_with_and_without_escapes_are_the_same() {
        for same in [
            [
                "pkg:npm/%40Case/left@1.0.0",
                "pkg:npm/@case/left@1.0.0",
                "PKG:npm/%40case/left@1.0.0",
            ],
            ["pkg:deb/debian/g%2B%2B-12", "pkg:deb/debian/g++-12", "pkg://deb/debian/g%2b%2B-12"],
            ["pkg:generic/%C3%A9", "pkg:generic/\u{e9}", "pkg:generic/%c3%a9"],
            ["50%", "50%", "50%25"],
        ] {
            for purl in same {
                assert_eq!(normalize(purl), normalize(same[0]), "{purl}");
            }
        }
        // Bytes that are no UTF-8, and control characters, are not decoded.
        for (encoded, decoded) in [
            ("a%E9b", "a%E9b"),
            ("a%0Ab%00", "a%0Ab%00"),
            ("%", "%"),
            ("%4", "%4"),
            ("%zz%40", "%zz@"),
            ("%%40", "%@"),
            ("\u{e9}%2F%", "\u{e9}/%"),
        ] {
            assert_eq!(decode(encoded), decoded);
        }
        assert_ne!(normalize("pkg:a/%E8"), normalize("pkg:a/%E9"));
    }

    #[test]
    fn the_parts_of_a_package_url_are_read() {
        let named = |namespace: &str, name: &str| (namespace.to_owned(), name.to_owned());
        for (purl, kind, parts) in [
            ("pkg:npm/%40case/left@1", Some("npm"), named("@case", "left")),
            ("pkg:npm/@case/left", Some("npm"), named("@case", "left")),
            ("PKG:NPM/left?a=b", Some("npm"), named("", "left")),
            ("pkg://golang/github.com/a/b@v1", Some("golang"), named("github.com/a", "b")),
            ("pkg:npm", None, named("", "")),
            ("https://x/y", None, named("", "y")),
            ("", None, named("", "")),
        ] {
            assert_eq!(ecosystem(purl).as_deref(), kind, "{purl}");
            assert_eq!(namespace_and_name(purl), parts, "{purl}");
        }
        let purl = "pkg:rpm/fedora/curl@7.50.3-1.fc25?arch=i386&Epoch=2#x?epoch=3";
        assert_eq!(qualifier(purl, "epoch").as_deref(), Some("2"));
        assert_eq!(qualifier(purl, "distro"), None);
        assert_eq!(qualifier("pkg:rpm/a@1#?epoch=3", "epoch"), None);
    }
}
