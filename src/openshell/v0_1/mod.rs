//! Generation 0.1: workspaces are selectors, lists have page tokens, and everything is identified by name.

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
    decode_gateway_settings, decode_sandbox_settings, decode_setting_changed,
    encode_change_setting, encode_get_settings,
};
use super::exec::{Command, Input, Output};
use super::sandbox::{
    Condition, NewSandbox, PAGE_SIZE, Page, Phase, Sandbox, parse_id, parse_name, sanitize_cause,
    sanitize_map, sanitize_text, sanitize_texts,
};
use super::ssh::SshSession;
use super::templates::WorkloadTemplate;
use super::times::reported_time;
use super::watch::{LogLine, LogQuery, PlatformEvent, WatchEvent, WatchOptions};
use crate::clock::Timestamp;
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::pb::v0_1::openshell::datamodel::v1::{
    AllWorkspaces, WorkspaceSelector, workspace_selector::Selection,
};
use crate::pb::v0_1::openshell::sandbox::v1::SandboxPolicy;
use crate::pb::v0_1::openshell::v1 as pb;

fn time_from_wire(time: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    let time = time?;
    let micros =
        time.seconds.saturating_mul(1_000_000).saturating_add(i64::from(time.nanos / 1_000));
    reported_time(micros)
}

fn time_to_wire(at: Timestamp) -> prost_types::Timestamp {
    let micros = at.unix_micros();
    let nanos = micros.rem_euclid(1_000_000) * 1_000;
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(nanos).unwrap_or_default(),
    }
}

fn workspace_selector(workspace: &str) -> WorkspaceSelector {
    WorkspaceSelector { selection: Some(Selection::Workspace(workspace.to_owned())) }
}

pub(super) fn encode_create(new: &NewSandbox) -> Result<Vec<u8>, Error> {
    let policy = new.policy.as_deref().map(SandboxPolicy::decode).transpose();
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
        workspace_scope: Some(workspace_selector(&new.workspace)),
        workload_template: new.workload_template.clone(),
        ..Default::default()
    };
    Ok(request.encode_to_vec())
}

fn selected_workspace(scope: Option<WorkspaceSelector>) -> String {
    match scope.and_then(|scope| scope.selection) {
        Some(Selection::Workspace(name)) => name,
        Some(Selection::AllWorkspaces(_)) | None => String::new(),
    }
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
        workspace: selected_workspace(request.workspace_scope),
        name: request.name,
        image: spec.template.map(|template| template.image).unwrap_or_default(),
        gpu: spec.resource_requirements.is_some_and(|needed| needed.gpu.is_some()),
        providers: spec.providers,
        log_level: spec.log_level,
        workload_template: request.workload_template,
        request_id: request.request_id,
        ..NewSandbox::default()
    })
}

pub(super) fn encode_name(sandbox: &SandboxName) -> Vec<u8> {
    let (name, workspace_scope) =
        (sandbox.name.clone(), Some(workspace_selector(&sandbox.workspace)));
    pb::GetSandboxRequest { name, workspace_scope }.encode_to_vec()
}

fn selector_or_all(workspace: Option<&str>) -> WorkspaceSelector {
    let all = || Selection::AllWorkspaces(AllWorkspaces {});
    let selection = workspace.map_or_else(all, |name| Selection::Workspace(name.to_owned()));
    WorkspaceSelector { selection: Some(selection) }
}

pub(super) fn encode_list(workspace: Option<&str>, from: &str) -> Vec<u8> {
    let request = pb::ListSandboxesRequest {
        page_size: i32::try_from(PAGE_SIZE).unwrap_or(i32::MAX),
        page_token: from.to_owned(),
        workspace_scope: Some(selector_or_all(workspace)),
        ..Default::default()
    };
    request.encode_to_vec()
}

/// Returns the token of the next page; `None` if this is the last.
fn next_page(token: String) -> Option<String> {
    (!token.is_empty()).then_some(token)
}

pub(super) fn decode_page(answer: &[u8]) -> Option<Page<Sandbox>> {
    let answer = pb::ListSandboxesResponse::decode(answer).ok()?;
    let next = next_page(answer.next_page_token);
    Some((answer.sandboxes.into_iter().filter_map(sandbox_from_wire).collect(), next))
}

pub(super) fn encode_list_templates(from: &str) -> Vec<u8> {
    let request = pb::ListSandboxTemplatesRequest {
        page_token: from.to_owned(),
        workspace_scope: Some(selector_or_all(None)),
        ..Default::default()
    };
    request.encode_to_vec()
}

pub(super) fn encode_get_template(workspace: &str, name: &str) -> Vec<u8> {
    let (name, workspace_scope) = (name.to_owned(), Some(workspace_selector(workspace)));
    pb::GetSandboxTemplateRequest { name, workspace_scope }.encode_to_vec()
}

pub(super) fn decode_template(answer: &[u8]) -> Option<WorkloadTemplate> {
    template_from_wire(pb::SandboxTemplateResponse::decode(answer).ok()?.template?)
}

pub(super) fn decode_templates(answer: &[u8]) -> Option<Page<WorkloadTemplate>> {
    let answer = pb::ListSandboxTemplatesResponse::decode(answer).ok()?;
    let next = next_page(answer.next_page_token);
    Some((answer.templates.into_iter().filter_map(template_from_wire).collect(), next))
}

fn template_from_wire(found: pb::SandboxWorkloadTemplate) -> Option<WorkloadTemplate> {
    let workload = found.spec.unwrap_or_default().workload.unwrap_or_default();
    let meta = found.metadata?;
    let SandboxName { workspace, name } = parse_name(&meta.workspace, &meta.name)?;
    Some(WorkloadTemplate { name, workspace, image: sanitize_text(&workload.image) })
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
        created_at: time_from_wire(meta.created_time),
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
        pb::SandboxPhase::Completed => Phase::Completed,
    }
}

pub(super) fn decode_deleted(answer: &[u8]) -> Option<bool> {
    let outcome = pb::DeleteSandboxResponse::decode(answer).ok()?.outcome();
    Some(existed(outcome))
}

fn existed(outcome: pb::DeletionOutcome) -> bool {
    match outcome {
        pb::DeletionOutcome::Completed | pb::DeletionOutcome::Accepted => true,
        pb::DeletionOutcome::Unspecified | pb::DeletionOutcome::AlreadyAbsent => false,
    }
}

pub(super) fn encode_create_ssh(sandbox: &SandboxName) -> Vec<u8> {
    let (sandbox, workspace_scope) =
        (sandbox.name.clone(), Some(workspace_selector(&sandbox.workspace)));
    pb::CreateSshSessionRequest { sandbox, workspace_scope }.encode_to_vec()
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
        expires_at: time_from_wire(session.expiration_time),
    })
}

pub(super) fn encode_revoke_ssh(token: &str) -> Vec<u8> {
    pb::RevokeSshSessionRequest { token: token.to_owned(), allow_missing: true }.encode_to_vec()
}

pub(super) fn decode_revoked(answer: &[u8]) -> Option<bool> {
    Some(existed(pb::RevokeSshSessionResponse::decode(answer).ok()?.outcome()))
}

fn exec_request(sandbox: &SandboxName, command: &Command) -> pb::ExecSandboxRequest {
    pb::ExecSandboxRequest {
        workspace_scope: Some(workspace_selector(&sandbox.workspace)),
        sandbox: sandbox.name.clone(),
        command: command.argv.clone(),
        workdir: command.workdir.clone(),
        environment: command.environment.clone().into_iter().collect(),
        execution_timeout: (!command.timeout.is_zero()).then(|| duration_to_wire(command.timeout)),
        stdin: command.stdin.clone().into(),
        tty: command.tty,
        cols: command.size.0,
        rows: command.size.1,
        ..Default::default()
    }
}

fn duration_to_wire(duration: std::time::Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let nanos = i32::try_from(duration.subsec_nanos()).unwrap_or_default();
    prost_types::Duration { seconds, nanos }
}

pub(super) fn encode_exec(sandbox: &SandboxName, command: &Command) -> Vec<u8> {
    exec_request(sandbox, command).encode_to_vec()
}

pub(super) fn encode_exec_start(sandbox: &SandboxName, command: &Command) -> Vec<u8> {
    let start = pb::exec_sandbox_input::Payload::Start(exec_request(sandbox, command));
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

pub(super) fn encode_logs(sandbox: &SandboxName, query: &LogQuery) -> Vec<u8> {
    let request = pb::GetSandboxLogsRequest {
        sandbox: sandbox.name.clone(),
        lines: query.lines,
        since_time: query.since.map(time_to_wire),
        sources: query.sources.clone(),
        min_level: String::new(),
        workspace_scope: Some(workspace_selector(&sandbox.workspace)),
    };
    request.encode_to_vec()
}

pub(super) fn decode_logs(answer: &[u8]) -> Option<Vec<LogLine>> {
    let answer = pb::GetSandboxLogsResponse::decode(answer).ok()?;
    Some(answer.logs.iter().map(log_line_from_wire).collect())
}

fn log_line_from_wire(line: &pb::SandboxLogLine) -> LogLine {
    LogLine {
        at: time_from_wire(line.event_time),
        level: sanitize_text(&line.level),
        target: sanitize_text(&line.target),
        message: super::watch::sanitize_message(&line.message),
        source: sanitize_text(&line.source),
        fields: sanitize_map(&line.fields),
    }
}

pub(super) fn encode_watch(sandbox: &SandboxName, options: &WatchOptions) -> Vec<u8> {
    let request = pb::WatchSandboxRequest {
        workspace_scope: Some(workspace_selector(&sandbox.workspace)),
        sandbox: sandbox.name.clone(),
        follow_status: true,
        follow_logs: options.logs,
        follow_events: options.events,
        log_tail_lines: options.log_tail,
        since_time: options.since.map(time_to_wire),
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
            at: time_from_wire(event.event_time),
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
