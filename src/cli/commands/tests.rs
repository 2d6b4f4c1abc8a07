//! The table against the descriptors, in both directions.

use std::collections::BTreeSet;

use prost_reflect::{Kind, MessageDescriptor};

use super::places::Form;
use super::table::ELSEWHERE;
use super::*;
use crate::cli::definition;
use crate::pb::descriptors;

fn all_rpcs() -> BTreeSet<String> {
    let services = descriptors::OWN.pool().services();
    let own = services.filter(|service| service.full_name().starts_with("shoreguard.v1."));
    let rpcs = own.flat_map(|service| {
        let name = service.name().to_owned();
        service.methods().map(|m| format!("{name}/{}", m.name())).collect::<Vec<_>>()
    });
    rpcs.collect()
}

#[test]
fn every_rpc_is_a_command_or_is_called_by_one() {
    let rows: BTreeSet<String> = table::rows().map(|row| row.rpc.to_owned()).collect();
    let elsewhere: BTreeSet<String> = ELSEWHERE.iter().map(|(rpc, _)| (*rpc).to_owned()).collect();
    let all = all_rpcs();
    let both: Vec<_> = rows.intersection(&elsewhere).collect();
    assert!(both.is_empty(), "two commands: {both:?}");
    let named: BTreeSet<String> = rows.union(&elsewhere).cloned().collect();
    let missing: Vec<_> = all.difference(&named).collect();
    assert!(missing.is_empty(), "give them a line in the table: {missing:?}");
    let unknown: Vec<_> = named.difference(&all).collect();
    assert!(unknown.is_empty(), "no such rpc: {unknown:?}");
}

#[test]
fn the_commands_that_call_other_rpcs_exist() {
    let mut command = definition();
    command.build();
    for (rpc, words) in ELSEWHERE {
        let found =
            words.split(' ').try_fold(&command, |command, word| command.find_subcommand(word));
        assert!(found.is_some(), "`{words}`, which calls {rpc}");
    }
}

#[test]
fn every_line_has_a_noun_a_verb_and_a_place_of_its_own() {
    let mut seen = BTreeSet::new();
    for row in table::rows() {
        assert!(is_noun(row.noun()) && !row.verb().is_empty(), "{}", row.command);
        assert!(seen.insert(row.command), "two lines: {}", row.command);
        let is_act = find_act(row.noun(), row.verb()).is_some();
        assert!(!is_act, "by hand as well: {}", row.command);
    }
    for noun in &NOUNS {
        let has_row = table::rows().any(|row| row.noun() == noun.name);
        assert!(has_row || acts::ALL.iter().any(|act| act.noun == noun.name), "{}", noun.name);
    }
}

/// Whether a path of fields exists.
fn exists(message: &MessageDescriptor, path: &str) -> bool {
    let (first, rest) = path.split_once('.').map_or((path, None), |(f, r)| (f, Some(r)));
    let Some(field) = message.get_field_by_name(first) else { return false };
    match (rest, field.kind()) {
        (None, _) => true,
        (Some(rest), Kind::Message(inner)) => exists(&inner, rest),
        (Some(_), _) => false,
    }
}

#[test]
fn every_field_in_a_line_exists() {
    for row in table::rows() {
        let method = fields::method(row).unwrap();
        let (input, command) = (method.input(), row.command);
        for taken in flags::taken(row) {
            let fields =
                Form::from_word(taken.word).map_or(vec![taken.word], |f| f.fields().to_vec());
            for field in fields {
                assert!(exists(&input, field), "{command}: takes {field}");
            }
        }
        let renamed = row.renames.split_whitespace().filter_map(|rename| rename.split_once('='));
        let preset = fields::presets(row).map(|(field, _)| field);
        let documents = row.documents.split_whitespace().chain(row.flat.split_whitespace());
        for field in renamed.map(|(field, _)| field).chain(preset).chain(documents) {
            assert!(exists(&input, field), "{command}: {field}");
        }
        let items = lists::items_field(row, &method).map(|field| field.kind());
        let item = items.and_then(|kind| kind.as_message().cloned()).unwrap_or(method.output());
        for column in row.columns_of(true).chain(row.name.split_whitespace()) {
            let path = column.split(['=', '~']).next().unwrap();
            assert!(exists(&item, path), "{command}: column {path}");
        }
        for required in row.requires.split_whitespace() {
            assert!(exists(&input, required), "{command}: requires {required}");
        }
        assert!(row.target.is_empty() || exists(&input, row.target), "{command}: {}", row.target);
        let fails_unless = row.fails_unless;
        assert!(fails_unless.is_empty() || exists(&method.output(), fails_unless), "{command}");
        assert!(row.raw.is_empty() || exists(&method.output(), row.raw), "{command}: {}", row.raw);
        for part in row.question.split('{').skip(1) {
            let field = part.split('}').next().unwrap();
            assert!(exists(&input, field), "{command}: question about {field}");
        }
    }
}

/// Commands that name nothing: neither their answer nor their arguments.
const NAMELESS: [&str; 7] = [
    "server info",
    "gateway discovery",
    "session change-password",
    "session accept-invite",
    "session unlink-oidc",
    "session approve-device",
    "sbom download",
];

#[tokio::test]
async fn every_command_prints_a_name_or_refuses_to() {
    for row in table::rows() {
        let method = fields::method(row).unwrap();
        let is_nameless = NAMELESS.contains(&row.command);
        assert_eq!(render::has_names(row, &method), !is_nameless, "{}", row.command);
    }
    for command in ["server info", "gateway discovery", "session unlink-oidc"] {
        let line = format!("shoreguard {command} --yes -o name");
        let arguments = line.split(' ').map(str::to_owned).collect();
        let done = crate::cli::run_captured(arguments, Vec::new()).await;
        assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{line}: {done:?}");
        assert!(done.stderr.contains("`-o name`"), "{line}: {done:?}");
    }
}

/// Commands whose answer has a secret, with arguments.
const SHOWN_ONCE: [(&str, &str); 11] = [
    ("webhook create", "--url - --channel generic"),
    ("webhook update", "7 --description changed"),
    ("webhook rotate-secret", "7"),
    ("sandbox ssh", "edge/box"),
    ("user invite", "ana@example.com --role viewer"),
    ("user resend-invite", "ana@example.com"),
    ("user reset-password", "ana@example.com"),
    ("service-principal create", "ci --role viewer"),
    ("service-principal rotate", "ci"),
    ("session register", "ana@example.com --password -"),
    ("session exchange", "ci --token -"),
];

#[tokio::test]
async fn a_secret_that_is_shown_once_is_not_discarded_for_a_name() {
    for row in table::rows() {
        let method = fields::method(row).unwrap();
        let has_secret = fields::find_secret(&method.output()).is_some();
        let is_listed = SHOWN_ONCE.iter().any(|(command, _)| *command == row.command);
        assert_eq!(is_listed, has_secret && !NAMELESS.contains(&row.command), "{}", row.command);
    }
    for (command, arguments) in SHOWN_ONCE {
        // Nothing listens on this port: a call would exit with 5.
        let line = format!(
            "shoreguard {command} {arguments} --endpoint http://127.0.0.1:1 --key sg_x --yes"
        );
        let run = async |form: &str| {
            let arguments = format!("{line} -o {form}").split(' ').map(str::to_owned).collect();
            crate::cli::run_captured(arguments, b"hunter2".to_vec()).await
        };
        let done = run("name").await;
        assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{line}: {done:?}");
        assert!(done.stderr.contains("shows a secret only once"), "{line}: {done:?}");
        let done = run("json").await;
        assert_eq!(done.code, 5, "{line}: {done:?}");
    }
}

#[test]
fn what_deletes_or_ends_something_asks_first() {
    let ends = [
        "delete",
        "unregister",
        "rotate",
        "rotate-secret",
        "revoke",
        "clear",
        "revoke-sessions",
        "remove",
        "stop",
        "cancel",
        "withdraw",
        "revoke-ssh",
        "unset",
    ];
    for row in table::rows().filter(|row| ends.contains(&row.verb())) {
        assert!(!row.question.is_empty(), "{}", row.command);
    }
}

#[test]
fn no_secret_is_an_argument_itself() {
    for row in table::rows() {
        let method = fields::method(row).unwrap();
        for leaf in fields::leaves(row, &method.input()) {
            if fields::is_secret(&leaf.field) {
                let refused = values::parse(&leaf.field, leaf.source, "hunter2");
                let why = refused.expect_err(row.command);
                assert!(!why.contains("hunter2"), "{}: {why}", row.command);
            }
        }
    }
}

#[tokio::test]
async fn no_error_repeats_what_was_given_for_a_secret() {
    for row in table::rows() {
        let method = fields::method(row).unwrap();
        for leaf in fields::leaves(row, &method.input()) {
            let is_positional = flags::taken(row).any(|taken| taken.word == leaf.path);
            if leaf.source != values::Source::Secret || is_positional {
                continue;
            }
            let line = format!("shoreguard {} --{}=A=hunter2", row.command, leaf.flag);
            let arguments = line.split(' ').map(str::to_owned).collect();
            let done = crate::cli::run_captured(arguments, Vec::new()).await;
            assert_eq!(done.code, 2, "{line}: {done:?}");
            assert!(done.stderr.contains(&format!("--{}", leaf.flag)), "{line}: {done:?}");
            assert!(!done.stderr.contains("hunter2"), "{line}: {done:?}");
        }
    }
}

#[tokio::test]
async fn a_secret_is_prompted_for_when_the_command_runs() {
    let line = "shoreguard session change-password --current-password prompt --new-password prompt";
    let arguments = line.split(' ').map(str::to_owned).collect();
    let done = crate::cli::run_captured(arguments, Vec::new()).await;
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.starts_with("the secret cannot be prompted for"), "{done:?}");
}

#[test]
fn flags_differ_from_the_options_of_all_commands() {
    // clap's own assertions find a flag that exists twice.
    definition().debug_assert();
}
