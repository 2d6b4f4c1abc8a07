//! Semantic versions, and those of `RubyGems`.

use super::{push_number, split_while};

/// Returns the key of a semantic version, as in Semantic Versioning 2.0.0, item 11: numbers, then the identifiers of
/// the pre-release. Build metadata after a `+` does not count. A missing number is 0, and more than three are
/// allowed.
pub(super) fn key(version: &str) -> String {
    let version = version.split('+').next().unwrap_or_default();
    // Semantic versions have no epoch.
    if version.contains(':') {
        return String::new();
    }
    let (core, rest) = split_while(version, |next| next.is_ascii_digit() || next == '.');
    let mut key = String::with_capacity(version.len() * 3);
    let mut zeros = 0;
    for number in core.split('.').filter(|number| !number.is_empty()) {
        push_core_number(&mut key, &mut zeros, number);
    }
    if rest.is_empty() {
        key.push('2');
        return key;
    }
    key.push('1');
    match rest.strip_prefix('-') {
        Some(identifiers) => {
            for identifier in identifiers.split('.') {
                push_identifier(&mut key, identifier);
            }
        }
        // Go writes `1.22rc1`: a word and a number.
        None => {
            for identifier in rest.split(|next: char| !next.is_ascii_alphanumeric()) {
                let (word, number) = split_while(identifier, |next| !next.is_ascii_digit());
                for part in [word, number].into_iter().filter(|part| !part.is_empty()) {
                    push_identifier(&mut key, part);
                }
            }
        }
    }
    key.push('0');
    key
}

/// Appends a number. Zeros are written only if a greater number follows, since trailing zeros do not count.
fn push_core_number(key: &mut String, zeros: &mut usize, number: &str) {
    if number.bytes().all(|digit| digit == b'0') {
        *zeros += 1;
        return;
    }
    for zero in std::iter::repeat_n("0", std::mem::take(zeros)).chain([number]) {
        key.push('3');
        push_number(key, zero);
    }
}

/// Appends an identifier of a pre-release: numbers come before texts.
fn push_identifier(key: &mut String, identifier: &str) {
    if !identifier.is_empty() && identifier.bytes().all(|byte| byte.is_ascii_digit()) {
        key.push('1');
        push_number(key, identifier);
    } else {
        key.push('2');
        key.push_str(identifier);
        key.push(' ');
    }
}

/// Returns the key of a version of `RubyGems`, as `Gem::Version` compares: a word makes a pre-release, a `-` is read as
/// `.pre.`, and trailing zeros do not count.
pub(super) fn gem_key(version: &str) -> String {
    if version.contains(':') {
        return String::new();
    }
    let version = version.replace('-', ".pre.");
    let mut key = String::with_capacity(version.len() * 3);
    let (mut rest, mut zeros) = (version.as_str(), 0);
    loop {
        rest = rest.trim_start_matches(|next: char| !next.is_ascii_alphanumeric());
        let (digits, after) = split_while(rest, |next| next.is_ascii_digit());
        if !digits.is_empty() {
            push_core_number(&mut key, &mut zeros, digits);
            rest = after;
            continue;
        }
        let (word, after) = split_while(rest, |next| next.is_ascii_alphabetic());
        if word.is_empty() {
            key.push('2');
            return key;
        }
        zeros = 0;
        key.push('1');
        key.push_str(word);
        key.push(' ');
        rest = after;
    }
}
