//! Replaces what differs from run to run: times, ids, ports, secrets, and the space that aligns them.

use crate::support::limit::start_time_limit;

/// Minimum length of a word with a digit that is taken for a token or digest.
const TOKEN_BYTES_MIN: usize = 20;
/// Beginnings of secrets, which need not contain a digit.
const SECRETS: [&str; 6] = ["sg_", "sgd_", "sgi_", "sgr_", "sgs_", "whsec_"];

/// Returns the text with placeholders.
pub(super) fn scrub(text: &str) -> String {
    text.lines().filter(|line| !depends_on_jobs(line)).map(|line| scrub_line(line) + "\n").collect()
}

/// Whether a line is there only after a background job has run, or has a number that a job has assigned: the
/// description of a sandbox has an etag once it is stored, keys have a time of last use once that is stored, events have
/// numbers, and the first round of probes may come before or after a gateway is registered.
fn depends_on_jobs(line: &str) -> bool {
    let start = line.trim_start();
    let keys = ["etag", "last_used_time", "event_sequence", "probe_count"];
    keys.iter().any(|key| {
        start.strip_prefix('"').is_some_and(|json| json.starts_with(&format!("{key}\"")))
            || start.starts_with(&key.replace('_', " ").to_uppercase())
    })
}

fn scrub_line(line: &str) -> String {
    if line.starts_with('$') {
        return line.to_owned();
    }
    let start = line.trim_start();
    if start.starts_with("\"port\"") || start.starts_with("PORT") {
        return "<port>".to_owned();
    }
    let is_end = |c: char| c.is_whitespace() || "\",'`()[]{}=".contains(c);
    let mut shown = String::new();
    let mut rest = line;
    while !rest.is_empty() {
        let end = rest.find(is_end).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        // A duration is shown in milliseconds or, on a busy machine, in seconds.
        let millis = after.strip_prefix(" ms").filter(|_| word.parse::<f64>().is_ok());
        // In JSON that is a string of other JSON, a backslash precedes the quote after a word.
        let plain = word.trim_end_matches('\\');
        shown.push_str(if millis.is_some() { "<span>" } else { placeholder(plain) });
        shown.push_str(&word[plain.len()..]);
        let after = millis.unwrap_or(after);
        let next = after.find(|c| !is_end(c)).unwrap_or(after.len());
        // Space that aligns columns depends on the words before it. The indent of JSON does not.
        let between = &after[..next];
        let aligns = !shown.is_empty() && between.trim().is_empty() && between.len() > 2;
        shown.push_str(if aligns && !line.starts_with(' ') { "  " } else { between });
        rest = &after[next..];
    }
    shown
}

fn placeholder(word: &str) -> &str {
    let bytes = word.as_bytes();
    let is_time = bytes.len() >= TOKEN_BYTES_MIN && bytes[4] == b'-' && word.ends_with('Z');
    let has_digit = bytes.iter().any(u8::is_ascii_digit);
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_-+/:.".contains(c);
    let is_token = has_digit && bytes.len() >= TOKEN_BYTES_MIN && word.chars().all(is_word);
    if is_time && word.contains('T') {
        "<time>"
    } else if word.starts_with("127.0.0.1:") && word != "127.0.0.1:1" {
        "<address>"
    } else if is_token || SECRETS.iter().any(|start| word.starts_with(start)) || is_id(word) {
        "<token>"
    } else if is_span(word) {
        "<span>"
    } else {
        word
    }
}

fn is_id(word: &str) -> bool {
    let is_dash = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    word.len() == 36
        && word
            .bytes()
            .enumerate()
            .all(|(at, byte)| if is_dash(at) { byte == b'-' } else { byte.is_ascii_hexdigit() })
}

/// Whether a word is an age or duration: `3s`, `0.5s`, `14m`.
fn is_span(word: &str) -> bool {
    let number = word.strip_suffix(['s', 'm', 'h', 'd']);
    number.is_some_and(|number| number.parse::<f64>().is_ok())
}

#[test]
fn what_differs_is_replaced() {
    let _limit = start_time_limit();
    for (line, shown) in [
        ("NAME     SEEN   AT", "NAME  SEEN  AT"),
        ("edge     13s    2026-12-01T08:00:00.000001Z", "edge  <span>  <time>"),
        ("  \"latency\": \"0.000312s\",", "  \"latency\": \"<span>\","),
        ("  \"endpoint\": \"127.0.0.1:40123\",", "  \"endpoint\": \"<address>\","),
        ("id  01928374-5566-7788-99aa-bbccddeeff00", "id  <token>"),
        ("key  sg_abc", "key  <token>"),
        ("P50  0.3 ms", "P50  <span>"),
        ("P50  0.3 ms  P90    1.2s", "P50  <span>  P90  <span>"),
        ("token  sgr_abc", "token  <token>"),
        (r#"{"a":"{\"at\":\"2026-12-01T08:00:00Z\"}"}"#, r#"{"a":"{\"at\":\"<time>\"}"}"#),
        ("  \"port\": 40123,", "<port>"),
        ("$ gateway get edge  # ok", "$ gateway get edge  # ok"),
    ] {
        assert_eq!(scrub_line(line), shown);
    }
}
