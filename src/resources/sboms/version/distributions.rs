//! Versions of packages of Linux distributions: Debian, RPM and Alpine.

use super::{push_number, split_epoch, split_while};

/// Returns the key of a Debian version, as in deb-version(7): epoch, upstream version, revision. Each of the last two
/// is compared by turns as text and as a number; in texts, `~` comes before the end, and letters before all else.
pub(super) fn deb_key(version: &str) -> String {
    let (epoch, rest) = split_epoch(version, &[':']);
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    if !upstream.starts_with(|first: char| first.is_ascii_digit()) {
        return String::new();
    }
    let mut key = String::with_capacity(version.len() * 3);
    push_number(&mut key, epoch);
    push_deb_part(&mut key, upstream);
    push_deb_part(&mut key, revision);
    key
}

fn push_deb_part(key: &mut String, mut rest: &str) {
    loop {
        let (text, after) = split_while(rest, |next| !next.is_ascii_digit());
        for c in text.chars() {
            key.push(match c {
                '~' => '1',
                'a'..='z' | 'A'..='Z' => '3',
                _ => '4',
            });
            if c != '~' {
                key.push(c);
            }
        }
        key.push('2');
        let (digits, after) = split_while(after, |next| next.is_ascii_digit());
        // A missing number is 0.
        push_number(key, digits);
        rest = after;
        if rest.is_empty() {
            key.push('2');
            return;
        }
    }
}

/// Returns the key of an RPM version, as in rpm-version(7) and `rpmvercmp`: epoch, version, release.
pub(super) fn rpm_key(version: &str) -> String {
    let (epoch, rest) = split_epoch(version, &[':']);
    let (version, release) = match rest.rsplit_once('-') {
        Some((version, release)) => (version, Some(release)),
        None => (rest, None),
    };
    let mut key = String::with_capacity(rest.len() * 3);
    push_number(&mut key, epoch);
    push_rpm_part(&mut key, version);
    match release {
        None => key.push('0'),
        Some(release) => {
            key.push('1');
            push_rpm_part(&mut key, release);
        }
    }
    key
}

/// Appends the segments: `~` comes before the end, `^` after it, then words, then numbers. Separators do not count.
fn push_rpm_part(key: &mut String, mut rest: &str) {
    let is_separator = |c: char| !c.is_ascii_alphanumeric() && c != '~' && c != '^';
    loop {
        rest = rest.trim_start_matches(is_separator);
        let Some(first) = rest.chars().next() else {
            key.push('2');
            return;
        };
        rest = match first {
            '~' | '^' => {
                key.push(if first == '~' { '1' } else { '3' });
                &rest[1..]
            }
            '0'..='9' => {
                let (digits, after) = split_while(rest, |next| next.is_ascii_digit());
                key.push('5');
                push_number(key, digits);
                after
            }
            _ => {
                let (word, after) = split_while(rest, |next| next.is_ascii_alphabetic());
                key.push('4');
                push_word(key, word);
                after
            }
        };
    }
}

/// Appends a word and a blank, which sorts before every letter: a word comes before longer words that begin with it.
fn push_word(key: &mut String, word: &str) {
    key.push_str(word);
    key.push(' ');
}

/// Returns the key of an Alpine version: `1.2.3b_alpha4_p5~hash-r6`. At the first difference, the order is: suffix of a
/// pre-release, end, revision, hash, number of a suffix, suffix of a patch, letter, number.
pub(super) fn apk_key(version: &str) -> String {
    if version.contains(':') {
        return String::new();
    }
    let (first, mut rest) = split_while(version, |next| next.is_ascii_digit());
    let mut key = String::with_capacity(version.len() * 3);
    push_number(&mut key, first);
    loop {
        let (separator, after) = split_while(rest, |next| !next.is_ascii_alphanumeric());
        let (word, after_word) = split_while(after, |next| next.is_ascii_alphabetic());
        let (digits, after_digits) = split_while(after_word, |next| next.is_ascii_digit());
        if word.is_empty() && digits.is_empty() {
            key.push('2');
            return key;
        }
        rest = if separator.ends_with('~') {
            let (hash, after) = split_while(after, |next| next.is_ascii_alphanumeric());
            key.push('4');
            push_word(&mut key, hash);
            after
        } else if word.is_empty() {
            push_apk_number(&mut key, digits);
            after_digits
        } else if separator.ends_with('-') && word == "r" && !digits.is_empty() {
            key.push('3');
            push_number(&mut key, digits);
            after_digits
        } else if let Some(suffix) = apk_suffix(word).filter(|_| !separator.is_empty()) {
            key.push_str(suffix);
            if !digits.is_empty() {
                key.push('5');
                push_number(&mut key, digits);
            }
            after_digits
        } else {
            key.push('7');
            push_word(&mut key, word);
            after_word
        };
    }
}

/// Appends a number after the first. With a leading zero it is compared as a text, as a fraction is.
fn push_apk_number(key: &mut String, digits: &str) {
    if digits.starts_with('0') {
        key.push_str("84");
        push_word(key, digits);
    } else {
        key.push_str("85");
        push_number(key, digits);
    }
}

fn apk_suffix(word: &str) -> Option<&'static str> {
    match word {
        "alpha" => Some("11"),
        "beta" => Some("12"),
        "pre" => Some("13"),
        "rc" => Some("14"),
        "cvs" => Some("61"),
        "svn" => Some("62"),
        "git" => Some("63"),
        "hg" => Some("64"),
        "p" => Some("65"),
        _ => None,
    }
}
