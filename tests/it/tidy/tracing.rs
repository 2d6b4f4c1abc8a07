//! Code in the arguments of tracing macros: the arguments are evaluated only if the level is enabled.

use super::{Faults, SourceFile, rust_files, without_comment};

/// The macros whose arguments are not evaluated if their level is disabled.
const MACROS: [&str; 12] = [
    "trace!",
    "debug!",
    "info!",
    "warn!",
    "error!",
    "event!",
    "span!",
    "trace_span!",
    "debug_span!",
    "info_span!",
    "warn_span!",
    "error_span!",
];

/// Code that changes something, waits or returns.
const EFFECTS: [&str; 25] = [
    ".await",
    ")?",
    "]?",
    "return ",
    "break",
    ".cancel(",
    ".clear(",
    ".extend(",
    ".fetch_",
    ".get_or_insert",
    ".increment(",
    ".insert(",
    ".next(",
    ".pop",
    ".push",
    ".recv(",
    ".remove(",
    ".replace(",
    ".send(",
    ".set(",
    ".store(",
    ".swap(",
    ".take(",
    ".try_recv(",
    ".write(",
];

const RULE: &str = "the arguments of a tracing macro are evaluated only where its level is logged: do it before, in a statement of its own";

/// A macro call: the line on which it begins, and its arguments without string literals and comments.
struct Call {
    line: usize,
    arguments: String,
}

/// Returns every call of one of [`MACROS`].
fn calls(file: &SourceFile) -> Vec<Call> {
    let lines: Vec<String> =
        file.lines().map(|(_, line)| without_texts(without_comment(line))).collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        for (start, name) in starts(line) {
            let rest = &line[start + name.len()..];
            let following = lines[at + 1..].iter().map(String::as_str);
            let arguments = arguments(std::iter::once(rest).chain(following));
            found.push(Call { line: at + 1, arguments });
        }
    }
    found
}

fn starts(line: &str) -> impl Iterator<Item = (usize, &'static str)> {
    MACROS.into_iter().flat_map(move |name| {
        line.match_indices(name).filter_map(move |(at, _)| {
            let within = line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            (!within).then_some((at, name))
        })
    })
}

/// Returns the text up to the parenthesis that closes the first one.
fn arguments<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let (mut depth, mut all) = (0_u32, String::new());
    for line in lines {
        for c in line.chars() {
            match c {
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            all.push(c);
            if depth == 0 {
                return all;
            }
        }
        all.push('\n');
    }
    all
}

/// Empties the string literals of a line. Literals over several lines contain none of [`MACROS`] in this code base.
fn without_texts(line: &str) -> String {
    let (mut all, mut in_text, mut escaped) = (String::new(), false, false);
    for c in line.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_text => escaped = true,
            '"' => {
                in_text = !in_text;
                all.push(c);
            }
            _ if in_text => {}
            _ => all.push(c),
        }
    }
    all
}

fn effect(call: &Call) -> Option<&'static str> {
    EFFECTS.into_iter().find(|effect| call.arguments.contains(effect))
}

#[test]
fn tracing_macros_have_no_side_effects() {
    let mut faults = Faults::default();
    let mut seen = 0;
    for file in rust_files(&["src", "crates", "benches"]) {
        for call in calls(&file) {
            seen += 1;
            if let Some(effect) = effect(&call) {
                faults.add(&file.path, call.line, &format!("`{effect}`: {RULE}"));
            }
        }
    }
    assert!(seen >= 80, "the macros are found: {seen}");
    faults.assert_none();
}

#[test]
fn the_check_finds_a_side_effect_on_any_line_of_a_macro() {
    let table = [
        ("info!(signal = signals.next(&app).await, \"stopping\");", Some(".await")),
        ("warn!(\n    error = %why,\n    \"lost {}\",\n    read(1).await,\n);", Some(".await")),
        ("tracing::debug!(count = seen.fetch_add(1, Relaxed));", Some(".fetch_")),
        ("let span = info_span!(\"call\", id = id()?);", Some(")?")),
        ("info!(\"it waits.await (\", signal);\nnext.await;", None),
        ("error!(?error, %signal, \"no\"); // .await", None),
        ("info!(\"stopped\"),\nsignal = signals.next(&app).await => warn!(signal),", None),
    ];
    for (text, expected) in table {
        let file = SourceFile { path: "src/a.rs".to_owned(), text: text.to_owned() };
        let found = calls(&file);
        assert!(!found.is_empty(), "{text}");
        assert_eq!(found.iter().find_map(effect), expected, "{text}");
    }
    assert!(
        calls(&SourceFile { path: String::new(), text: "my_info!(a.await)".to_owned() }).is_empty()
    );
}
