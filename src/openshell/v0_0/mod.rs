//! Generation 0.0: workspaces are strings, lists are paged by offset, and many requests identify sandboxes by id.

mod drafts;
mod policies;
mod providers;
mod settings;

use bytes::Bytes;
use prost::{DecodeError, Message};

pub(super) use self::drafts::{
    chunk_time, decode_draft_approved, decode_draft_undone, decode_drafts_cleared,
    encode_approve_draft, encode_clear_drafts, encode_edit_draft, encode_get_drafts,
    encode_reject_draft, encode_undo_draft,
};
pub(super) use self::policies::{
    decode_effective_policy, decode_policy_written, decode_revision_status, decode_revisions,
    encode_get_revision, encode_list_revisions, encode_policy_write,
};
pub(super) use self::providers::{
    decode_attached_providers, decode_providers, encode_get_provider, encode_list_providers,
};
pub(super) use self::settings::{
    decode_gateway_settings, decode_route, decode_sandbox_settings, decode_setting_changed,
    encode_change_setting, encode_get_settings,
};
use super::exec::{Command, Input, Output};
use super::sandbox::{
    Condition, NewSandbox, PAGE_SIZE, Page, Phase, Sandbox, parse_id, parse_name, sanitize_cause,
    sanitize_map, sanitize_text, sanitize_texts,
};
use super::ssh::SshSession;
use super::times::reported_time;
use super::watch::{LogLine, LogQuery, PlatformEvent, WatchEvent, WatchOptions};
use crate::clock::Timestamp;
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::pb::v0_0::openshell::sandbox::v1::SandboxPolicy;
use crate::pb::v0_0::openshell::v1 as pb;

fn from_millis(millis: i64) -> Option<Timestamp> {
    reported_time(millis.saturating_mul(1_000))
}

fn to_millis(at: Option<Timestamp>) -> i64 {
    at.map_or(0, |at| at.unix_micros() / 1_000)
}

pub(super) fn encode_create(new: &NewSandbox) -> Result<Vec<u8>, Error> {
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
        policy: policy.map_err(|_| Error::invalid("policy", "is not a valid policy"))?,
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
pub(super) fn encode_annotation(key: &str, value: &str) -> Vec<u8> {
    let annotations = [(key.to_owned(), value.to_owned())].into();
    pb::CreateSandboxRequest { annotations, ..Default::default() }.encode_to_vec()
}

pub(super) fn decode_create(request: &[u8]) -> Option<NewSandbox> {
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

pub(super) fn encode_name(sandbox: &SandboxName) -> Vec<u8> {
    let (name, workspace) = (sandbox.name.clone(), sandbox.workspace.clone());
    pb::GetSandboxRequest { name, workspace }.encode_to_vec()
}

pub(super) fn encode_list(workspace: Option<&str>, from: &str) -> Vec<u8> {
    let request = pb::ListSandboxesRequest {
        limit: PAGE_SIZE,
        offset: from.parse().unwrap_or_default(),
        workspace: workspace.unwrap_or_default().to_owned(),
        all_workspaces: workspace.is_none(),
        ..Default::default()
    };
    request.encode_to_vec()
}

/// Returns where the page after one with so many rows begins. A gateway may return fewer rows than requested, so only
/// an empty page is the last.
fn next_offset(from: &str, rows: usize) -> Option<String> {
    let offset = from.parse::<usize>().unwrap_or_default() + rows;
    (rows > 0).then(|| offset.to_string())
}

pub(super) fn decode_page(answer: &[u8], from: &str) -> Option<Page<Sandbox>> {
    let found = pb::ListSandboxesResponse::decode(answer).ok()?.sandboxes;
    let next = next_offset(from, found.len());
    Some((found.into_iter().filter_map(sandbox_from_wire).collect(), next))
}

pub(super) fn decode_sandbox(answer: &[u8]) -> Option<Sandbox> {
    sandbox_from_wire(pb::SandboxResponse::decode(answer).ok()?.sandbox?)
}

fn sandbox_from_wire(found: pb::Sandbox) -> Option<Sandbox> {
    let (meta, spec) = (found.metadata?, found.spec.unwrap_or_default());
    let status = found.status.unwrap_or_default();
    let phase = phase_from_wire(status.phase());
    let conditions = status.conditions.iter().take(super::sandbox::CONDITIONS_MAX);
    Some(Sandbox {
        full_name: parse_name(&meta.workspace, &meta.name)?,
        id: parse_id(&meta.id)?,
        phase,
        created_at: from_millis(meta.created_at_ms),
        image: spec.template.map(|template| sanitize_text(&template.image)).unwrap_or_default(),
        gpu: spec.resource_requirements.is_some_and(|needed| needed.gpu.is_some()),
        providers: sanitize_texts(&spec.providers),
        policy_version: status.current_policy_version,
        resource_version: meta.resource_version,
        labels: sanitize_map(&meta.labels),
        annotations: sanitize_map(&meta.annotations),
        conditions: conditions
            .map(|condition| Condition {
                kind: sanitize_text(&condition.r#type),
                status: sanitize_text(&condition.status),
                reason: sanitize_text(&condition.reason),
                message: sanitize_cause(&condition.message),
            })
            .collect(),
        exit_code: status.exit_code,
    })
}

fn phase_from_wire(phase: pb::SandboxPhase) -> Phase {
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

pub(super) fn decode_deleted(answer: &[u8]) -> Option<bool> {
    Some(pb::DeleteSandboxResponse::decode(answer).ok()?.deleted)
}

pub(super) fn encode_create_ssh(sandbox_id: &str) -> Vec<u8> {
    pb::CreateSshSessionRequest { sandbox_id: sandbox_id.to_owned() }.encode_to_vec()
}

pub(super) fn decode_ssh_session(answer: &[u8]) -> Option<SshSession> {
    let session = pb::CreateSshSessionResponse::decode(answer).ok()?;
    Some(SshSession {
        sandbox_id: session.sandbox_id,
        token: session.token,
        host: session.gateway_host,
        port: session.gateway_port,
        scheme: session.gateway_scheme,
        host_key_fingerprint: session.host_key_fingerprint,
        expires_at: from_millis(session.expires_at_ms),
    })
}

pub(super) fn encode_revoke_ssh(token: &str) -> Vec<u8> {
    pb::RevokeSshSessionRequest { token: token.to_owned() }.encode_to_vec()
}

pub(super) fn decode_revoked(answer: &[u8]) -> Option<bool> {
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

pub(super) fn encode_exec(sandbox_id: &str, command: &Command) -> Vec<u8> {
    exec_request(sandbox_id, command).encode_to_vec()
}

pub(super) fn encode_exec_start(sandbox_id: &str, command: &Command) -> Vec<u8> {
    let start = pb::exec_sandbox_input::Payload::Start(exec_request(sandbox_id, command));
    pb::ExecSandboxInput { payload: Some(start) }.encode_to_vec()
}

pub(super) fn encode_exec_input(input: Input) -> Vec<u8> {
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
pub(super) fn decode_exec_output(answer: Bytes) -> Result<Option<Output>, DecodeError> {
    let payload = pb::ExecSandboxEvent::decode(answer)?.payload;
    Ok(payload.map(|payload| match payload {
        pb::exec_sandbox_event::Payload::Stdout(out) => Output::Stdout(out.data),
        pb::exec_sandbox_event::Payload::Stderr(out) => Output::Stderr(out.data),
        pb::exec_sandbox_event::Payload::Exit(exit) => Output::Exit(exit.exit_code),
    }))
}

pub(super) fn encode_logs(sandbox_id: &str, sandbox: &SandboxName, query: &LogQuery) -> Vec<u8> {
    let request = pb::GetSandboxLogsRequest {
        sandbox_id: sandbox_id.to_owned(),
        lines: query.lines,
        since_ms: to_millis(query.since),
        sources: query.sources.clone(),
        min_level: String::new(),
        workspace: sandbox.workspace.clone(),
    };
    request.encode_to_vec()
}

pub(super) fn decode_logs(answer: &[u8]) -> Option<Vec<LogLine>> {
    let answer = pb::GetSandboxLogsResponse::decode(answer).ok()?;
    Some(answer.logs.iter().map(log_line_from_wire).collect())
}

fn log_line_from_wire(line: &pb::SandboxLogLine) -> LogLine {
    LogLine {
        at: from_millis(line.timestamp_ms),
        level: sanitize_text(&line.level),
        target: sanitize_text(&line.target),
        message: super::watch::sanitize_message(&line.message),
        source: sanitize_text(&line.source),
        fields: sanitize_map(&line.fields),
    }
}

pub(super) fn encode_watch(sandbox_id: &str, options: &WatchOptions) -> Vec<u8> {
    let request = pb::WatchSandboxRequest {
        id: sandbox_id.to_owned(),
        follow_status: true,
        follow_logs: options.logs,
        follow_events: options.events,
        log_tail_lines: options.log_tail,
        log_since_ms: to_millis(options.since),
        log_sources: options.sources.clone(),
        ..Default::default()
    };
    request.encode_to_vec()
}

/// Parses a message of a watch. Returns `None` if its type is unknown or not used.
pub(super) fn decode_watch_event(answer: Bytes) -> Result<Option<WatchEvent>, DecodeError> {
    let payload = pb::SandboxStreamEvent::decode(answer)?.payload;
    Ok(payload.and_then(|payload| match payload {
        pb::sandbox_stream_event::Payload::Sandbox(sandbox) => {
            sandbox_from_wire(sandbox).map(|sandbox| WatchEvent::Sandbox(Box::new(sandbox)))
        }
        pb::sandbox_stream_event::Payload::Log(line) => {
            Some(WatchEvent::Log(log_line_from_wire(&line)))
        }
        pb::sandbox_stream_event::Payload::Event(event) => Some(WatchEvent::Event(PlatformEvent {
            at: from_millis(event.timestamp_ms),
            source: sanitize_text(&event.source),
            kind: sanitize_text(&event.r#type),
            reason: sanitize_text(&event.reason),
            message: sanitize_text(&event.message),
        })),
        pb::sandbox_stream_event::Payload::Warning(warning) => {
            Some(WatchEvent::Warning(sanitize_text(&warning.message)))
        }
        pb::sandbox_stream_event::Payload::DraftPolicyUpdate(_) => None,
    }))
}
