//! The comment of each RPC names the role that it needs, and its errors as `CODE (REASON)` with the code of the reason.

use std::collections::BTreeMap;

use shoreguard::access::policy::{AllowedCallers, METHODS, Method, ScopeKind, find_method};

use super::{Faults, read_file, read_files};

const FOLDER: &str = "proto/shoreguard/v1";
const REASONS: &str = "proto/shoreguard/v1/common.proto";
const REASON_PREFIX: &str = "ERROR_REASON_";
/// Minimum length of a gRPC code or a reason. A shorter word in capital letters is something else.
const WORD_BYTES_MIN: usize = 4;

/// An RPC with its comment.
struct Rpc {
    file: String,
    line: usize,
    path: String,
    comment: String,
}

fn rpcs() -> Vec<Rpc> {
    let mut found = Vec::new();
    for file in read_files(&[FOLDER]) {
        let (mut service, mut comment) = ("", Vec::new());
        for (line, text) in file.lines() {
            let text = text.trim();
            if let Some(text) = text.strip_prefix("//") {
                comment.push(text.trim());
                continue;
            }
            if let Some(rest) = text.strip_prefix("service ") {
                service = rest.trim_end_matches(" {");
            } else if let Some(rest) = text.strip_prefix("rpc ") {
                let name = rest.split('(').next().unwrap();
                found.push(Rpc {
                    file: file.path.clone(),
                    line,
                    path: format!("/shoreguard.v1.{service}/{name}"),
                    comment: comment.join("\n"),
                });
            }
            comment.clear();
        }
    }
    found
}

/// Returns how the role of a method must begin in its comment.
fn role(method: &Method) -> String {
    match method.access {
        AllowedCallers::Public => "none".to_owned(),
        AllowedCallers::Authenticated => "any caller".to_owned(),
        AllowedCallers::User => "any user".to_owned(),
        AllowedCallers::Role(role) if method.scope == ScopeKind::Global => format!("global {role}"),
        AllowedCallers::Role(role) => format!("{role} on "),
    }
}

/// Returns the gRPC codes of each reason, as the comment of its value names them. A reason without a code has that of
/// the gateway.
fn codes() -> BTreeMap<String, Vec<String>> {
    let (file, mut found) = (read_file(REASONS), BTreeMap::new());
    let mut comment = String::new();
    for (_, text) in file.lines() {
        let text = text.trim();
        if let Some(text) = text.strip_prefix("//") {
            comment.push_str(text);
            continue;
        }
        if let Some(rest) = text.strip_prefix(REASON_PREFIX) {
            let name = rest.split(' ').next().unwrap().to_owned();
            let quoted = comment.split('`').skip(1).step_by(2);
            found.insert(name, quoted.map(str::to_owned).collect());
        }
        comment.clear();
    }
    found
}

/// Returns the errors that a comment names: each code with each of its reasons.
fn errors(comment: &str) -> Vec<(String, String)> {
    let is_word = |word: &&str| {
        word.len() >= WORD_BYTES_MIN && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
    };
    let (text, mut found) = (comment.replace('\n', " "), Vec::new());
    for (at, _) in text.match_indices(" (") {
        let code = text[..at].rsplit(' ').next().filter(is_word);
        let reasons = text[at + 2..].split(')').next().unwrap_or_default();
        for reason in reasons.split(", ").filter(is_word) {
            found.extend(code.map(|code| (code.to_owned(), reason.to_owned())));
        }
    }
    found
}

#[test]
fn the_comment_of_every_rpc_names_its_role_and_its_errors() {
    let (codes, rpcs) = (codes(), rpcs());
    assert_eq!(rpcs.len(), METHODS.len(), "each rpc of the table has a comment");
    let mut faults = Faults::default();
    for rpc in &rpcs {
        let role = role(find_method(&rpc.path).unwrap());
        let named = rpc.comment.lines().find_map(|line| line.strip_prefix("Role: "));
        if !named.is_some_and(|named| named.starts_with(&role)) {
            faults.add(&rpc.file, rpc.line, &format!("the comment needs a line `Role: {role}...`"));
        }
        if rpc.comment.contains("(reason") {
            faults.add(&rpc.file, rpc.line, "an error is written as `CODE (REASON)`");
        }
        for (code, reason) in errors(&rpc.comment) {
            let is_right = codes.get(&reason).is_some_and(|of| of.is_empty() || of.contains(&code));
            if !is_right {
                let why = format!("`{code} ({reason})`: {REASONS} has no such reason or code");
                faults.add(&rpc.file, rpc.line, &why);
            }
        }
    }
    faults.assert_none();
}

#[test]
fn the_codes_and_reasons_of_a_comment_are_found() {
    let comment = "Role: admin.\nErrors: ABORTED\n(CONCURRENT_CHANGE, with the `etag`) if it is stale, \
                   FAILED_PRECONDITION (POLICY_PINNED, GOVERNED); an address (IPv6) or (INVALID_FIELD).";
    let found = errors(comment);
    let found: Vec<(&str, &str)> = found.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let expected = [
        ("ABORTED", "CONCURRENT_CHANGE"),
        ("FAILED_PRECONDITION", "POLICY_PINNED"),
        ("FAILED_PRECONDITION", "GOVERNED"),
    ];
    assert_eq!(found, expected);
    assert_eq!(codes()["CONCURRENT_CHANGE"][0], "ABORTED");
}
