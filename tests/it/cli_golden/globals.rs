//! Options that all commands share: each has an effect on each command, or is refused by its name before a call.
//!
//! The server of these tests records calls. It answers each with an empty message, and refuses a stream after that.
//! `--quiet` has no test of this kind, since a command that says nothing besides its answer has nothing to omit, and
//! `--allow-plaintext` is an error if it is missing.

use std::mem::take;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use parking_lot::Mutex;
use shoreguard::cli::{self, Captured};
use shoreguard::pb::descriptors;
use shoreguard::pb::v1 as pb;
use tokio::net::TcpListener;

use super::ONE_FORM;
use super::cases::CASES;
use crate::proxy::raw::{encode_framed, read, spawn_task};
use crate::support::limit;
use crate::support::server::ADMIN_PASSWORD;

/// Commands that are written by hand, with arguments.
const BY_HAND: &[(&str, &str)] = &[
    ("sandbox exec", "edge/box -- true"),
    ("sbom upload", "edge/box {file}"),
    ("event watch", ""),
    ("operation wait", "7"),
    ("policy export", "edge/box"),
    ("policy diff", "edge/box -f {file}"),
    ("policy apply", "edge/box -f {file}"),
    ("approval review", ""),
    ("whoami", ""),
    ("call", "GetCurrentIdentity"),
];

/// A command that needs a terminal. Its own tests run it on one.
const ON_A_TERMINAL: &str = "approval review";

/// Methods that are called without a credential.
const PUBLIC: [&str; 6] = [
    "GetServerInfo",
    "Setup",
    "AcceptInvite",
    "Register",
    "ListOidcProviders",
    "ExchangeOidcToken",
];

/// A call that the server has received.
#[derive(Debug)]
struct Call {
    method: String,
    timeout: Option<String>,
    authorization: Option<String>,
}

impl Call {
    fn of<T>(request: &Request<T>) -> Self {
        let header = |name: &str| {
            let value = request.headers().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        Self {
            method: request.uri().path().rsplit('/').next().unwrap().to_owned(),
            timeout: header("grpc-timeout"),
            authorization: header("authorization"),
        }
    }
}

/// The server.
struct Recorder {
    endpoint: String,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Recorder {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let calls = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&calls);
        spawn_task(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let calls = Arc::clone(&recorded);
                spawn_task(async move {
                    let Ok(mut connection) = h2::server::handshake(socket).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        let call = Call::of(&request);
                        let method = call.method.clone();
                        calls.lock().push(call);
                        spawn_task(async move {
                            let _ = read(request.into_body()).await;
                            answer(&method, respond);
                        });
                    }
                });
            }
        });
        Self { endpoint, calls }
    }

    /// Returns the calls since the last time.
    fn calls(&self) -> Vec<Call> {
        take(&mut *self.calls.lock())
    }
}

/// Returns the answer to a method: without fields, unless a command would wait for them.
fn message(method: &str) -> Bytes {
    match method {
        "WatchOperation" => encode_framed(&pb::WatchOperationResponse {
            operation: Some(pb::Operation {
                id: "7".to_owned(),
                status: pb::OperationStatus::Succeeded.into(),
                complete_time: Some(prost_types::Timestamp::default()),
                ..Default::default()
            }),
        }),
        "WatchEvents" => encode_framed(&pb::WatchEventsResponse {
            event: Some(pb::Event { name: "gateway.registered".to_owned(), ..Default::default() }),
            sequence: 1,
        }),
        "ApplyPolicy" => encode_framed(&pb::ApplyPolicyResponse {
            policy_change: Some(pb::PolicyChange {
                outcome: pb::PolicyChangeOutcome::UpToDate.into(),
                ..Default::default()
            }),
        }),
        _ => encode_framed(&pb::GetServerInfoRequest {}),
    }
}

fn is_stream(method: &str) -> bool {
    let mut methods = descriptors::OWN.pool().services().flat_map(|service| {
        service
            .methods()
            .map(|of| (of.name().to_owned(), of.is_server_streaming()))
            .collect::<Vec<_>>()
    });
    methods.any(|(name, is_stream)| name == method && is_stream)
}

fn answer(method: &str, mut respond: SendResponse<Bytes>) {
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let Ok(mut stream) = respond.send_response(head, false) else { return };
    let _ = stream.send_data(message(method), false);
    let code = if is_stream(method) { "9" } else { "0" };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(code));
    let _ = stream.send_trailers(trailers);
}

/// Which commands a test runs: there are many, so two tests share them.
#[derive(Clone, Copy)]
enum Half {
    Even,
    Odd,
}

/// Returns half of the commands, with arguments.
fn half_of_commands(folder: &Path, half: Half) -> impl Iterator<Item = String> {
    commands(folder).into_iter().skip(half as usize).step_by(2)
}

/// Returns all commands with arguments.
fn commands(folder: &Path) -> Vec<String> {
    for (noun, verb) in cli::hand_written_commands() {
        let command = format!("{noun} {verb}");
        assert!(BY_HAND.iter().any(|(listed, _)| *listed == command), "list `{command}`");
    }
    let file = folder.join("file");
    std::fs::write(&file, "version: 1\n").unwrap();
    let values = [
        ("{f}", "t"),
        ("{hook}", "7"),
        ("{operation}", "00000000-0000-4000-8000-000000000000"),
        ("{file}", file.to_str().unwrap()),
    ];
    let of_table = CASES.iter().map(|case| (case.command, case.any()));
    let all = of_table.chain(BY_HAND.iter().copied());
    all.map(|(command, arguments)| {
        let line = format!("{command} {arguments}");
        values.iter().fold(line, |line, (name, value)| line.replace(name, value))
    })
    .collect()
}

/// Runs a command with options, which precede `--`.
async fn run(line: &str, options: &[&str]) -> Captured {
    let words = ["shoreguard"].into_iter().chain(line.split_whitespace());
    let mut all: Vec<String> = words.map(str::to_owned).collect();
    let at = all.iter().position(|word| word == "--").unwrap_or(all.len());
    drop(all.splice(at..at, options.iter().map(|option| (*option).to_owned())));
    cli::run_captured(all, ADMIN_PASSWORD.as_bytes().to_vec()).await
}

/// Returns whether the command was refused since it does not take the option.
fn is_refused(done: &Captured, names: &[&str]) -> bool {
    let is_named = names.iter().any(|name| done.stderr.contains(name));
    done.code == 2 && done.stdout.is_empty() && is_named
}

/// Returns the seconds of the header `grpc-timeout`.
fn seconds(timeout: &str) -> f64 {
    let (number, unit) = timeout.split_at(timeout.len() - 1);
    let unit = match unit {
        "H" => 3600.0,
        "M" => 60.0,
        "S" => 1.0,
        "m" => 1e-3,
        "u" => 1e-6,
        "n" => 1e-9,
        other => panic!("unit `{other}`"),
    };
    number.parse::<f64>().unwrap() * unit
}

mod each_command_calls_the_given_server_with_the_given_key_and_timeout {
    use super::*;

    #[test]
    fn of_the_even_half() {
        limit::block_on(each_command_calls_the_given_server_with_the_given_key_and_timeout(
            Half::Even,
        ));
    }

    #[test]
    fn of_the_odd_half() {
        limit::block_on(each_command_calls_the_given_server_with_the_given_key_and_timeout(
            Half::Odd,
        ));
    }
}

async fn each_command_calls_the_given_server_with_the_given_key_and_timeout(half: Half) {
    let (server, folder) = (Recorder::start().await, tempfile::tempdir().unwrap());
    let options = ["--endpoint", &server.endpoint, "--key", "sg_probe", "--timeout", "7"];
    for line in half_of_commands(folder.path(), half) {
        if line.trim_end() == ON_A_TERMINAL {
            continue;
        }
        let mut done = run(&line, &options).await;
        if is_refused(&done, &["--yes"]) {
            assert!(server.calls().is_empty(), "{line}: {done:?}");
            done = run(&line, &[&options[..], &["--yes"]].concat()).await;
        }
        let calls = server.calls();
        assert!(!calls.is_empty(), "{line}: {done:?}");
        for call in calls {
            let timeout = call.timeout.as_deref().map(seconds);
            assert!(timeout.is_some_and(|given| given > 0.0 && given < 8.0), "{line}: {call:?}");
            let sent = call.authorization.as_deref();
            let is_public = PUBLIC.contains(&call.method.as_str());
            assert_eq!(sent, Some("Bearer sg_probe").filter(|_| !is_public), "{line}: {call:?}");
        }
    }
}

mod each_command_prints_in_the_given_form_or_refuses_it {
    use super::*;

    #[test]
    fn of_the_even_half() {
        limit::block_on(each_command_prints_in_the_given_form_or_refuses_it(Half::Even));
    }

    #[test]
    fn of_the_odd_half() {
        limit::block_on(each_command_prints_in_the_given_form_or_refuses_it(Half::Odd));
    }
}

async fn each_command_prints_in_the_given_form_or_refuses_it(half: Half) {
    let (server, folder) = (Recorder::start().await, tempfile::tempdir().unwrap());
    let options = ["--endpoint", &server.endpoint, "--key", "sg_probe", "-o"];
    for line in half_of_commands(folder.path(), half) {
        // `call` asks nothing, and refuses the option.
        let yes: &[&str] = if line.starts_with("call ") { &[] } else { &["--yes"] };
        let run =
            async |form: &'static str| run(&line, &[&options[..], &[form], yes].concat()).await;
        let json = run("json").await;
        let is_one = ONE_FORM.iter().any(|command| line.starts_with(command));
        assert_eq!(is_refused(&json, &["`-o`"]), is_one, "{line}: {json:?}");
        assert_eq!(server.calls().is_empty(), is_one, "{line}: {json:?}");
        if is_one {
            continue;
        }
        let mut values = serde_json::Deserializer::from_str(&json.stdout).into_iter();
        let first: Option<Result<serde_json::Value, _>> = values.next();
        assert!(matches!(first, Some(Ok(_))), "{line}: {json:?}");
        let name = run("name").await;
        if is_refused(&name, &["`-o name`", "--output"]) {
            assert!(server.calls().is_empty(), "{line}: {name:?}");
        } else {
            assert_ne!(name.stdout, json.stdout, "{line}");
            server.calls();
        }
    }
}

#[test]
fn each_command_reads_the_given_context_and_ca() {
    limit::block_on(async {
        let (server, folder) = (Recorder::start().await, tempfile::tempdir().unwrap());
        for line in commands(folder.path()) {
            if line.trim_end() == ON_A_TERMINAL {
                continue;
            }
            let yes: &[&str] = if line.starts_with("call ") { &[] } else { &["--yes"] };
            for (option, why) in [
                (["--context", "nowhere"], "context `nowhere` does not exist"),
                (["--ca", "/nonexistent"], "`--ca` requires an endpoint with `https://`"),
            ] {
                let all = [&["--endpoint", server.endpoint.as_str()][..], &option, yes].concat();
                let done = run(&line, &all).await;
                assert!(done.code != 0 && done.stderr.contains(why), "{line}: {done:?}");
                assert!(server.calls().is_empty(), "{line}: {done:?}");
            }
        }
    });
}
