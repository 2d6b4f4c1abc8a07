//! Sort keys of versions: strings whose byte order is the order of the versions.
//!
//! A package URL names the ecosystem of a version, and with it the rules of the order ([`Scheme`]). A search such as
//! `below 2.17` names no ecosystem: its bound is a key of each scheme, and is compared with the keys of that scheme.
//!
//! Invariants
//! - a key begins with the letter of its scheme, so that keys of two schemes are never compared;
//! - a key is compared byte by byte, and no key of a scheme continues another one of it;
//! - a version that does not begin with a number, after a known prefix, has an empty key, which is in no range.

mod distributions;
mod generic;
mod semver;
#[cfg(test)]
mod tests;

use std::fmt::Write;

/// Rules by which versions are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Alpine: the package versions of apk-tools.
    Apk,
    /// Debian and Ubuntu: deb-version(7).
    Deb,
    /// `RubyGems`: `Gem::Version`.
    Gem,
    /// `NuGet`: semver without letter case, and with four numbers.
    Nuget,
    /// Fedora, Red Hat, SUSE: rpm-version(7).
    Rpm,
    /// npm, Cargo, Go and others: Semantic Versioning 2.0.0.
    Semver,
    /// The rules that PEP 440, Maven and most other versions share.
    Generic,
}

/// Number of schemes.
const SCHEMES: usize = 7;
/// Words before the number of a version. A separator and a `v` may follow.
const PREFIXES: [&str; 7] = ["version", "release", "ver", "rel", "jdk", "go", "v"];
/// Significant digits of a number: no stored version has more. Further digits are ignored.
const DIGITS_MAX: usize = 128;

/// Keys between which a version is in a range, for each scheme: the first is included, the second is not.
pub type KeyRanges = [(String, String); SCHEMES];

impl Scheme {
    /// All schemes.
    const ALL: [Self; SCHEMES] =
        [Self::Apk, Self::Deb, Self::Gem, Self::Nuget, Self::Rpm, Self::Semver, Self::Generic];

    /// Returns the scheme of a type of package URLs. `None` if the type does not determine it.
    fn from_ecosystem(ecosystem: &str) -> Option<Self> {
        match ecosystem {
            "apk" | "alpine" => Some(Self::Apk),
            "deb" => Some(Self::Deb),
            "gem" => Some(Self::Gem),
            "nuget" => Some(Self::Nuget),
            "rpm" => Some(Self::Rpm),
            "npm" | "cargo" | "golang" | "hex" | "swift" | "semver" => Some(Self::Semver),
            "pypi" | "maven" | "composer" | "conda" => Some(Self::Generic),
            _ => None,
        }
    }

    /// Returns the scheme of a version in an ecosystem, which is a type of package URLs. Without a known one, the
    /// version itself shows whether it is of Go or Debian.
    #[must_use]
    pub fn of(ecosystem: Option<&str>, version: &str) -> Self {
        if let Some(scheme) = ecosystem.and_then(Self::from_ecosystem) {
            return scheme;
        }
        if is_of_go(version) {
            return Self::Semver;
        }
        let debian = version
            .match_indices("+deb")
            .any(|(at, _)| version[at + 4..].starts_with(|next: char| next.is_ascii_digit()));
        if debian || version.contains("+dfsg") { Self::Deb } else { Self::Generic }
    }

    /// Returns the first letter of its keys.
    fn letter(self) -> char {
        match self {
            Self::Apk => 'a',
            Self::Deb => 'd',
            Self::Gem => 'g',
            Self::Nuget => 'n',
            Self::Rpm => 'r',
            Self::Semver => 's',
            Self::Generic => 'x',
        }
    }

    /// Returns a text that is greater than all of its keys and less than those of the later schemes.
    fn end(self) -> String {
        format!("{}~", self.letter())
    }
}

/// Returns the key of a version. Empty if the version cannot be compared.
#[must_use]
pub fn key(version: &str, scheme: Scheme) -> String {
    key_without(version, "", scheme)
}

/// Returns the key of a version that may begin with a name, such as `openssl-3.0.1`. Empty if it cannot be compared.
#[must_use]
pub fn key_without(version: &str, name: &str, scheme: Scheme) -> String {
    let mut text = strip_prefix(version.trim(), name);
    if is_of_go(version) {
        // As Go's `go/version` does: vendors append `-name`, and `X:experiments` follow after a blank.
        text = text.split(['-', ' ']).next().unwrap_or_default();
    }
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return String::new();
    }
    let key = match scheme {
        Scheme::Apk => distributions::apk_key(text),
        Scheme::Deb => distributions::deb_key(text),
        Scheme::Gem => semver::gem_key(text),
        Scheme::Nuget => semver::key(&text.to_lowercase()),
        Scheme::Rpm => distributions::rpm_key(text),
        Scheme::Semver => semver::key(text),
        Scheme::Generic => generic::key(text),
    };
    if key.is_empty() { key } else { format!("{}{key}", scheme.letter()) }
}

/// Returns the key ranges of a lower and an upper bound. A bound that a scheme cannot compare matches no version of it.
/// `None` without a bound.
#[must_use]
pub fn ranges(from: Option<&str>, below: Option<&str>) -> Option<KeyRanges> {
    if from.is_none() && below.is_none() {
        return None;
    }
    let range = |scheme: Scheme| {
        let low = from.map_or_else(|| scheme.letter().to_string(), |from| key(from, scheme));
        let high = below.map_or_else(|| scheme.end(), |below| key(below, scheme));
        if low.is_empty() || high.is_empty() { (String::new(), String::new()) } else { (low, high) }
    };
    Some(Scheme::ALL.map(range))
}

/// Returns whether it is the version of a Go toolchain or its standard library, such as `go1.22.5`.
fn is_of_go(version: &str) -> bool {
    let rest = version.trim_start().strip_prefix("go");
    rest.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// Removes what tools write before the number: the name, or a word such as `v`, `go` or `release-`.
fn strip_prefix<'a>(version: &'a str, name: &str) -> &'a str {
    for prefix in std::iter::once(name).filter(|name| !name.is_empty()).chain(PREFIXES) {
        let Some((head, rest)) = version.split_at_checked(prefix.len()) else { continue };
        if !head.eq_ignore_ascii_case(prefix) {
            continue;
        }
        let rest = rest.trim_start_matches(['-', '_', '.', ' ', '/']);
        let rest = rest.strip_prefix(['v', 'V']).unwrap_or(rest);
        if rest.starts_with(|first: char| first.is_ascii_digit()) {
            return rest;
        }
    }
    version
}

/// Appends the number of digits, then the digits, so that longer numbers sort higher. Leading zeros do not count, and
/// no digits are a zero.
fn push_number(key: &mut String, digits: &str) {
    let digits = digits.trim_start_matches('0');
    let digits = if digits.is_empty() { "0" } else { digits };
    let digits = &digits[..digits.len().min(DIGITS_MAX)];
    // Writing to a String cannot fail.
    let _ = write!(key, "{:03}{digits}", digits.len());
}

/// Splits off the epoch: `1!` in PEP 440, `1:` in Debian and RPM. The default is 0.
fn split_epoch<'a>(version: &'a str, marks: &[char]) -> (&'a str, &'a str) {
    let split = version
        .split_once(marks)
        .filter(|(epoch, _)| !epoch.is_empty() && epoch.bytes().all(|byte| byte.is_ascii_digit()));
    split.unwrap_or(("0", version))
}

/// Splits a text before the first character that does not match.
fn split_while(text: &str, matches: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|next| !matches(next)).unwrap_or(text.len()))
}
