//! The shorthand in which sandboxes log security events (OCSF), parsed from untrusted text.
//!
//! A line is `CLASS[:SUFFIX] [SEVERITY] text [key:value key:value]`, for example `NET:OPEN [MED] DENIED
//! /usr/bin/curl(58) -> 203.0.113.7:443/tcp [policy:- engine:opa]`.
//!
//! Invariants
//! - each text has a result: a text of another form is a summary and nothing else;
//! - a line that is cut is not longer than the named limits, and has no control characters (T20);
//! - a line that is only split is a view into at most [`LINE_BYTES_MAX`] of its message.

use std::collections::BTreeMap;

use crate::words;

/// Maximum length of a line that is parsed, in bytes. The rest of a longer line is ignored.
pub const LINE_BYTES_MAX: usize = 4 << 10;
/// Maximum length of a summary, in characters.
pub const SUMMARY_CHARACTERS_MAX: usize = 1_024;
/// Maximum length of the path of a binary, in characters.
pub const BINARY_CHARACTERS_MAX: usize = 1_024;
/// Maximum number of fields of a line. The others are ignored.
pub const FIELDS_MAX: usize = 32;
/// Maximum length of the key and of the value of a field, in characters.
pub const FIELD_CHARACTERS_MAX: usize = 256;

words! {
    /// Class of a security event.
    pub enum Class {
        /// Network activity.
        Net = "NET",
        /// An HTTP request.
        Http = "HTTP",
        /// An SSH connection.
        Ssh = "SSH",
        /// A process.
        Proc = "PROC",
        /// A finding of a detection.
        Finding = "FINDING",
        /// A change of the configuration.
        Config = "CONFIG",
        /// The sandbox itself.
        Lifecycle = "LIFECYCLE",
        /// Anything else.
        Event = "EVENT",
    }
}

words! {
    /// Severity of a security event, the least severe first.
    pub enum Severity {
        /// Informational.
        Info = "INFO",
        /// Low.
        Low = "LOW",
        /// Medium.
        Med = "MED",
        /// High.
        High = "HIGH",
        /// Critical.
        Crit = "CRIT",
        /// Fatal.
        Fatal = "FATAL",
    }
}

words! {
    /// Disposition of an action.
    pub enum Disposition {
        /// It was allowed.
        Allowed = "ALLOWED",
        /// It was denied.
        Denied = "DENIED",
        /// It was blocked.
        Blocked = "BLOCKED",
    }
}

/// A parsed line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OcsfLine {
    /// Class; `None` if the line has none, or an unknown one.
    pub class: Option<Class>,
    /// Activity, such as `OPEN`.
    pub activity: Option<String>,
    /// Severity; `None` if the line has none, or an unknown one.
    pub severity: Option<Severity>,
    /// Disposition of the action.
    pub disposition: Option<Disposition>,
    /// The text.
    pub summary: String,
    /// The fields in the last brackets.
    pub fields: BTreeMap<String, String>,
    /// Absolute path of the program.
    pub binary: Option<String>,
}

/// Returns whether a log line is a security event.
#[must_use]
pub fn is_ocsf(level: &str, target: &str) -> bool {
    level.eq_ignore_ascii_case("ocsf") || target.eq_ignore_ascii_case("ocsf")
}

/// A line that is split but not cut: a text that is not stored cannot hide behind a longer one.
#[derive(Debug, Default)]
pub struct SplitLine<'a> {
    /// Class; `None` if the line has none, or an unknown one.
    pub class: Option<Class>,
    /// Activity.
    activity: Option<&'a str>,
    /// Severity; `None` if the line has none, or an unknown one.
    pub severity: Option<Severity>,
    /// What was done.
    pub disposition: Option<Disposition>,
    /// The text.
    pub summary: &'a str,
    /// What is between the last brackets.
    bracketed: &'a str,
    /// Absolute path of the program in the text.
    binary: Option<&'a str>,
}

impl<'a> SplitLine<'a> {
    /// Returns the keys and values of the fields, in the order of the line. A key can occur again. Words without a
    /// colon are ignored.
    pub fn fields(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.bracketed.split_whitespace().filter_map(|word| word.split_once(':'))
    }

    /// Returns the line within the named limits.
    #[must_use]
    pub fn cut(&self) -> OcsfLine {
        let short = |text: &str| cut(text, FIELD_CHARACTERS_MAX);
        let kept = self.fields().take(FIELDS_MAX);
        let fields: BTreeMap<String, String> =
            kept.map(|(key, value)| (short(key), short(value))).collect();
        let binary = self.binary.map(|path| cut(path, BINARY_CHARACTERS_MAX));
        let binary =
            binary.or_else(|| fields.get("binary").filter(|path| path.starts_with('/')).cloned());
        OcsfLine {
            class: self.class,
            activity: self.activity.map(short),
            severity: self.severity,
            disposition: self.disposition,
            summary: cut(self.summary, SUMMARY_CHARACTERS_MAX),
            fields,
            binary,
        }
    }
}

/// Parses the message of a security event, within the named limits.
#[must_use]
pub fn parse(message: &str) -> OcsfLine {
    split(&beginning(message)).cut()
}

/// Returns the part of a message that is parsed, at most [`LINE_BYTES_MAX`] of it, without control characters.
#[must_use]
pub fn beginning(message: &str) -> String {
    without_controls(&message[..message.floor_char_boundary(LINE_BYTES_MAX)])
}

/// Splits what [`beginning`] returns of a message.
#[must_use]
pub fn split(text: &str) -> SplitLine<'_> {
    let text = text.trim();
    let Some((class, suffix, rest)) = split_class(text) else {
        return SplitLine { summary: text, ..SplitLine::default() };
    };
    let (severity, rest) = split_severity(rest);
    if class == Some(Class::Event) {
        return SplitLine { class, severity, summary: rest, ..SplitLine::default() };
    }
    let (rest, bracketed) = split_fields(rest);
    let of_suffix = suffix.and_then(Disposition::from_word);
    let (mut activity, mut disposition, mut summary) = (None, None, rest);
    if class == Some(Class::Finding) && of_suffix.is_some() {
        disposition = of_suffix;
    } else {
        activity = suffix;
        let (first, after) = split_word(rest);
        if let Some(first) = Disposition::from_word(first) {
            (disposition, summary) = (Some(first), after);
        }
    }
    let binary = binary_of(summary);
    SplitLine { class, activity, severity, disposition, summary, bracketed, binary }
}

/// Splits off the class and its suffix. Returns `None` if the text does not begin with a word in upper case. The class
/// is `None` if it is not known.
fn split_class(text: &str) -> Option<(Option<Class>, Option<&str>, &str)> {
    let (word, rest) = split_word(text);
    let (class, suffix) = match word.split_once(':') {
        Some((class, suffix)) => (class, Some(suffix)),
        None => (word, None),
    };
    let is_upper = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_uppercase())
            && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    };
    (is_upper(class) && suffix.is_none_or(is_upper))
        .then(|| (Class::from_word(class), suffix, rest))
}

/// Splits off a word in brackets, which is dropped if it is not a severity.
fn split_severity(text: &str) -> (Option<Severity>, &str) {
    let inner = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let Some((word, rest)) = inner else { return (None, text) };
    let is_word = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_word { (Severity::from_word(word), rest.trim_start()) } else { (None, text) }
}

/// Splits off what is in brackets at the end.
fn split_fields(text: &str) -> (&str, &str) {
    let inner = text.strip_suffix(']').and_then(|rest| rest.rsplit_once('['));
    match inner {
        Some((rest, inner)) if !inner.contains(']') => (rest.trim_end(), inner),
        Some(_) | None => (text, ""),
    }
}

/// Returns the first absolute path that a process id in parentheses follows, also behind a key such as `exe=`.
fn binary_of(summary: &str) -> Option<&str> {
    summary.split_whitespace().find_map(|word| {
        let (before, rest) = word.split_once('(')?;
        let path = before.find('/').map(|at| &before[at..]).filter(|_| !before.contains("://"))?;
        let (pid, _) = rest.split_once(')')?;
        let is_pid = !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
        is_pid.then_some(path)
    })
}

/// Splits off the first word.
fn split_word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
}

fn cut(text: &str, characters_max: usize) -> String {
    text.chars().take(characters_max).collect()
}

/// Replaces control characters, and those that change the direction of text, which a terminal, a chat or a page could
/// interpret. Other characters that people do not see stay: they would split a name into words.
fn without_controls(text: &str) -> String {
    let is_hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars().map(|c| if is_hidden(c) { ' ' } else { c }).collect()
}

#[cfg(test)]
#[path = "ocsf_tests.rs"]
mod tests;
