//! Sort keys of versions: strings whose byte order is the order of the versions.
//!
//! The keys follow the rules that semver, PEP 440 and Maven share: numbers are compared as numbers, part by part; a
//! missing part is 0; a pre-release comes before its release, and `alpha` before `beta` before `rc`; letter case, a
//! leading `v` and everything after a `+` are ignored. None of the three is implemented in full, since a query such as
//! `below 2.17` names no ecosystem. Where they differ, an unknown word, or a number after a `-`, comes after the
//! release, as in Maven, Debian and PEP 440, and not before it, as in semver.
//!
//! Invariants
//! - a key consists of ASCII characters and the letters of the version, and is compared byte by byte;
//! - a version that does not begin with a number has an empty key, which is in no range.

use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

/// Significant digits of a number. Further digits are ignored.
const DIGITS_MAX: usize = 99;

// Kinds of what may follow a part, in sort order: pre-release, end, word, revision, number.
const PRE_RELEASE: char = 'a';
const END: char = 'e';
const WORD: char = 'l';
const REVISION: char = 'm';
const NUMBER: char = 'n';

/// A part of a version.
#[derive(Debug, PartialEq, Eq)]
enum VersionPart {
    Number(String),
    /// A number after a number and a `-`: the packaging revision.
    Revision(String),
    Word(String),
    /// Debian's `~`, which sorts before everything.
    Tilde,
}

/// Returns the key of a version. Empty if the version cannot be compared.
#[must_use]
pub fn key(version: &str) -> String {
    let version = version.trim().to_lowercase();
    let version = version.strip_prefix('v').unwrap_or(&version);
    let version = version.split('+').next().unwrap_or_default();
    let (epoch, version) = epoch(version);
    let parts = parts(version);
    if !version.starts_with(|c: char| c.is_ascii_digit()) {
        return String::new();
    }
    let mut key = String::with_capacity(version.len() * 2);
    push(&mut key, NUMBER, epoch);
    let mut zeros = 0;
    for (at, part) in parts.iter().enumerate() {
        match part {
            // Zeros are written only if a greater number follows, since trailing zeros do not count.
            VersionPart::Number(number) if number == "0" => zeros += 1,
            VersionPart::Number(number) => {
                for _ in 0..std::mem::take(&mut zeros) {
                    push(&mut key, NUMBER, "0");
                }
                push(&mut key, NUMBER, number);
            }
            VersionPart::Revision(number) => {
                zeros = 0;
                push(&mut key, REVISION, number);
            }
            VersionPart::Tilde => {
                zeros = 0;
                key.extend([PRE_RELEASE, '0']);
            }
            VersionPart::Word(word) => {
                let numbered = matches!(parts.get(at + 1), Some(VersionPart::Number(_)));
                match rank(word, numbered) {
                    Rank::Release => {}
                    Rank::Pre(digit) => {
                        zeros = 0;
                        key.extend([PRE_RELEASE, digit]);
                    }
                    Rank::Other => {
                        zeros = 0;
                        key.push(WORD);
                        key.push_str(word);
                        // Sorts before every letter, so that a word comes before longer words that begin with it.
                        key.push(' ');
                    }
                }
            }
        }
    }
    key.push(END);
    key
}

/// Appends the number of digits, then the digits, so that longer numbers sort higher.
fn push(key: &mut String, kind: char, number: &str) {
    let digits = &number[..number.len().min(DIGITS_MAX)];
    // Writing to a String cannot fail.
    let _ = write!(key, "{kind}{:02}{digits}", digits.len());
}

/// Splits off the epoch: `1!` in PEP 440, `1:` in Debian. The default is 0.
fn epoch(version: &str) -> (&str, &str) {
    let split = version
        .split_once(['!', ':'])
        .filter(|(epoch, _)| !epoch.is_empty() && epoch.bytes().all(|byte| byte.is_ascii_digit()));
    let (epoch, rest) = split.unwrap_or(("0", version));
    let epoch = epoch.trim_start_matches('0');
    (if epoch.is_empty() { "0" } else { epoch }, rest)
}

fn parts(version: &str) -> Vec<VersionPart> {
    let (mut parts, mut dash) = (Vec::new(), false);
    let mut rest = version.chars().peekable();
    while let Some(next) = rest.peek() {
        if next.is_ascii_digit() {
            let digits = take_while(&mut rest, |c| c.is_ascii_digit());
            let digits = digits.trim_start_matches('0');
            let digits = if digits.is_empty() { "0" } else { digits }.to_owned();
            let after_number =
                matches!(parts.last(), Some(VersionPart::Number(_) | VersionPart::Revision(_)));
            let revision = std::mem::take(&mut dash) && after_number;
            parts.push(if revision {
                VersionPart::Revision(digits)
            } else {
                VersionPart::Number(digits)
            });
        } else if next.is_alphabetic() {
            parts.push(VersionPart::Word(take_while(&mut rest, char::is_alphabetic)));
        } else {
            dash = *next == '-';
            if rest.next() == Some('~') {
                parts.push(VersionPart::Tilde);
            }
        }
    }
    parts
}

fn take_while(rest: &mut Peekable<Chars<'_>>, takes: impl Fn(char) -> bool) -> String {
    let mut run = String::new();
    while let Some(next) = rest.next_if(|c| takes(*c)) {
        run.push(next);
    }
    run
}

/// Meaning of a word in a version.
enum Rank {
    /// A pre-release. The digit is its rank.
    Pre(char),
    /// The release itself.
    Release,
    /// After the release.
    Other,
}

fn rank(word: &str, numbered: bool) -> Rank {
    match word {
        "dev" | "nightly" | "canary" => Rank::Pre('1'),
        "alpha" => Rank::Pre('2'),
        "beta" => Rank::Pre('3'),
        "milestone" => Rank::Pre('4'),
        "rc" | "cr" | "pre" | "preview" | "next" => Rank::Pre('5'),
        "snapshot" => Rank::Pre('6'),
        // `1.1a1` is a pre-release, `1.1a` a patch.
        "a" if numbered => Rank::Pre('2'),
        "b" if numbered => Rank::Pre('3'),
        "m" if numbered => Rank::Pre('4'),
        "c" if numbered => Rank::Pre('5'),
        "final" | "ga" | "release" => Rank::Release,
        _ => Rank::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_keys_sort_in_version_order() {
        for ascending in [
            // Numbers.
            ["2.9", "2.10", "2.17", "2.17.1", "2.100", "10"].as_slice(),
            &["0.1", "0.1.1", "0.2", "1"],
            &["1.9.9", "1.10.0-rc1", "1.10.0", "1.10.0.1"],
            &["1.0.99999999999999999999", "1.0.100000000000000000000"],
            // semver.
            &[
                "1.0.0-alpha",
                "1.0.0-alpha.1",
                "1.0.0-beta",
                "1.0.0-beta.2",
                "1.0.0-beta.11",
                "1.0.0-rc.1",
                "1.0.0",
            ],
            &["0.2.0-dev", "0.2.0"],
            // PEP 440.
            &[
                "1.0.dev1",
                "1.0a1",
                "1.0b2",
                "1.0rc1.dev2",
                "1.0rc1",
                "1.0",
                "1.0.post1",
                "1.0.1",
                "1!0.1",
            ],
            &["2.0a1", "2.0"],
            // Maven.
            &[
                "1-alpha-1",
                "1-beta-1",
                "1-milestone-1",
                "1-rc-1",
                "1-SNAPSHOT",
                "1",
                "1-sp",
                "1-1",
                "1.1",
            ],
            &["2.0-rc2", "2.0.1", "2.3.4-jre", "2.3.5"],
            // Debian, Alpine, OpenSSL.
            &["1.0~rc1-1", "1.0-1", "1.0-1ubuntu2", "1.0-2", "1:0.9"],
            &["3.0.1-r0", "3.0.1-r1", "3.0.2-r0"],
            &["1.0.2", "1.0.2k", "1.0.2l", "1.1.0"],
        ] {
            let keys: Vec<String> = ascending.iter().map(|version| key(version)).collect();
            for (at, pair) in keys.windows(2).enumerate() {
                assert!(
                    pair[0] < pair[1],
                    "{} is below {}: {pair:?}",
                    ascending[at],
                    ascending[at + 1]
                );
            }
        }
    }

    #[test]
    fn equal_versions_have_equal_keys() {
        for same in [
            ["2.17", "2.17.0", "2.17.0.0", "v2.17", "V2.17", "2.17.Final", " 2.17.0.RELEASE "]
                .as_slice(),
            &["1.0-rc1", "1.0.0rc1", "1.0.RC.1", "1.0-cr1", "1.0c1"],
            &["1.2.3+build.5", "1.2.3", "01.02.03"],
            &["0", "0.0.0", "0!0"],
        ] {
            for version in same {
                assert_eq!(key(version), key(same[0]), "{version} is {}", same[0]);
            }
        }
    }

    #[test]
    fn a_text_that_is_not_a_version_has_no_key() {
        for none in
            ["", " ", "latest", "main", "v", "-1", "~1", "${project.version}", "a1b2c3", "+1", "é"]
        {
            assert_eq!(key(none), "", "{none}");
        }
    }

    #[test]
    fn the_key_of_a_long_version_has_limited_length() {
        assert!(key(&"1.".repeat(64)).len() < 300);
        assert!(key(&"9".repeat(1_000)).len() < 110);
        assert!(key(&"9".repeat(99)) > key(&"8".repeat(99)));
    }
}
