//! Sessions in a sandbox: commands, SSH, forwarded ports, logs, and watch streams.

use std::time::Duration;

use bytes::Bytes;

use futures_util::StreamExt as _;
use tonic::{Request, Status, Streaming};

use super::{GatewayV0_0, render};
use crate::shell::{CommandSpec, check_command};
use crate::state::{HOST_KEY, LogFilter};
use crate::streams::{
    self, CommandInput, CommandOutput, HalfClose, ResponseStream, STALLED_PORT, WatchItem,
    WatchOptions, until_stopped,
};
use shoreguard_proto::v0_0::openshell::v1 as pb;
use shoreguard_proto::v0_0::openshell::v1::exec_sandbox_event::Payload as Event;
use shoreguard_proto::v0_0::openshell::v1::exec_sandbox_input::Payload as Input;
use shoreguard_proto::v0_0::openshell::v1::sandbox_stream_event::Payload as StreamPayload;
use shoreguard_proto::v0_0::openshell::v1::tcp_forward_frame::Payload as Frame;
use shoreguard_proto::v0_0::openshell::v1::tcp_forward_init::Target;

pub(super) fn create_ssh(
    gateway: &GatewayV0_0,
    request: pb::CreateSshSessionRequest,
) -> Result<pb::CreateSshSessionResponse, Status> {
    let session = gateway.core.with(|state| {
        let at = state.sandbox_key(&request.sandbox_id)?;
        state.create_ssh_session(&at)
    })?;
    Ok(pb::CreateSshSessionResponse {
        sandbox_id: session.sandbox_id,
        token: session.token,
        gateway_host: "127.0.0.1".to_owned(),
        gateway_port: u32::from(gateway.info.port),
        gateway_scheme: gateway.info.scheme.to_owned(),
        host_key_fingerprint: HOST_KEY.to_owned(),
        expires_at_ms: session.expires_ms,
    })
}

pub(super) fn revoke_ssh(
    gateway: &GatewayV0_0,
    request: pb::RevokeSshSessionRequest,
) -> Result<pb::RevokeSshSessionResponse, Status> {
    let revoked = gateway.core.with(|state| state.revoke_ssh_session(&request.token))?;
    Ok(pb::RevokeSshSessionResponse { revoked })
}

pub(super) fn logs(
    gateway: &GatewayV0_0,
    request: pb::GetSandboxLogsRequest,
) -> Result<pb::GetSandboxLogsResponse, Status> {
    let filter = LogFilter {
        since_ms: request.since_ms,
        sources: request.sources,
        min_level: request.min_level,
    };
    gateway.core.with(|state| {
        let at = state.sandbox_key(&request.sandbox_id)?;
        let sandbox = state.sandbox(&at)?;
        let lines = sandbox.tail(&filter, request.lines);
        Ok(pb::GetSandboxLogsResponse {
            logs: lines.iter().map(|line| render::log(&sandbox.meta.id, line)).collect(),
            buffer_total: u32::try_from(sandbox.logs.len()).unwrap_or(u32::MAX),
        })
    })
}

/// Refuses a sandbox that is not running.
fn check_running(gateway: &GatewayV0_0, id: &str) -> Result<(), Status> {
    gateway.core.with(|state| {
        let at = state.sandbox_key(id)?;
        state.sandbox(&at)?.check_running()
    })
}

fn output_event(output: CommandOutput) -> pb::ExecSandboxEvent {
    let payload = match output {
        CommandOutput::Out(data) => Event::Stdout(pb::ExecSandboxStdout { data }),
        CommandOutput::Err(data) => Event::Stderr(pb::ExecSandboxStderr { data }),
        CommandOutput::Exit(exit_code) => Event::Exit(pb::ExecSandboxExit { exit_code }),
    };
    pb::ExecSandboxEvent { payload: Some(payload) }
}

pub(super) fn exec(
    gateway: &GatewayV0_0,
    request: Request<pb::ExecSandboxRequest>,
) -> Result<ResponseStream<pb::ExecSandboxEvent>, Status> {
    let request = request.into_inner();
    check_command(&request.command, &request.environment)?;
    let environment = gateway.core.with(|state| {
        let at = state.sandbox_key(&request.sandbox_id)?;
        let sandbox = state.sandbox(&at)?;
        sandbox.check_running()?;
        Ok(sandbox.environment(request.environment))
    })?;
    let timeout =
        (request.timeout_seconds != 0).then(|| Duration::from_secs(request.timeout_seconds.into()));
    let terminal = request.tty.then_some((request.cols, request.rows));
    let pb::ExecSandboxRequest { command, workdir, stdin, .. } = request;
    let start = CommandSpec { command, workdir, environment, stdin, terminal };
    let running = gateway.core.commands.token();
    let run = streams::exec(&start, timeout).map(move |item| (&running, item.map(output_event)).1);
    Ok(until_stopped(run, &gateway.core.stop))
}

pub(super) async fn interact(
    gateway: &GatewayV0_0,
    request: Request<Streaming<pb::ExecSandboxInput>>,
) -> Result<ResponseStream<pb::ExecSandboxEvent>, Status> {
    let mut input = request.into_inner();
    let Some(Input::Start(start)) = input.message().await?.and_then(|first| first.payload) else {
        return Err(Status::invalid_argument("the first message must be start"));
    };
    check_command(&start.command, &start.environment)?;
    check_running(gateway, &start.sandbox_id)?;
    let timeout =
        (start.timeout_seconds != 0).then(|| Duration::from_secs(start.timeout_seconds.into()));
    let terminal = start.tty.then_some((start.cols, start.rows));
    let pb::ExecSandboxRequest { command, workdir, environment, .. } = start;
    let start = CommandSpec { command, workdir, environment, stdin: Bytes::new(), terminal };
    let stdin = input.filter_map(async |item| match item.map(|item| item.payload) {
        Ok(Some(Input::Stdin(data))) => Some(Ok(CommandInput::Data(data))),
        Ok(Some(Input::Resize(size))) => Some(Ok(CommandInput::Size(size.cols, size.rows))),
        Ok(Some(Input::Start(_)) | None) => {
            Some(Err(Status::invalid_argument("only stdin and resize may follow start")))
        }
        Err(status) => Some(Err(status)),
    });
    let running = gateway.core.commands.token();
    let run = streams::exec_interactive(&start, timeout, stdin, HalfClose::Aborts);
    let run = run.map(move |item| (&running, item.map(output_event)).1);
    Ok(until_stopped(run, &gateway.core.stop))
}

pub(super) async fn forward(
    gateway: &GatewayV0_0,
    request: Request<Streaming<pb::TcpForwardFrame>>,
) -> Result<ResponseStream<pb::TcpForwardFrame>, Status> {
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
    check_running(gateway, &init.sandbox_id)?;
    // A session token gives access to ports of the sandbox as well as to SSH.
    gateway
        .core
        .with(|state| state.check_ssh_token(&init.sandbox_id, &init.authorization_token))?;
    if stalled {
        return Ok(streams::leave_unread(&gateway.core, frames));
    }
    let echo = frames.map(|item| match item?.payload {
        Some(Frame::Data(data)) => Ok(pb::TcpForwardFrame { payload: Some(Frame::Data(data)) }),
        Some(Frame::Init(_)) | None => Err(Status::invalid_argument("only data may follow init")),
    });
    Ok(until_stopped(echo, &gateway.core.stop))
}

pub(super) fn watch(
    gateway: &GatewayV0_0,
    request: Request<pb::WatchSandboxRequest>,
) -> Result<ResponseStream<pb::SandboxStreamEvent>, Status> {
    let request = request.into_inner();
    let place = gateway.core.with(|state| state.sandbox_key(&request.id))?;
    let filter = LogFilter {
        since_ms: request.log_since_ms,
        sources: request.log_sources,
        min_level: request.log_min_level,
    };
    let watch = WatchOptions {
        status: request.follow_status,
        logs: request.follow_logs.then_some(filter),
        events: request.follow_events,
        log_tail: request.log_tail_lines,
        event_tail: request.event_tail,
        stop_on_terminal: request.stop_on_terminal,
    };
    let id = request.id;
    let events = streams::watch(&gateway.core, &place, watch)?.map(move |item| {
        let payload = match item? {
            WatchItem::Sandbox(sandbox) => StreamPayload::Sandbox(render::sandbox(&sandbox)),
            WatchItem::Log(line) => StreamPayload::Log(render::log(&id, &line)),
            WatchItem::Event(event) => StreamPayload::Event(render::event(&event)),
            WatchItem::Warning(message) => {
                StreamPayload::Warning(pb::SandboxStreamWarning { message })
            }
        };
        Ok(pb::SandboxStreamEvent { payload: Some(payload) })
    });
    Ok(until_stopped(events, &gateway.core.stop))
}
