//! The shorthand in which sandboxes log security events (OCSF), parsed from untrusted text.
//!
//! A line is `CLASS[:SUFFIX] [SEVERITY] text [key:value key:value]`, for example `NET:OPEN [MED] DENIED
//! /usr/bin/curl(58) -> 203.0.113.7:443/tcp [policy:- engine:opa]`.
//!
//! Invariants
//! - each text has a result: a text of another form is a summary and nothing else;
//! - what is returned is not longer than the named limits and has no control characters (T20).

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
    /// What was done about an action.
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
    /// What was done.
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

/// Parses the message of a security event.
#[must_use]
pub fn parse(message: &str) -> OcsfLine {
    let text = without_controls(cut_bytes(message, LINE_BYTES_MAX));
    let text = text.trim();
    let Some((class, suffix, rest)) = split_class(text) else {
        let summary = cut(text, SUMMARY_CHARACTERS_MAX);
        return OcsfLine { summary, ..OcsfLine::default() };
    };
    let (severity, rest) = split_severity(rest);
    if class == Some(Class::Event) {
        let summary = cut(rest, SUMMARY_CHARACTERS_MAX);
        return OcsfLine { class, severity, summary, ..OcsfLine::default() };
    }
    let (rest, fields) = split_fields(rest);
    let of_suffix = suffix.and_then(Disposition::from_word);
    let (mut activity, mut disposition, mut summary) = (None, None, rest);
    if class == Some(Class::Finding) && of_suffix.is_some() {
        disposition = of_suffix;
    } else {
        activity = suffix.map(|suffix| cut(suffix, FIELD_CHARACTERS_MAX));
        let (first, after) = split_word(rest);
        if let Some(first) = Disposition::from_word(first) {
            (disposition, summary) = (Some(first), after);
        }
    }
    let binary = binary_of(summary).or_else(|| {
        fields.get("binary").filter(|path| path.starts_with('/')).map(|path| (*path).to_owned())
    });
    let summary = cut(summary, SUMMARY_CHARACTERS_MAX);
    OcsfLine { class, activity, severity, disposition, summary, fields, binary }
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

/// Splits off the fields in brackets at the end. Words without a colon are ignored.
fn split_fields(text: &str) -> (&str, BTreeMap<String, String>) {
    let inner = text.strip_suffix(']').and_then(|rest| rest.rsplit_once('['));
    let Some((rest, inner)) = inner else { return (text, BTreeMap::new()) };
    if inner.contains(']') {
        return (text, BTreeMap::new());
    }
    let pairs = inner.split_whitespace().filter_map(|word| word.split_once(':'));
    let short = |text: &str| cut(text, FIELD_CHARACTERS_MAX);
    let fields = pairs.take(FIELDS_MAX).map(|(key, value)| (short(key), short(value))).collect();
    (rest.trim_end(), fields)
}

/// Returns the first absolute path that a process id in parentheses follows.
fn binary_of(summary: &str) -> Option<String> {
    let path = summary.split_whitespace().find_map(|word| {
        let (path, rest) = word.split_once('(')?;
        let (pid, _) = rest.split_once(')')?;
        let is_pid = !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
        (is_pid && path.starts_with('/')).then_some(path)
    })?;
    Some(cut(path, BINARY_CHARACTERS_MAX))
}

/// Splits off the first word.
fn split_word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
}

/// Returns the beginning of a text, at most `bytes_max` bytes of whole characters.
fn cut_bytes(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

fn cut(text: &str, characters_max: usize) -> String {
    text.chars().take(characters_max).collect()
}

/// Replaces control characters, and those that change the direction of text, which a terminal, a chat or a page could
/// interpret.
fn without_controls(text: &str) -> String {
    let is_hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars().map(|c| if is_hidden(c) { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_line_has_a_class_a_severity_a_disposition_a_binary_and_fields() {
        let line =
            "NET:OPEN [MED] DENIED /usr/bin/curl(58) -> 203.0.113.7:443/tcp [policy:- engine:opa]";
        assert_eq!(
            parse(line),
            OcsfLine {
                class: Some(Class::Net),
                activity: Some("OPEN".to_owned()),
                severity: Some(Severity::Med),
                disposition: Some(Disposition::Denied),
                summary: "/usr/bin/curl(58) -> 203.0.113.7:443/tcp".to_owned(),
                fields: fields(&[("policy", "-"), ("engine", "opa")]),
                binary: Some("/usr/bin/curl".to_owned()),
            }
        );
    }

    #[test]
    fn the_class_is_null_for_other_words_and_parsing_continues() {
        for (line, class) in [
            ("NET:OPEN [LOW] x", Some(Class::Net)),
            ("HTTP:GET [LOW] x", Some(Class::Http)),
            ("SSH:OPEN [LOW] x", Some(Class::Ssh)),
            ("PROC:LAUNCH [LOW] x", Some(Class::Proc)),
            ("FINDING:BLOCKED [LOW] x", Some(Class::Finding)),
            ("CONFIG:LOADED [LOW] x", Some(Class::Config)),
            ("LIFECYCLE:START [LOW] x", Some(Class::Lifecycle)),
            ("EVENT [LOW] x", Some(Class::Event)),
            ("OTHER:THING [LOW] x", None),
        ] {
            let parsed = parse(line);
            assert_eq!((parsed.class, parsed.severity), (class, Some(Severity::Low)), "{line}");
            assert_eq!(parsed.summary, "x", "{line}");
        }
    }

    #[test]
    fn the_severity_is_optional_and_other_words_in_brackets_are_dropped() {
        for severity in Severity::ALL {
            assert_eq!(parse(&format!("PROC:LAUNCH [{severity}] x")).severity, Some(*severity));
        }
        for line in ["PROC:LAUNCH x", "PROC:LAUNCH [ODD] x", "PROC:LAUNCH [high] x"] {
            let parsed = parse(line);
            assert_eq!((parsed.severity, parsed.summary.as_str()), (None, "x"), "{line}");
        }
        let only_fields = parse("PROC:LAUNCH [a:b c]");
        assert_eq!((only_fields.severity, only_fields.summary.as_str()), (None, ""));
        assert_eq!(only_fields.fields, fields(&[("a", "b")]));
    }

    #[test]
    fn fields_are_split_at_their_first_colon_and_words_without_one_are_ignored() {
        let parsed = parse("NET:OPEN [LOW] a [b] [dst:10.0.0.1:53 odd k:]");
        assert_eq!(parsed.fields, fields(&[("dst", "10.0.0.1:53"), ("k", "")]));
        assert_eq!(parsed.summary, "a [b]");
        assert_eq!(parse("NET:OPEN [LOW] a ]").fields, fields(&[]));
        assert_eq!(parse("NET:OPEN [LOW] [a:b]]").summary, "[a:b]]");
    }

    #[test]
    fn the_suffix_of_a_finding_is_its_disposition_and_that_of_others_their_activity() {
        for word in Disposition::ALL {
            let finding = parse(&format!("FINDING:{word} [HIGH] x"));
            assert_eq!((finding.disposition, finding.activity), (Some(*word), None));
            let other = parse(&format!("PROC:{word} [HIGH] x"));
            assert_eq!(other.activity.as_deref(), Some(word.as_str()));
            assert_eq!(other.disposition, None);
            let leading = parse(&format!("HTTP:GET [LOW] {word} https://a/"));
            assert_eq!(leading.disposition, Some(*word));
            assert_eq!(leading.summary, "https://a/");
        }
        let finding = parse("FINDING:CREATE [HIGH] BLOCKED x");
        assert_eq!(finding.activity.as_deref(), Some("CREATE"));
        assert_eq!(
            (finding.disposition, finding.summary.as_str()),
            (Some(Disposition::Blocked), "x")
        );
    }

    #[test]
    fn an_event_has_only_a_summary() {
        let parsed = parse("EVENT:X [LOW] DENIED /bin/sh(1) [a:b]");
        let summary = "DENIED /bin/sh(1) [a:b]".to_owned();
        let (class, severity) = (Some(Class::Event), Some(Severity::Low));
        assert_eq!(parsed, OcsfLine { class, severity, summary, ..OcsfLine::default() });
    }

    #[test]
    fn the_binary_is_a_path_with_a_process_id_else_an_absolute_field() {
        for (line, binary) in [
            ("PROC:LAUNCH [LOW] /bin/sh(7) by /bin/bash(1)", Some("/bin/sh")),
            ("PROC:LAUNCH [LOW] sh(7) /bin/bash(1)", Some("/bin/bash")),
            ("PROC:LAUNCH [LOW] /bin/sh(x) [binary:/usr/bin/id]", Some("/usr/bin/id")),
            ("PROC:LAUNCH [LOW] x [binary:id]", None),
            ("PROC:LAUNCH [LOW] /bin/sh", None),
        ] {
            assert_eq!(parse(line).binary.as_deref(), binary, "{line}");
        }
    }

    #[test]
    fn a_message_of_another_form_is_its_summary() {
        assert_eq!(parse(""), OcsfLine::default());
        assert_eq!(parse("  "), OcsfLine::default());
        for line in ["gateway approved draft chunk 1", "net:OPEN [LOW] x", "NET:open x", ": x"] {
            let summary = line.to_owned();
            assert_eq!(parse(line), OcsfLine { summary, ..OcsfLine::default() });
        }
    }

    #[test]
    fn level_or_target_mark_a_security_event_in_any_case() {
        assert!(is_ocsf("OCSF", "") && is_ocsf("info", "Ocsf") && !is_ocsf("INFO", "net"));
    }

    #[test]
    fn t20_what_a_line_contains_is_bounded_and_without_control_characters() {
        let parsed = parse("NET:OPEN [LOW] a\u{1b}[31m\u{202e}b\r\n [k:v]");
        assert_eq!(parsed.summary, "a [31m b");
        let long = format!("NET:OPEN [LOW] {} [k:v]", "é".repeat(LINE_BYTES_MAX));
        let parsed = parse(&long);
        assert_eq!(parsed.summary.chars().count(), SUMMARY_CHARACTERS_MAX);
        assert!(parsed.fields.is_empty(), "the end of the line was cut off");
        let many: Vec<String> = (0..=FIELDS_MAX).map(|n| format!("k{n:02}:{n}")).collect();
        assert_eq!(
            parse(&format!("NET:OPEN [LOW] x [{}]", many.join(" "))).fields.len(),
            FIELDS_MAX
        );
    }

    /// Returns pseudo-random numbers, the same in each run.
    fn numbers() -> impl FnMut(usize) -> usize {
        let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
        move |end| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % end as u64).unwrap()
        }
    }

    #[test]
    fn t20_any_text_has_a_bounded_result() {
        let parts = [
            "NET",
            "FINDING",
            "EVENT",
            "PROC",
            "X",
            ":",
            ":OPEN",
            ":BLOCKED",
            " ",
            "  ",
            "[",
            "]",
            "[HIGH]",
            "[a:b",
            "c:d]",
            "(",
            ")",
            "(1)",
            "/bin/sh",
            "/bin/sh(12)",
            "DENIED",
            "ALLOWED ",
            "é",
            "\u{0}",
            "\u{1b}[2J",
            "\u{202e}",
            "\n",
            "🦀",
            "bypass",
            ":::",
            "[[",
            "]]",
        ];
        let mut next = numbers();
        for _ in 0..5_000 {
            let count = next(24);
            let mut text: String = (0..count).map(|_| parts[next(parts.len())]).collect();
            if next(50) == 0 {
                text = text.repeat(200);
            }
            let line = parse(&text);
            assert!(line.summary.chars().count() <= SUMMARY_CHARACTERS_MAX, "{text:?}");
            assert!(line.fields.len() <= FIELDS_MAX, "{text:?}");
            let texts = line.fields.iter().flat_map(|(key, value)| [key, value]);
            let texts = texts.chain(&line.activity).chain(&line.binary).chain([&line.summary]);
            for part in texts {
                assert!(part.chars().count() <= SUMMARY_CHARACTERS_MAX, "{text:?}");
                assert!(!part.contains(char::is_control) && !part.contains('\u{202e}'), "{text:?}");
            }
            assert!(line.binary.is_none_or(|binary| binary.starts_with('/')), "{text:?}");
            // What is read depends on the text alone.
            assert_eq!(parse(&text).summary, line.summary);
        }
    }
}
