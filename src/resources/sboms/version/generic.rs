//! The order of versions of an unknown ecosystem, of PEP 440 and of Maven.
//!
//! The keys follow the rules that semver, PEP 440 and Maven share: numbers are compared as numbers, part by part; a
//! missing part is 0; a pre-release comes before its release, and `alpha` before `beta` before `rc`; letter case and
//! everything after a `+` are ignored. None of the three is implemented in full. Where they differ, an unknown word, or
//! a number after a `-`, comes after the release, as in Maven and PEP 440, and not before it, as in semver.

use std::iter::Peekable;
use std::str::Chars;

use super::{push_number, split_epoch};

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

/// Returns the key of a version that begins with a number.
pub(super) fn key(version: &str) -> String {
    let version = version.to_lowercase();
    let version = version.split('+').next().unwrap_or_default();
    let (epoch, version) = split_epoch(version, &['!', ':']);
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
                        // Maven: a service pack comes before all unknown words.
                        key.push_str(if word == "sp" { "!" } else { word });
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

fn push(key: &mut String, kind: char, number: &str) {
    key.push(kind);
    push_number(key, number);
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
