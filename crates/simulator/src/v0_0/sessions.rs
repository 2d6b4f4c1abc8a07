//! Sessions in a sandbox: commands, SSH, forwarded ports, logs, and watch streams.

use std::time::Duration;

use bytes::Bytes;

use futures_util::StreamExt as _;
use tonic::{Request, Status, Streaming};

use super::{V00, render};
use crate::shell::{Start, asked_well};
use crate::state::{HOST_KEY, LogFilter};
use crate::streams::{
    self, Answer, HalfClose, Output, STALLED_PORT, Typed, Watch, Watched, until_stopped,
};
use shoreguard_proto::v0_0::openshell::v1 as pb;
use shoreguard_proto::v0_0::openshell::v1::exec_sandbox_event::Payload as Event;
use shoreguard_proto::v0_0::openshell::v1::exec_sandbox_input::Payload as Input;
use shoreguard_proto::v0_0::openshell::v1::sandbox_stream_event::Payload as Told;
use shoreguard_proto::v0_0::openshell::v1::tcp_forward_frame::Payload as Frame;
use shoreguard_proto::v0_0::openshell::v1::tcp_forward_init::Target;

pub(super) fn create_ssh(
    gateway: &V00,
    ask: pb::CreateSshSessionRequest,
) -> Result<pb::CreateSshSessionResponse, Status> {
    let session = gateway.core.with(|state| {
        let at = state.place(&ask.sandbox_id)?;
        state.create_ssh(&at)
    })?;
    Ok(pb::CreateSshSessionResponse {
        sandbox_id: session.sandbox_id,
        token: session.token,
        gateway_host: "127.0.0.1".to_owned(),
        gateway_port: u32::from(gateway.about.port),
        gateway_scheme: gateway.about.scheme.to_owned(),
        host_key_fingerprint: HOST_KEY.to_owned(),
        expires_at_ms: session.expires_ms,
    })
}

pub(super) fn revoke_ssh(
    gateway: &V00,
    ask: pb::RevokeSshSessionRequest,
) -> Result<pb::RevokeSshSessionResponse, Status> {
    let revoked = gateway.core.with(|state| state.revoke_ssh(&ask.token))?;
    Ok(pb::RevokeSshSessionResponse { revoked })
}

pub(super) fn logs(
    gateway: &V00,
    ask: pb::GetSandboxLogsRequest,
) -> Result<pb::GetSandboxLogsResponse, Status> {
    let filter =
        LogFilter { since_ms: ask.since_ms, sources: ask.sources, min_level: ask.min_level };
    gateway.core.with(|state| {
        let at = state.place(&ask.sandbox_id)?;
        let sandbox = state.sandbox(&at)?;
        let lines = sandbox.tail(&filter, ask.lines);
        Ok(pb::GetSandboxLogsResponse {
            logs: lines.iter().map(|line| render::log(&sandbox.meta.id, line)).collect(),
            buffer_total: u32::try_from(sandbox.logs.len()).unwrap_or(u32::MAX),
        })
    })
}

/// Refuses a sandbox that is not running.
fn running(gateway: &V00, id: &str) -> Result<(), Status> {
    gateway.core.with(|state| {
        let at = state.place(id)?;
        state.sandbox(&at)?.running()
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

pub(super) fn exec(
    gateway: &V00,
    request: Request<pb::ExecSandboxRequest>,
) -> Result<Answer<pb::ExecSandboxEvent>, Status> {
    let ask = request.into_inner();
    asked_well(&ask.command, &ask.environment)?;
    let environment = gateway.core.with(|state| {
        let at = state.place(&ask.sandbox_id)?;
        let sandbox = state.sandbox(&at)?;
        sandbox.running()?;
        Ok(sandbox.environment(ask.environment))
    })?;
    let timeout =
        (ask.timeout_seconds != 0).then(|| Duration::from_secs(ask.timeout_seconds.into()));
    let terminal = ask.tty.then_some((ask.cols, ask.rows));
    let pb::ExecSandboxRequest { command, workdir, stdin, .. } = ask;
    let start = Start { command, workdir, environment, stdin, terminal };
    let running = gateway.core.commands.token();
    let run = streams::exec(&start, timeout).map(move |item| (&running, item.map(output)).1);
    Ok(until_stopped(run, &gateway.core.stop))
}

pub(super) async fn interact(
    gateway: &V00,
    request: Request<Streaming<pb::ExecSandboxInput>>,
) -> Result<Answer<pb::ExecSandboxEvent>, Status> {
    let mut input = request.into_inner();
    let Some(Input::Start(start)) = input.message().await?.and_then(|first| first.payload) else {
        return Err(Status::invalid_argument("the first message must be start"));
    };
    asked_well(&start.command, &start.environment)?;
    running(gateway, &start.sandbox_id)?;
    let timeout =
        (start.timeout_seconds != 0).then(|| Duration::from_secs(start.timeout_seconds.into()));
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
    let run = streams::converse(&start, timeout, stdin, HalfClose::Aborts);
    let run = run.map(move |item| (&running, item.map(output)).1);
    Ok(until_stopped(run, &gateway.core.stop))
}

pub(super) async fn forward(
    gateway: &V00,
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
    running(gateway, &init.sandbox_id)?;
    // A session token gives access to ports of the sandbox as well as to SSH.
    gateway.core.with(|state| state.check_ssh(&init.sandbox_id, &init.authorization_token))?;
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
    gateway: &V00,
    request: Request<pb::WatchSandboxRequest>,
) -> Result<Answer<pb::SandboxStreamEvent>, Status> {
    let ask = request.into_inner();
    let place = gateway.core.with(|state| state.place(&ask.id))?;
    let filter = LogFilter {
        since_ms: ask.log_since_ms,
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
    let id = ask.id;
    let told = streams::watch(&gateway.core, &place, watch)?.map(move |item| {
        let payload = match item? {
            Watched::Sandbox(sandbox) => Told::Sandbox(render::sandbox(&sandbox)),
            Watched::Log(line) => Told::Log(render::log(&id, &line)),
            Watched::Event(event) => Told::Event(render::event(&event)),
            Watched::Warning(message) => Told::Warning(pb::SandboxStreamWarning { message }),
        };
        Ok(pb::SandboxStreamEvent { payload: Some(payload) })
    });
    Ok(until_stopped(told, &gateway.core.stop))
}
