//! Generation 0.0: workspaces are strings, lists are paged by offset, and many requests identify sandboxes by id.

mod settings;

use bytes::Bytes;
use prost::{DecodeError, Message};

pub(super) use self::settings::{
    ask_settings, change_setting, gateway_settings, sandbox_settings, setting_changed,
};
use super::exec::{Command, Input, Output};
use super::sandbox::{
    Condition, NewSandbox, PAGE, Page, Phase, Sandbox, id, map, place, text, texts,
};
use super::ssh::SshSession;
use super::watch::{Follow, LogLine, LogQuery, PlatformEvent, Seen};
use crate::clock::Timestamp;
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::pb::v0_0::openshell::sandbox::v1::SandboxPolicy;
use crate::pb::v0_0::openshell::v1 as pb;

fn at(ms: i64) -> Option<Timestamp> {
    (ms > 0).then(|| Timestamp::from_unix_micros(ms.saturating_mul(1_000)))
}

fn ms(at: Option<Timestamp>) -> i64 {
    at.map_or(0, |at| at.unix_micros() / 1_000)
}

pub(super) fn create(new: &NewSandbox) -> Result<Vec<u8>, Error> {
    let policy = new.policy.as_deref().map(SandboxPolicy::decode).transpose();
    if !new.workload_template.is_empty() {
        let why = "a gateway of generation 0.0 has no templates of its own";
        return Err(Error::invalid("workload_template", why));
    }
    let template = pb::SandboxTemplate { image: new.image.clone(), ..Default::default() };
    let gpu = pb::ResourceRequirements { gpu: Some(pb::GpuResourceRequirements::default()) };
    let spec = pb::SandboxSpec {
        log_level: new.log_level.clone(),
        environment: new.environment.clone().into_iter().collect(),
        template: (!new.image.is_empty()).then_some(template),
        policy: policy.map_err(|_| Error::invalid("policy", "is no policy"))?,
        providers: new.providers.clone(),
        resource_requirements: new.gpu.then_some(gpu),
        ..Default::default()
    };
    let request = pb::CreateSandboxRequest {
        spec: Some(spec),
        name: new.name.clone(),
        annotations: new.annotations.clone().into_iter().collect(),
        workspace: new.workspace.clone(),
        ..Default::default()
    };
    Ok(request.encode_to_vec())
}

/// Encodes a creation request that contains only one annotation.
pub(super) fn annotated(key: &str, value: &str) -> Vec<u8> {
    let annotations = [(key.to_owned(), value.to_owned())].into();
    pb::CreateSandboxRequest { annotations, ..Default::default() }.encode_to_vec()
}

pub(super) fn asked_for(request: &[u8]) -> Option<NewSandbox> {
    let request = pb::CreateSandboxRequest::decode(request).ok()?;
    let spec = request.spec.unwrap_or_default();
    Some(NewSandbox {
        workspace: request.workspace,
        name: request.name,
        image: spec.template.map(|template| template.image).unwrap_or_default(),
        gpu: spec.resource_requirements.is_some_and(|needed| needed.gpu.is_some()),
        providers: spec.providers,
        log_level: spec.log_level,
        ..NewSandbox::default()
    })
}

pub(super) fn named(of: &SandboxName) -> Vec<u8> {
    let (name, workspace) = (of.name.clone(), of.workspace.clone());
    pb::GetSandboxRequest { name, workspace }.encode_to_vec()
}

pub(super) fn list(workspace: Option<&str>, from: &str) -> Vec<u8> {
    let request = pb::ListSandboxesRequest {
        limit: PAGE,
        offset: from.parse().unwrap_or_default(),
        workspace: workspace.unwrap_or_default().to_owned(),
        all_workspaces: workspace.is_none(),
        ..Default::default()
    };
    request.encode_to_vec()
}

/// Parses a page. A gateway may return fewer sandboxes than requested, so only an empty page is the last.
pub(super) fn page(answer: &[u8], from: &str) -> Option<Page<Sandbox>> {
    let found = pb::ListSandboxesResponse::decode(answer).ok()?.sandboxes;
    let offset = from.parse::<usize>().unwrap_or_default() + found.len();
    let next = (!found.is_empty()).then(|| offset.to_string());
    Some((found.into_iter().filter_map(of_wire).collect(), next))
}

pub(super) fn sandbox(answer: &[u8]) -> Option<Sandbox> {
    of_wire(pb::SandboxResponse::decode(answer).ok()?.sandbox?)
}

fn of_wire(found: pb::Sandbox) -> Option<Sandbox> {
    let (meta, spec) = (found.metadata?, found.spec.unwrap_or_default());
    let status = found.status.unwrap_or_default();
    let phase = phase(status.phase());
    let conditions = status.conditions.iter().take(super::sandbox::CONDITIONS_MAX);
    Some(Sandbox {
        place: place(&meta.workspace, &meta.name)?,
        id: id(&meta.id)?,
        phase,
        created_at: at(meta.created_at_ms),
        image: spec.template.map(|template| text(&template.image)).unwrap_or_default(),
        gpu: spec.resource_requirements.is_some_and(|needed| needed.gpu.is_some()),
        providers: texts(&spec.providers),
        policy_version: status.current_policy_version,
        labels: map(&meta.labels),
        annotations: map(&meta.annotations),
        conditions: conditions
            .map(|condition| Condition {
                kind: text(&condition.r#type),
                status: text(&condition.status),
                reason: text(&condition.reason),
                message: text(&condition.message),
            })
            .collect(),
        exit_code: status.exit_code,
    })
}

fn phase(phase: pb::SandboxPhase) -> Phase {
    match phase {
        pb::SandboxPhase::Unspecified => Phase::Unspecified,
        pb::SandboxPhase::Provisioning => Phase::Provisioning,
        pb::SandboxPhase::Ready => Phase::Ready,
        pb::SandboxPhase::Error => Phase::Error,
        pb::SandboxPhase::Deleting => Phase::Deleting,
        pb::SandboxPhase::Unknown => Phase::Unknown,
        pb::SandboxPhase::Stopping => Phase::Stopping,
        pb::SandboxPhase::Stopped => Phase::Stopped,
        pb::SandboxPhase::Starting => Phase::Starting,
    }
}

pub(super) fn deleted(answer: &[u8]) -> Option<bool> {
    Some(pb::DeleteSandboxResponse::decode(answer).ok()?.deleted)
}

pub(super) fn create_ssh(sandbox_id: &str) -> Vec<u8> {
    pb::CreateSshSessionRequest { sandbox_id: sandbox_id.to_owned() }.encode_to_vec()
}

pub(super) fn ssh(answer: &[u8]) -> Option<SshSession> {
    let session = pb::CreateSshSessionResponse::decode(answer).ok()?;
    Some(SshSession {
        sandbox_id: session.sandbox_id,
        token: session.token,
        host: session.gateway_host,
        port: session.gateway_port,
        scheme: session.gateway_scheme,
        host_key_fingerprint: session.host_key_fingerprint,
        expires_at: at(session.expires_at_ms),
    })
}

pub(super) fn revoke_ssh(token: &str) -> Vec<u8> {
    pb::RevokeSshSessionRequest { token: token.to_owned() }.encode_to_vec()
}

pub(super) fn revoked(answer: &[u8]) -> Option<bool> {
    Some(pb::RevokeSshSessionResponse::decode(answer).ok()?.revoked)
}

fn exec_request(sandbox_id: &str, command: &Command) -> pb::ExecSandboxRequest {
    pb::ExecSandboxRequest {
        sandbox_id: sandbox_id.to_owned(),
        command: command.argv.clone(),
        workdir: command.workdir.clone(),
        environment: command.environment.clone().into_iter().collect(),
        timeout_seconds: u32::try_from(command.timeout.as_secs()).unwrap_or(u32::MAX),
        stdin: command.stdin.clone().into(),
        tty: command.tty,
        cols: command.size.0,
        rows: command.size.1,
    }
}

pub(super) fn exec(sandbox_id: &str, command: &Command) -> Vec<u8> {
    exec_request(sandbox_id, command).encode_to_vec()
}

pub(super) fn exec_start(sandbox_id: &str, command: &Command) -> Vec<u8> {
    let start = pb::exec_sandbox_input::Payload::Start(exec_request(sandbox_id, command));
    pb::ExecSandboxInput { payload: Some(start) }.encode_to_vec()
}

pub(super) fn exec_input(input: Input) -> Vec<u8> {
    let payload = match input {
        Input::Stdin(bytes) => pb::exec_sandbox_input::Payload::Stdin(bytes),
        Input::Resize { cols, rows } => {
            let size = pb::ExecSandboxWindowResize { cols, rows };
            pb::exec_sandbox_input::Payload::Resize(size)
        }
    };
    pb::ExecSandboxInput { payload: Some(payload) }.encode_to_vec()
}

/// Parses a message of a command. Returns `None` if its type is unknown.
pub(super) fn exec_output(answer: Bytes) -> Result<Option<Output>, DecodeError> {
    let payload = pb::ExecSandboxEvent::decode(answer)?.payload;
    Ok(payload.map(|payload| match payload {
        pb::exec_sandbox_event::Payload::Stdout(out) => Output::Stdout(out.data),
        pb::exec_sandbox_event::Payload::Stderr(out) => Output::Stderr(out.data),
        pb::exec_sandbox_event::Payload::Exit(exit) => Output::Exit(exit.exit_code),
    }))
}

pub(super) fn logs(sandbox_id: &str, of: &SandboxName, query: &LogQuery) -> Vec<u8> {
    let request = pb::GetSandboxLogsRequest {
        sandbox_id: sandbox_id.to_owned(),
        lines: query.lines,
        since_ms: ms(query.since),
        sources: query.sources.clone(),
        min_level: String::new(),
        workspace: of.workspace.clone(),
    };
    request.encode_to_vec()
}

pub(super) fn log_lines(answer: &[u8]) -> Option<Vec<LogLine>> {
    let answer = pb::GetSandboxLogsResponse::decode(answer).ok()?;
    Some(answer.logs.iter().map(log_line).collect())
}

fn log_line(line: &pb::SandboxLogLine) -> LogLine {
    LogLine {
        at: at(line.timestamp_ms),
        level: text(&line.level),
        target: text(&line.target),
        message: super::watch::message(&line.message),
        source: text(&line.source),
        fields: map(&line.fields),
    }
}

pub(super) fn watch(sandbox_id: &str, follow: &Follow) -> Vec<u8> {
    let request = pb::WatchSandboxRequest {
        id: sandbox_id.to_owned(),
        follow_status: true,
        follow_logs: follow.logs,
        follow_events: follow.events,
        log_tail_lines: follow.log_tail,
        log_since_ms: ms(follow.since),
        log_sources: follow.sources.clone(),
        ..Default::default()
    };
    request.encode_to_vec()
}

/// Parses a message of a watch. Returns `None` if its type is unknown or not used.
pub(super) fn seen(answer: Bytes) -> Result<Option<Seen>, DecodeError> {
    let payload = pb::SandboxStreamEvent::decode(answer)?.payload;
    Ok(payload.and_then(|payload| match payload {
        pb::sandbox_stream_event::Payload::Sandbox(sandbox) => {
            of_wire(sandbox).map(|sandbox| Seen::Sandbox(Box::new(sandbox)))
        }
        pb::sandbox_stream_event::Payload::Log(line) => Some(Seen::Log(log_line(&line))),
        pb::sandbox_stream_event::Payload::Event(event) => Some(Seen::Event(PlatformEvent {
            at: at(event.timestamp_ms),
            source: text(&event.source),
            kind: text(&event.r#type),
            reason: text(&event.reason),
            message: text(&event.message),
        })),
        pb::sandbox_stream_event::Payload::Warning(warning) => {
            Some(Seen::Warning(text(&warning.message)))
        }
        pb::sandbox_stream_event::Payload::DraftPolicyUpdate(_) => None,
    }))
}
