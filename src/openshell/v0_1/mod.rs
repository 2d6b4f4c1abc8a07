//! Generation 0.1: workspaces are selectors, lists have page tokens, and everything is identified by name.

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
use super::templates::WorkloadTemplate;
use super::watch::{Follow, LogLine, LogQuery, PlatformEvent, Seen};
use crate::clock::Timestamp;
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::pb::v0_1::openshell::datamodel::v1::{
    AllWorkspaces, WorkspaceSelector, workspace_selector::Selection,
};
use crate::pb::v0_1::openshell::sandbox::v1::SandboxPolicy;
use crate::pb::v0_1::openshell::v1 as pb;

fn at(time: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    let time = time?;
    let micros =
        time.seconds.saturating_mul(1_000_000).saturating_add(i64::from(time.nanos / 1_000));
    (micros > 0).then(|| Timestamp::from_unix_micros(micros))
}

fn time(at: Timestamp) -> prost_types::Timestamp {
    let micros = at.unix_micros();
    let nanos = micros.rem_euclid(1_000_000) * 1_000;
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(nanos).unwrap_or_default(),
    }
}

fn scope(workspace: &str) -> WorkspaceSelector {
    WorkspaceSelector { selection: Some(Selection::Workspace(workspace.to_owned())) }
}

pub(super) fn create(new: &NewSandbox) -> Result<Vec<u8>, Error> {
    let policy = new.policy.as_deref().map(SandboxPolicy::decode).transpose();
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
        workspace_scope: Some(scope(&new.workspace)),
        workload_template: new.workload_template.clone(),
        ..Default::default()
    };
    Ok(request.encode_to_vec())
}

fn workspace(scope: Option<WorkspaceSelector>) -> String {
    match scope.and_then(|scope| scope.selection) {
        Some(Selection::Workspace(name)) => name,
        Some(Selection::AllWorkspaces(_)) | None => String::new(),
    }
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
        workspace: workspace(request.workspace_scope),
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

pub(super) fn named(of: &SandboxName) -> Vec<u8> {
    let (name, workspace_scope) = (of.name.clone(), Some(scope(&of.workspace)));
    pb::GetSandboxRequest { name, workspace_scope }.encode_to_vec()
}

fn scope_or_all(workspace: Option<&str>) -> WorkspaceSelector {
    let all = || Selection::AllWorkspaces(AllWorkspaces {});
    let selection = workspace.map_or_else(all, |name| Selection::Workspace(name.to_owned()));
    WorkspaceSelector { selection: Some(selection) }
}

pub(super) fn list(workspace: Option<&str>, from: &str) -> Vec<u8> {
    let request = pb::ListSandboxesRequest {
        page_size: i32::try_from(PAGE).unwrap_or(i32::MAX),
        page_token: from.to_owned(),
        workspace_scope: Some(scope_or_all(workspace)),
        ..Default::default()
    };
    request.encode_to_vec()
}

pub(super) fn page(answer: &[u8]) -> Option<Page<Sandbox>> {
    let answer = pb::ListSandboxesResponse::decode(answer).ok()?;
    let next = Some(answer.next_page_token).filter(|token| !token.is_empty());
    Some((answer.sandboxes.into_iter().filter_map(of_wire).collect(), next))
}

pub(super) fn list_templates(from: &str) -> Vec<u8> {
    let request = pb::ListSandboxTemplatesRequest {
        page_token: from.to_owned(),
        workspace_scope: Some(scope_or_all(None)),
        ..Default::default()
    };
    request.encode_to_vec()
}

pub(super) fn get_template(workspace: &str, name: &str) -> Vec<u8> {
    let (name, workspace_scope) = (name.to_owned(), Some(scope(workspace)));
    pb::GetSandboxTemplateRequest { name, workspace_scope }.encode_to_vec()
}

pub(super) fn one_template(answer: &[u8]) -> Option<WorkloadTemplate> {
    template(pb::SandboxTemplateResponse::decode(answer).ok()?.template?)
}

pub(super) fn templates(answer: &[u8]) -> Option<Page<WorkloadTemplate>> {
    let answer = pb::ListSandboxTemplatesResponse::decode(answer).ok()?;
    let next = Some(answer.next_page_token).filter(|token| !token.is_empty());
    Some((answer.templates.into_iter().filter_map(template).collect(), next))
}

fn template(found: pb::SandboxWorkloadTemplate) -> Option<WorkloadTemplate> {
    let workload = found.spec.unwrap_or_default().workload.unwrap_or_default();
    let meta = found.metadata?;
    let SandboxName { workspace, name } = place(&meta.workspace, &meta.name)?;
    Some(WorkloadTemplate { name, workspace, image: text(&workload.image) })
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
        created_at: at(meta.created_time),
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
        pb::SandboxPhase::Completed => Phase::Completed,
    }
}

pub(super) fn deleted(answer: &[u8]) -> Option<bool> {
    let outcome = pb::DeleteSandboxResponse::decode(answer).ok()?.outcome();
    Some(there_was(outcome))
}

fn there_was(outcome: pb::DeletionOutcome) -> bool {
    match outcome {
        pb::DeletionOutcome::Completed | pb::DeletionOutcome::Accepted => true,
        pb::DeletionOutcome::Unspecified | pb::DeletionOutcome::AlreadyAbsent => false,
    }
}

pub(super) fn create_ssh(of: &SandboxName) -> Vec<u8> {
    let (sandbox, workspace_scope) = (of.name.clone(), Some(scope(&of.workspace)));
    pb::CreateSshSessionRequest { sandbox, workspace_scope }.encode_to_vec()
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
        expires_at: at(session.expiration_time),
    })
}

pub(super) fn revoke_ssh(token: &str) -> Vec<u8> {
    pb::RevokeSshSessionRequest { token: token.to_owned(), allow_missing: true }.encode_to_vec()
}

pub(super) fn revoked(answer: &[u8]) -> Option<bool> {
    Some(there_was(pb::RevokeSshSessionResponse::decode(answer).ok()?.outcome()))
}

fn exec_request(of: &SandboxName, command: &Command) -> pb::ExecSandboxRequest {
    pb::ExecSandboxRequest {
        workspace_scope: Some(scope(&of.workspace)),
        sandbox: of.name.clone(),
        command: command.argv.clone(),
        workdir: command.workdir.clone(),
        environment: command.environment.clone().into_iter().collect(),
        execution_timeout: (!command.timeout.is_zero()).then(|| span(command.timeout)),
        stdin: command.stdin.clone().into(),
        tty: command.tty,
        cols: command.size.0,
        rows: command.size.1,
        ..Default::default()
    }
}

fn span(of: std::time::Duration) -> prost_types::Duration {
    let seconds = i64::try_from(of.as_secs()).unwrap_or(i64::MAX);
    let nanos = i32::try_from(of.subsec_nanos()).unwrap_or_default();
    prost_types::Duration { seconds, nanos }
}

pub(super) fn exec(of: &SandboxName, command: &Command) -> Vec<u8> {
    exec_request(of, command).encode_to_vec()
}

pub(super) fn exec_start(of: &SandboxName, command: &Command) -> Vec<u8> {
    let start = pb::exec_sandbox_input::Payload::Start(exec_request(of, command));
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

pub(super) fn logs(of: &SandboxName, query: &LogQuery) -> Vec<u8> {
    let request = pb::GetSandboxLogsRequest {
        sandbox: of.name.clone(),
        lines: query.lines,
        since_time: query.since.map(time),
        sources: query.sources.clone(),
        min_level: String::new(),
        workspace_scope: Some(scope(&of.workspace)),
    };
    request.encode_to_vec()
}

pub(super) fn log_lines(answer: &[u8]) -> Option<Vec<LogLine>> {
    let answer = pb::GetSandboxLogsResponse::decode(answer).ok()?;
    Some(answer.logs.iter().map(log_line).collect())
}

fn log_line(line: &pb::SandboxLogLine) -> LogLine {
    LogLine {
        at: at(line.event_time),
        level: text(&line.level),
        target: text(&line.target),
        message: super::watch::message(&line.message),
        source: text(&line.source),
        fields: map(&line.fields),
    }
}

pub(super) fn watch(of: &SandboxName, follow: &Follow) -> Vec<u8> {
    let request = pb::WatchSandboxRequest {
        workspace_scope: Some(scope(&of.workspace)),
        sandbox: of.name.clone(),
        follow_status: true,
        follow_logs: follow.logs,
        follow_events: follow.events,
        log_tail_lines: follow.log_tail,
        since_time: follow.since.map(time),
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
            at: at(event.event_time),
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
