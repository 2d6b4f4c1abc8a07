//! Sessions in a sandbox: commands, SSH, forwarded ports, logs, and watch streams.

use std::time::Duration;

use bytes::Bytes;

use futures_util::{StreamExt as _, stream};
use tonic::{Request, Status, Streaming};

use super::scope::{millis, one, outcome, time};
use super::{V01, render};
use crate::gateway::{Launch, caller};
use crate::shell::{Start, asked_well};
use crate::state::{HOST_KEY, Key, LogFilter};
use crate::streams::{
    self, Answer, HalfClose, Output, STALLED_PORT, Typed, Watch, Watched, until_stopped,
};
use shoreguard_proto::v0_1::openshell::v1 as pb;
use shoreguard_proto::v0_1::openshell::v1::exec_sandbox_event::Payload as Event;
use shoreguard_proto::v0_1::openshell::v1::exec_sandbox_input::Payload as Input;
use shoreguard_proto::v0_1::openshell::v1::sandbox_stream_event::Payload as Told;
use shoreguard_proto::v0_1::openshell::v1::tcp_forward_frame::Payload as Frame;
use shoreguard_proto::v0_1::openshell::v1::tcp_forward_init::Target;

pub(super) fn create_ssh(
    gateway: &V01,
    ask: pb::CreateSshSessionRequest,
) -> Result<pb::CreateSshSessionResponse, Status> {
    let at = (one(ask.workspace_scope)?, ask.sandbox);
    let session = gateway.core.with(|state| state.create_ssh(&at))?;
    Ok(pb::CreateSshSessionResponse {
        sandbox_id: session.sandbox_id,
        token: session.token,
        gateway_host: "127.0.0.1".to_owned(),
        gateway_port: u32::from(gateway.about.port),
        gateway_scheme: gateway.about.scheme.to_owned(),
        host_key_fingerprint: HOST_KEY.to_owned(),
        expiration_time: time(session.expires_ms),
    })
}

pub(super) fn revoke_ssh(
    gateway: &V01,
    ask: pb::RevokeSshSessionRequest,
) -> Result<pb::RevokeSshSessionResponse, Status> {
    let revoked = gateway.core.with(|state| state.revoke_ssh(&ask.token))?;
    let outcome = outcome("ssh session", revoked, ask.allow_missing)?;
    Ok(pb::RevokeSshSessionResponse { outcome })
}

pub(super) fn logs(
    gateway: &V01,
    ask: pb::GetSandboxLogsRequest,
) -> Result<pb::GetSandboxLogsResponse, Status> {
    let at = (one(ask.workspace_scope)?, ask.sandbox);
    let filter = LogFilter {
        since_ms: millis(ask.since_time),
        sources: ask.sources,
        min_level: ask.min_level,
    };
    gateway.core.with(|state| {
        let sandbox = state.sandbox(&at)?;
        let lines = sandbox.tail(&filter, ask.lines);
        Ok(pb::GetSandboxLogsResponse {
            logs: lines.iter().map(|line| render::log(&sandbox.meta.id, line)).collect(),
            buffer_total: u32::try_from(sandbox.logs.len()).unwrap_or(u32::MAX),
        })
    })
}

/// Returns the id of a sandbox, which must be running.
fn running(gateway: &V01, at: &Key) -> Result<String, Status> {
    gateway.core.with(|state| {
        let sandbox = state.sandbox(at)?;
        sandbox.running()?;
        Ok(sandbox.meta.id.clone())
    })
}

fn output(output: Output) -> pb::ExecSandboxEvent {
    let payload = match output {
        Output::Out(data) => Event::Stdout(pb::ExecSandboxStdout { data }),
        Output::Err(data) => Event::Stderr(pb::ExecSandboxStderr { data }),
        Output::Exit(exit_code) => Event::Exit(pb::ExecSandboxExit { exit_code }),
    };
    pb::ExecSandboxEvent { payload: Some(payload) }
}

fn time_of(timeout: Option<prost_types::Duration>) -> Result<Option<Duration>, Status> {
    timeout
        .map(Duration::try_from)
        .transpose()
        .map_err(|_| Status::invalid_argument("execution_timeout must not be negative"))
}

pub(super) fn exec(
    gateway: &V01,
    request: Request<pb::ExecSandboxRequest>,
) -> Result<Answer<pb::ExecSandboxEvent>, Status> {
    let caller = caller(&request);
    let ask = request.into_inner();
    asked_well(&ask.command, &ask.environment)?;
    let launch = gateway.launch(&caller, ("exec_sandbox", &ask.request_id), &ask)?;
    let at = (one(ask.workspace_scope)?, ask.sandbox);
    let environment = gateway.core.with(|state| {
        let sandbox = state.sandbox(&at)?;
        sandbox.running()?;
        Ok(sandbox.environment(ask.environment))
    })?;
    let timeout = time_of(ask.execution_timeout)?;
    let terminal = ask.tty.then_some((ask.cols, ask.rows));
    let pb::ExecSandboxRequest { command, workdir, stdin, .. } = ask;
    let start = Start { command, workdir, environment, stdin, terminal };
    let running = gateway.core.commands.token();
    let run = streams::exec(&start, timeout);
    let run = run.map(move |item| (&running, told(item, launch.as_ref())).1);
    Ok(until_stopped(run, &gateway.core.stop))
}

/// Converts an output item of a command. The exit is recorded for the request id of the command.
fn told(
    item: Result<Output, Status>,
    launch: Option<&Launch>,
) -> Result<pb::ExecSandboxEvent, Status> {
    if let (Ok(Output::Exit(_)), Some(launch)) = (&item, launch) {
        launch.ended();
    }
    item.map(output)
}

pub(super) async fn interact(
    gateway: &V01,
    request: Request<Streaming<pb::ExecSandboxInput>>,
) -> Result<Answer<pb::ExecSandboxEvent>, Status> {
    let caller = caller(&request);
    let mut input = request.into_inner();
    let Some(Input::Start(start)) = input.message().await?.and_then(|first| first.payload) else {
        return Err(Status::invalid_argument("the first message must be start"));
    };
    asked_well(&start.command, &start.environment)?;
    let asked = ("exec_sandbox_interactive", start.request_id.as_str());
    let launch = gateway.launch(&caller, asked, &start)?;
    let timeout = time_of(start.execution_timeout)?;
    running(gateway, &(one(start.workspace_scope)?, start.sandbox))?;
    let terminal = start.tty.then_some((start.cols, start.rows));
    let pb::ExecSandboxRequest { command, workdir, environment, .. } = start;
    let start = Start { command, workdir, environment, stdin: Bytes::new(), terminal };
    let stdin = input.filter_map(async |item| match item.map(|item| item.payload) {
        Ok(Some(Input::Stdin(data))) => Some(Ok(Typed::Data(data))),
        Ok(Some(Input::Resize(size))) => Some(Ok(Typed::Size(size.cols, size.rows))),
        Ok(Some(Input::Start(_)) | None) => {
            Some(Err(Status::invalid_argument("only stdin and resize may follow start")))
        }
        Err(status) => Some(Err(status)),
    });
    let running = gateway.core.commands.token();
    let run = streams::converse(&start, timeout, stdin, HalfClose::IsRead);
    let run = run.map(move |item| (&running, told(item, launch.as_ref())).1);
    Ok(until_stopped(run, &gateway.core.stop))
}

pub(super) async fn forward(
    gateway: &V01,
    request: Request<Streaming<pb::TcpForwardFrame>>,
) -> Result<Answer<pb::TcpForwardFrame>, Status> {
    let mut frames = request.into_inner();
    let Some(Frame::Init(init)) = frames.message().await?.and_then(|first| first.payload) else {
        return Err(Status::invalid_argument("the first frame must be init"));
    };
    let stalled = matches!(&init.target, Some(Target::Tcp(tcp)) if tcp.port == STALLED_PORT);
    match init.target {
        Some(Target::Ssh(_)) => {}
        Some(Target::Tcp(tcp)) if (1..=65_535).contains(&tcp.port) => {}
        Some(Target::Tcp(_)) => return Err(Status::invalid_argument("port must be 1..=65535")),
        None => return Err(Status::invalid_argument("target is required")),
    }
    let id = running(gateway, &(init.workspace, init.sandbox))?;
    // A session token gives access to ports of the sandbox as well as to SSH.
    gateway.core.with(|state| state.check_ssh(&id, &init.authorization_token))?;
    if stalled {
        return Ok(streams::unread(&gateway.core, frames));
    }
    let echo = frames.map(|item| match item?.payload {
        Some(Frame::Data(data)) => Ok(pb::TcpForwardFrame { payload: Some(Frame::Data(data)) }),
        Some(Frame::Init(_)) | None => Err(Status::invalid_argument("only data may follow init")),
    });
    Ok(until_stopped(echo, &gateway.core.stop))
}

pub(super) fn watch(
    gateway: &V01,
    request: Request<pb::WatchSandboxRequest>,
) -> Result<Answer<pb::SandboxStreamEvent>, Status> {
    let ask = request.into_inner();
    let place = (one(ask.workspace_scope)?, ask.sandbox);
    let filter = LogFilter {
        since_ms: millis(ask.since_time),
        sources: ask.log_sources,
        min_level: ask.log_min_level,
    };
    let watch = Watch {
        status: ask.follow_status,
        logs: ask.follow_logs.then_some(filter),
        events: ask.follow_events,
        log_tail: ask.log_tail_lines,
        event_tail: ask.event_tail,
        stop_on_terminal: ask.stop_on_terminal,
    };
    let id = gateway.core.with(|state| Ok(state.sandbox(&place)?.meta.id.clone()))?;
    let told = streams::watch(&gateway.core, &place, watch)?;
    // A cursor only counts the events of its own stream: a new stream begins with a snapshot again.
    let told = told.zip(stream::iter(1_u64..)).map(move |(item, count)| {
        let payload = match item? {
            Watched::Sandbox(sandbox) => Told::Sandbox(render::sandbox(&sandbox)),
            Watched::Log(line) => Told::Log(render::log(&id, &line)),
            Watched::Event(event) => Told::Event(render::event(&event)),
            Watched::Warning(message) => Told::Warning(pb::SandboxStreamWarning { message }),
        };
        Ok(pb::SandboxStreamEvent { cursor: count.to_string(), payload: Some(payload) })
    });
    Ok(until_stopped(told, &gateway.core.stop))
}
