//! Rules for the code: which names may be used where.

use std::collections::BTreeSet;

use super::{Faults, contains_word, read_file, rust_files, uses_word, without_comment};

/// Words that only some files may contain.
struct Ban {
    /// Words in code, matched if no letter, digit or underscore precedes them.
    words: &'static [&'static str],
    /// Folders (`src/db/`), files, or `*` and the end of a path.
    allowed: &'static [&'static str],
    /// Single files, each with a reason.
    exempt: &'static [(&'static str, &'static str)],
    /// The rule, and how to follow it.
    rule: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        words: &["tonic::", "pb::"],
        allowed: &[
            "src/rpc/",
            "src/server/",
            "src/status.rs",
            "src/upstream/",
            "src/proxy/",
            "src/openshell/",
            "src/cli/",
            "*/rpc.rs",
            "*/messages.rs",
        ],
        exempt: &[
            ("src/digest/mod.rs", "finds the fields marked secret in the descriptors"),
            ("src/telemetry/redact.rs", "its test reads the descriptors"),
            ("src/telemetry/traces.rs", "a span ends with the code of its call"),
        ],
        rule: "only the edges know gRPC: translate in the resource's rpc.rs, and give the rest a type of ours",
    },
    Ban {
        words: &["RunQueryDsl", "insert_into", "on_conn!", "sql_query"],
        allowed: &["src/db/", "*/store.rs"],
        exempt: &[
            ("src/audit/batch.rs", "one statement for entries of many calls"),
            ("src/audit/upsert.rs", "the same, for entries that may be stored already"),
        ],
        rule: "queries are in store.rs: one function per query, `&mut Conn` first",
    },
    Ban {
        words: &[
            "Status::new(",
            "Status::with_",
            "Status::cancelled(",
            "Status::unknown(",
            "Status::invalid_argument(",
            "Status::deadline_exceeded(",
            "Status::not_found(",
            "Status::already_exists(",
            "Status::permission_denied(",
            "Status::resource_exhausted(",
            "Status::failed_precondition(",
            "Status::aborted(",
            "Status::out_of_range(",
            "Status::unimplemented(",
            "Status::internal(",
            "Status::unavailable(",
            "Status::data_loss(",
            "Status::unauthenticated(",
        ],
        allowed: &["src/status.rs", "src/cli/"],
        exempt: &[
            ("src/upstream/errors.rs", "its test plays the answer of a gateway"),
            ("src/upstream/headers_tests.rs", "plays the answer of a gateway"),
        ],
        rule: "only status.rs makes a Status: return an `Error`",
    },
    Ban {
        words: &[concat!("#[ign", "ore"), concat!("#[should_", "panic")],
        allowed: &[],
        exempt: &[],
        rule: "a test runs and says what it expects: assert the error, or delete the test",
    },
    Ban {
        words: &[
            "log_change(",
            "outbox::enqueue(",
            "feed.notify_committed()",
            "mark_unconfirmed()",
        ],
        allowed: &["src/outbox/", "src/ctx/transaction.rs", "src/access/snapshot/"],
        exempt: &[],
        rule: "what follows a commit happens in one place: change state by `ctx.transaction`, with `tx.emit` and `tx.log_access_change`",
    },
];

/// Parts of `rpc` that resources may use, and in which files.
const RPC_USE: &[(&str, &[&str])] = &[
    ("call::", &["rpc.rs"]),
    ("streams::", &["rpc.rs"]),
    ("wire", &["rpc.rs", "messages.rs"]),
    ("idempotency", &["rpc.rs", "worker.rs"]),
    ("{idempotency, wire}", &["rpc.rs"]),
];

/// Files that use another resource's rows directly, not through its domain.
const STORE_USE: &[(&str, &str)] = &[
    ("src/resources/auth/domain.rs", "the first admin and the login read the users' own rows"),
    ("src/resources/gateways/unregister.rs", "unregistering counts the bindings that it deletes"),
];

fn may(path: &str, allowed: &[&str]) -> bool {
    allowed.iter().any(|place| match place.strip_prefix('*') {
        Some(end) => path.ends_with(end),
        None => path.starts_with(place),
    })
}

#[test]
fn banned_words_are_used_only_in_their_allowed_files() {
    let mut faults = Faults::default();
    let source = rust_files(&["src"]);
    let tests = rust_files(&["tests", "benches"]);
    for ban in BANS {
        let mut needed = BTreeSet::new();
        // A ban without allowed files also applies to tests.
        let looked_at = source.iter().chain(tests.iter().filter(|_| ban.allowed.is_empty()));
        for file in looked_at.filter(|file| !may(&file.path, ban.allowed)) {
            for (line, text) in file.lines() {
                if !ban.words.iter().any(|word| uses_word(text, word)) {
                    continue;
                }
                match ban.exempt.iter().find(|(path, _)| *path == file.path) {
                    Some((path, _)) => _ = needed.insert(*path),
                    None => faults.add(&file.path, line, ban.rule),
                }
            }
        }
        for (path, _) in ban.exempt.iter().filter(|(path, _)| !needed.contains(path)) {
            faults.add(
                path,
                1,
                "needs no exemption any more: take it out of tests/it/tidy/code.rs",
            );
        }
    }
    faults.assert_none();
}

#[test]
fn the_access_module_uses_only_the_types_of_the_database() {
    let mut faults = Faults::default();
    for file in rust_files(&["src/access"]) {
        for (line, text) in file.lines() {
            if contains_word(without_comment(text), "crate::db")
                && !without_comment(text).contains("crate::db::types")
            {
                faults.add(
                    &file.path,
                    line,
                    "the snapshot is fed, it does not fetch: hand the value in",
                );
            }
        }
    }
    faults.assert_none();
}

#[test]
fn resources_use_little_of_rpc_and_of_each_other() {
    let mut faults = Faults::default();
    let mut needed = BTreeSet::new();
    for file in rust_files(&["src/resources"]) {
        let mut parts = file.path.split('/').skip(2);
        let (own, name) = (parts.next().unwrap_or_default(), file.path.rsplit('/').next().unwrap());
        for (line, text) in file.lines() {
            let text = without_comment(text);
            if let Some((_, used)) = text.split_once("crate::rpc::") {
                let known = RPC_USE.iter().find(|(what, _)| used.starts_with(what));
                if !known.is_some_and(|(_, files)| files.contains(&name)) {
                    let rule = "only rpc.rs uses the rpc module, and of it `call` and `wire`";
                    faults.add(&file.path, line, rule);
                }
            }
            let Some((_, used)) = text.split_once("crate::resources::") else { continue };
            let (other, rest) = used.split_once("::").unwrap_or((used, ""));
            if other != own && ["store", "rpc", "worker"].iter().any(|part| rest.starts_with(part))
            {
                if let Some((path, _)) = STORE_USE.iter().find(|(path, _)| *path == file.path) {
                    needed.insert(*path);
                } else {
                    let rule = format!("use `{other}` through its domain, which keeps its rules");
                    faults.add(&file.path, line, &rule);
                }
            }
        }
    }
    for (path, _) in STORE_USE.iter().filter(|(path, _)| !needed.contains(path)) {
        faults.add(path, 1, "needs no exemption any more: take it out of tests/it/tidy/code.rs");
    }
    faults.assert_none();
}

#[test]
fn every_dependency_has_a_version() {
    let mut faults = Faults::default();
    for (line, text) in read_file("Cargo.toml").lines() {
        if text.contains("\"*\"") && !text.starts_with('[') {
            faults.add("Cargo.toml", line, "say the version that was tested");
        }
    }
    faults.assert_none();
}

/// Functions that give an integration test its time limit.
const LIMITED: &[&str] = &[
    "a_stalled_upload(",
    "block_on(",
    "block_on_within(",
    "ends_with_its_right(",
    "start_time_limit()",
    "forty_unread_streams(",
    "forty_unread_streams_of_our_own_methods(",
    "killed_in_a_hook(",
    "on_both(",
    "on_replicas(",
    "on_sqlite(",
    "race_on_two_replicas(",
    "run_on_sqlite(",
    "run(",
    "run_tuned_without_jobs(",
    "run_with(",
    "run_without_jobs(",
    "scene(",
];
/// Tests without a time limit, each with a reason.
const UNLIMITED: &[(&str, &str)] = &[
    (
        "tests/it/oidc_provider/process.rs",
        "a separate process, which ends with the process that started it",
    ),
    ("tests/it/tidy/", "reads files and waits for nothing"),
];

#[test]
fn every_test_has_a_time_limit() {
    let mut faults = Faults::default();
    let files = rust_files(&["tests/it"]);
    let exempt = |path: &str| UNLIMITED.iter().any(|(place, _)| path.starts_with(place));
    for file in files.iter().filter(|file| !exempt(&file.path)) {
        let mut lines = file.lines();
        while let Some((line, text)) = lines.next() {
            let head = text.trim_start();
            if head.starts_with(concat!("#[tokio::", "test")) {
                faults.add(&file.path, line, "run it by `limit::block_on`, which bounds its time");
            }
            if head != concat!("#[te", "st]") {
                continue;
            }
            let end = format!("{}}}", &text[..text.len() - head.len()]);
            let mut body = lines.by_ref().take_while(|(_, text)| *text != end);
            if !body.any(|(_, text)| LIMITED.iter().any(|word| uses_word(text, word))) {
                let rule = "a test has a time limit: run it by `limit::block_on`, or hold a `start_time_limit()`";
                faults.add(&file.path, line, rule);
            }
        }
    }
    faults.assert_none();
}

#[test]
fn every_test_that_the_soak_makes_longer_is_run_by_it() {
    let recipes = read_file("justfile").text;
    let (_, recipe) = recipes.split_once("soak *filters=\"").expect("a recipe with filters");
    let (filters, _) = recipe.split_once('"').unwrap();
    let mut faults = Faults::default();
    let files = rust_files(&["src", "tests/it"]).into_iter();
    // The time limit is that of all tests.
    for file in files.filter(|file| file.path != "tests/it/support/limit.rs") {
        let module = file.path.trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::");
        let is_run =
            filters.split(' ').any(|name| module.contains(name) || file.text.contains(name));
        for (line, text) in file.lines() {
            if text.contains(concat!("\"SO", "AK\"")) && !is_run {
                faults.add(&file.path, line, "add its tests to the filters of `just soak`");
            }
        }
    }
    faults.assert_none();
}
