//! Streams with endless output: they end with the caller's right and with their deadline, whether the caller reads or
//! not.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use shoreguard::config::Config;
use shoreguard::db::Engine;
use shoreguard::pb::v1 as pb;
use shoreguard_simulator::Generation;
use tonic::{Code, Status};

use super::raw::RawClient;
use super::starved::{CALL_TIME, Scene};
use super::*;

/// Flow-control window of a response.
const STEP_BYTES: u32 = 16 << 10;
/// Time for a stream to end: one second, plus the delay of a busy machine.
const ENDS_WITHIN: Duration = CONDITION_TIME_MAX;
/// Deadline of a call.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Runs a command and streams its output.
const SERVER: &str = "ExecSandbox";
/// The same, with an input stream.
const INTERACTIVE: &str = "ExecSandboxInteractive";
/// Number of the call that runs a command.
const EXEC: usize = 2;

/// Event that ends the calls of a service principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Rotated,
    Demoted,
    Late,
}

/// Each loss, with the name of its service principal.
const LOSSES: [(Loss, &str); 3] =
    [(Loss::Rotated, "rotated"), (Loss::Demoted, "demoted"), (Loss::Late, "late")];

impl Loss {
    fn code(self) -> Code {
        match self {
            Self::Rotated => Code::Unauthenticated,
            Self::Demoted => Code::PermissionDenied,
            Self::Late => Code::DeadlineExceeded,
        }
    }

    /// Ends the rights of `name`. Returns the time at which they end.
    async fn comes(self, sg: &TestServer, name: &str) -> Instant {
        match self {
            Self::Rotated => {
                let name = name.to_owned();
                let request = pb::RotateServicePrincipalRequest {
                    service_principal: name,
                    ..Default::default()
                };
                sg.admin().service_principals().rotate_service_principal(request).await.unwrap();
            }
            Self::Demoted => sg.admin().bind(name, "alpha", pb::Role::Viewer).await,
            Self::Late => return Instant::now() + TIMEOUT,
        }
        Instant::now()
    }
}

/// Allows one stream per gateway, so that the next call shows whether the previous stream has ended.
fn one_stream(config: &mut Config) {
    config.gateways.streams_per_gateway = 1;
}

/// Runs a command with endless output. The second value keeps its input open.
async fn begin(
    scene: &Scene<'_>,
    raw: &mut RawClient,
    method: &str,
    loss: Loss,
) -> (RecvStream, SendStream<Bytes>) {
    let mut request = raw.request(method, "alpha");
    if loss == Loss::Late {
        request = request.header("grpc-timeout", format!("{}S", TIMEOUT.as_secs()));
    }
    let (response, mut typed) = raw.open(request);
    match method {
        INTERACTIVE => typed.send_data(scene.interactive(&["yes"]), false).unwrap(),
        _ => typed.send_data(scene.exec(&["yes"]), true).unwrap(),
    }
    let begun = tokio::time::timeout(CALL_TIME, response).await.expect("it begins").unwrap();
    assert!(!begun.headers().contains_key("grpc-status"), "{begun:?}");
    (begun.into_body(), typed)
}

/// Reads a stream to its end. Returns its status.
async fn end(body: &mut RecvStream) -> Status {
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    Status::from_header_map(&body.trailers().await.unwrap().unwrap()).unwrap()
}

fn ends_with_its_right(generation: Generation, method: &'static str, reads: bool) {
    run(Engine::Sqlite, one_stream, |sg| async move {
        let gateway = start_simulator(generation).await;
        let scene = Scene::new(&sg, generation, &gateway).await;
        let other = sg.with_token(&sg.admin().create_key("other", pb::Role::Operator).await);
        for (loss, name) in LOSSES {
            let key = sg.admin().create_key(name, pb::Role::Operator).await;
            let mut raw = RawClient::connect_with_window(&sg, &key, STEP_BYTES).await;
            let (mut body, typed) = begin(&scene, &mut raw, method, loss).await;
            assert_eq!(gateway.running_commands(), 1);
            let since = if reads {
                let reading = tokio::time::timeout(CALL_TIME * 2, end(&mut body));
                let (ended, since) = tokio::join!(reading, loss.comes(&sg, name));
                let ended = ended.expect("it ends");
                assert_eq!(ended.code(), loss.code(), "{ended:?}");
                since
            } else {
                loss.comes(&sg, name).await
            };
            wait_until("its stream is closed", || async { sg.app.live.count() == 0 }).await;
            wait_until("its command has ended", || async { gateway.running_commands() == 0 }).await;
            assert!(since.elapsed() < ENDS_WITHIN, "{loss:?}: {:?}", since.elapsed());
            wait_until("its place is free", || async { scene.call(&other, EXEC).await.is_ok() })
                .await;
            drop((body, typed, raw));
        }
        sg.finish().await;
        gateway.stop().await;
    });
}

#[test]
fn a_read_endless_stream_ends_if_its_caller_loses_the_right_to_it_v0_0() {
    ends_with_its_right(Generation::V0_0, SERVER, true);
}

#[test]
fn a_read_endless_stream_ends_if_its_caller_loses_the_right_to_it_v0_1() {
    ends_with_its_right(Generation::V0_1, SERVER, true);
}

#[test]
fn an_unread_endless_stream_ends_if_its_caller_loses_the_right_to_it_v0_0() {
    ends_with_its_right(Generation::V0_0, SERVER, false);
}

#[test]
fn an_unread_endless_stream_ends_if_its_caller_loses_the_right_to_it_v0_1() {
    ends_with_its_right(Generation::V0_1, SERVER, false);
}

#[test]
fn an_unread_terminal_ends_if_its_caller_loses_the_right_to_it_v0_0() {
    ends_with_its_right(Generation::V0_0, INTERACTIVE, false);
}

#[test]
fn an_unread_terminal_ends_if_its_caller_loses_the_right_to_it_v0_1() {
    ends_with_its_right(Generation::V0_1, INTERACTIVE, false);
}
