//! Versions as a database can compare them: a text for each, in whose order the versions are.
//!
//! What semver, PEP 440 and Maven agree on: numbers count as numbers, part by part; a missing part is 0; a pre-release
//! comes before its release, `alpha` before `beta` before `rc`; letters don't differ in case; a `v` in front and what
//! follows a `+` don't count. It is no full implementation of any of them, since what is asked for (`below 2.17`) has
//! no ecosystem. Where they disagree: a word that is not known, and a number after a `-`, come after the release, as in
//! Maven, Debian and PEP 440, and not before it, as in semver.
//!
//! Invariants
//! - the key is ASCII or the version's own letters, and is compared byte by byte;
//! - a version without a number has the empty key, which is in no range.

use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

/// Digits of a number that count: further ones are the same number.
const DIGITS_MAX: usize = 99;

// What may follow a part, in order: a pre-release, the end, a word, a revision, a number.
const PRE_RELEASE: char = 'a';
const END: char = 'e';
const WORD: char = 'l';
const REVISION: char = 'm';
const NUMBER: char = 'n';

/// A part of a version.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Number(String),
    /// A number after a number and a `-`: how often the same version was packaged.
    Revision(String),
    Word(String),
    /// Debian's sign for what comes before.
    Tilde,
}

/// The key of a version; empty where it cannot be compared.
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
            // Only a number that comes after them tells that they are there.
            Part::Number(number) if number == "0" => zeros += 1,
            Part::Number(number) => {
                for _ in 0..std::mem::take(&mut zeros) {
                    push(&mut key, NUMBER, "0");
                }
                push(&mut key, NUMBER, number);
            }
            Part::Revision(number) => {
                zeros = 0;
                push(&mut key, REVISION, number);
            }
            Part::Tilde => {
                zeros = 0;
                key.extend([PRE_RELEASE, '0']);
            }
            Part::Word(word) => {
                let numbered = matches!(parts.get(at + 1), Some(Part::Number(_)));
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
                        // Below every letter, so that a word that begins another one comes before it.
                        key.push(' ');
                    }
                }
            }
        }
    }
    key.push(END);
    key
}

/// How many digits, then the digits: longer numbers are greater.
fn push(key: &mut String, kind: char, number: &str) {
    let digits = &number[..number.len().min(DIGITS_MAX)];
    // Writing to a String cannot fail.
    let _ = write!(key, "{kind}{:02}{digits}", digits.len());
}

/// `1!` of PEP 440 and `1:` of Debian; 0 where there is none.
fn epoch(version: &str) -> (&str, &str) {
    let split = version
        .split_once(['!', ':'])
        .filter(|(epoch, _)| !epoch.is_empty() && epoch.bytes().all(|byte| byte.is_ascii_digit()));
    let (epoch, rest) = split.unwrap_or(("0", version));
    let epoch = epoch.trim_start_matches('0');
    (if epoch.is_empty() { "0" } else { epoch }, rest)
}

fn parts(version: &str) -> Vec<Part> {
    let (mut parts, mut dash) = (Vec::new(), false);
    let mut rest = version.chars().peekable();
    while let Some(next) = rest.peek() {
        if next.is_ascii_digit() {
            let digits = take(&mut rest, |c| c.is_ascii_digit());
            let digits = digits.trim_start_matches('0');
            let digits = if digits.is_empty() { "0" } else { digits }.to_owned();
            let after_number = matches!(parts.last(), Some(Part::Number(_) | Part::Revision(_)));
            let revision = std::mem::take(&mut dash) && after_number;
            parts.push(if revision { Part::Revision(digits) } else { Part::Number(digits) });
        } else if next.is_alphabetic() {
            parts.push(Part::Word(take(&mut rest, char::is_alphabetic)));
        } else {
            dash = *next == '-';
            if rest.next() == Some('~') {
                parts.push(Part::Tilde);
            }
        }
    }
    parts
}

fn take(rest: &mut Peekable<Chars<'_>>, takes: impl Fn(char) -> bool) -> String {
    let mut run = String::new();
    while let Some(next) = rest.next_if(|c| takes(*c)) {
        run.push(next);
    }
    run
}

/// What a word says of the version.
enum Rank {
    /// It comes before the release; the digit is in which order.
    Pre(char),
    /// It is the release.
    Release,
    /// It comes after the release.
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
    fn versions_are_in_their_order() {
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
    fn what_is_the_same_version_has_the_same_key() {
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
    fn what_cannot_be_compared_has_no_key() {
        for none in
            ["", " ", "latest", "main", "v", "-1", "~1", "${project.version}", "a1b2c3", "+1", "é"]
        {
            assert_eq!(key(none), "", "{none}");
        }
    }

    #[test]
    fn a_long_version_has_a_bounded_key() {
        assert!(key(&"1.".repeat(64)).len() < 300);
        assert!(key(&"9".repeat(1_000)).len() < 110);
        assert!(key(&"9".repeat(99)) > key(&"8".repeat(99)));
    }
}
