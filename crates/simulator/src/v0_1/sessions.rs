//! Sessions in a sandbox: commands, SSH, forwarded ports, logs, and watch streams.

use std::time::Duration;

use bytes::Bytes;

use futures_util::{StreamExt as _, stream};
use tonic::{Request, Status, Streaming};

use super::scope::{deletion_outcome, single_workspace, to_millis, to_timestamp};
use super::{GatewayV0_1, render};
use crate::gateway::{CommandClaim, caller_key};
use crate::shell::{CommandSpec, check_command};
use crate::state::{HOST_KEY, LogFilter, ObjectKey};
use crate::streams::{
    self, CommandInput, CommandOutput, HalfClose, ResponseStream, STALLED_PORT, WatchItem,
    WatchOptions, until_stopped,
};
use shoreguard_proto::v0_1::openshell::v1 as pb;
use shoreguard_proto::v0_1::openshell::v1::exec_sandbox_event::Payload as Event;
use shoreguard_proto::v0_1::openshell::v1::exec_sandbox_input::Payload as Input;
use shoreguard_proto::v0_1::openshell::v1::sandbox_stream_event::Payload as StreamPayload;
use shoreguard_proto::v0_1::openshell::v1::tcp_forward_frame::Payload as Frame;
use shoreguard_proto::v0_1::openshell::v1::tcp_forward_init::Target;

pub(super) fn create_ssh(
    gateway: &GatewayV0_1,
    request: pb::CreateSshSessionRequest,
) -> Result<pb::CreateSshSessionResponse, Status> {
    let at = (single_workspace(request.workspace_scope)?, request.sandbox);
    let session = gateway.core.with(|state| state.create_ssh_session(&at))?;
    Ok(pb::CreateSshSessionResponse {
        sandbox_id: session.sandbox_id,
        token: session.token,
        gateway_host: "127.0.0.1".to_owned(),
        gateway_port: u32::from(gateway.info.port),
        gateway_scheme: gateway.info.scheme.to_owned(),
        host_key_fingerprint: HOST_KEY.to_owned(),
        expiration_time: to_timestamp(session.expires_ms),
    })
}

pub(super) fn revoke_ssh(
    gateway: &GatewayV0_1,
    request: pb::RevokeSshSessionRequest,
) -> Result<pb::RevokeSshSessionResponse, Status> {
    let revoked = gateway.core.with(|state| state.revoke_ssh_session(&request.token))?;
    let outcome = deletion_outcome("ssh session", revoked, request.allow_missing)?;
    Ok(pb::RevokeSshSessionResponse { outcome })
}

pub(super) fn logs(
    gateway: &GatewayV0_1,
    request: pb::GetSandboxLogsRequest,
) -> Result<pb::GetSandboxLogsResponse, Status> {
    let at = (single_workspace(request.workspace_scope)?, request.sandbox);
    let filter = LogFilter {
        since_ms: to_millis(request.since_time),
        sources: request.sources,
        min_level: request.min_level,
    };
    gateway.core.with(|state| {
        let sandbox = state.sandbox(&at)?;
        let lines = sandbox.tail(&filter, request.lines);
        Ok(pb::GetSandboxLogsResponse {
            logs: lines.iter().map(|line| render::log(&sandbox.meta.id, line)).collect(),
            buffer_total: u32::try_from(sandbox.logs.len()).unwrap_or(u32::MAX),
        })
    })
}

/// Returns the id of a sandbox, which must be running.
fn running_sandbox_id(gateway: &GatewayV0_1, at: &ObjectKey) -> Result<String, Status> {
    gateway.core.with(|state| {
        let sandbox = state.sandbox(at)?;
        sandbox.check_running()?;
        Ok(sandbox.meta.id.clone())
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

fn parse_timeout(timeout: Option<prost_types::Duration>) -> Result<Option<Duration>, Status> {
    timeout
        .map(Duration::try_from)
        .transpose()
        .map_err(|_| Status::invalid_argument("execution_timeout must not be negative"))
}

pub(super) fn exec(
    gateway: &GatewayV0_1,
    request: Request<pb::ExecSandboxRequest>,
) -> Result<ResponseStream<pb::ExecSandboxEvent>, Status> {
    let caller = caller_key(&request);
    let request = request.into_inner();
    check_command(&request.command, &request.environment)?;
    let claim = gateway.claim_command(&caller, ("exec_sandbox", &request.request_id), &request)?;
    let at = (single_workspace(request.workspace_scope)?, request.sandbox);
    let environment = gateway.core.with(|state| {
        let sandbox = state.sandbox(&at)?;
        sandbox.check_running()?;
        Ok(sandbox.environment(request.environment))
    })?;
    let timeout = parse_timeout(request.execution_timeout)?;
    let terminal = request.tty.then_some((request.cols, request.rows));
    let pb::ExecSandboxRequest { command, workdir, stdin, .. } = request;
    let start = CommandSpec { command, workdir, environment, stdin, terminal };
    let running = gateway.core.commands.token();
    let run = streams::exec(&start, timeout);
    let run = run.map(move |item| (&running, to_event(item, claim.as_ref())).1);
    Ok(until_stopped(run, &gateway.core.stop))
}

/// Converts an output item of a command. The exit is recorded for the request id of the command.
fn to_event(
    item: Result<CommandOutput, Status>,
    claim: Option<&CommandClaim>,
) -> Result<pb::ExecSandboxEvent, Status> {
    if let (Ok(CommandOutput::Exit(_)), Some(claim)) = (&item, claim) {
        claim.record_exit();
    }
    item.map(output_event)
}

pub(super) async fn interact(
    gateway: &GatewayV0_1,
    request: Request<Streaming<pb::ExecSandboxInput>>,
) -> Result<ResponseStream<pb::ExecSandboxEvent>, Status> {
    let caller = caller_key(&request);
    let mut input = request.into_inner();
    let Some(Input::Start(start)) = input.message().await?.and_then(|first| first.payload) else {
        return Err(Status::invalid_argument("the first message must be start"));
    };
    check_command(&start.command, &start.environment)?;
    let request_key = ("exec_sandbox_interactive", start.request_id.as_str());
    let claim = gateway.claim_command(&caller, request_key, &start)?;
    let timeout = parse_timeout(start.execution_timeout)?;
    running_sandbox_id(gateway, &(single_workspace(start.workspace_scope)?, start.sandbox))?;
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
    let run = streams::exec_interactive(&start, timeout, stdin, HalfClose::IsRead);
    let run = run.map(move |item| (&running, to_event(item, claim.as_ref())).1);
    Ok(until_stopped(run, &gateway.core.stop))
}

pub(super) async fn forward(
    gateway: &GatewayV0_1,
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
    let id = running_sandbox_id(gateway, &(init.workspace, init.sandbox))?;
    // A session token gives access to ports of the sandbox as well as to SSH.
    gateway.core.with(|state| state.check_ssh_token(&id, &init.authorization_token))?;
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
    gateway: &GatewayV0_1,
    request: Request<pb::WatchSandboxRequest>,
) -> Result<ResponseStream<pb::SandboxStreamEvent>, Status> {
    let request = request.into_inner();
    let place = (single_workspace(request.workspace_scope)?, request.sandbox);
    let filter = LogFilter {
        since_ms: to_millis(request.since_time),
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
    let id = gateway.core.with(|state| Ok(state.sandbox(&place)?.meta.id.clone()))?;
    let events = streams::watch(&gateway.core, &place, watch)?;
    // A cursor only counts the events of its own stream: a new stream begins with a snapshot again.
    let events = events.zip(stream::iter(1_u64..)).map(move |(item, count)| {
        let payload = match item? {
            WatchItem::Sandbox(sandbox) => StreamPayload::Sandbox(render::sandbox(&sandbox)),
            WatchItem::Log(line) => StreamPayload::Log(render::log(&id, &line)),
            WatchItem::Event(event) => StreamPayload::Event(render::event(&event)),
            WatchItem::Warning(message) => {
                StreamPayload::Warning(pb::SandboxStreamWarning { message })
            }
        };
        Ok(pb::SandboxStreamEvent { cursor: count.to_string(), payload: Some(payload) })
    });
    Ok(until_stopped(events, &gateway.core.stop))
}
