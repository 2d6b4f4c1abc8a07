//! Tests of the grammar of lines.

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
    assert_eq!((finding.disposition, finding.summary.as_str()), (Some(Disposition::Blocked), "x"));
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
        ("PROC:LAUNCH [LOW] exe=/bin/sh(7)", Some("/bin/sh")),
        ("PROC:LAUNCH [LOW] https://a.example/x(7)", None),
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
    assert_eq!(parse(&format!("NET:OPEN [LOW] x [{}]", many.join(" "))).fields.len(), FIELDS_MAX);
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
