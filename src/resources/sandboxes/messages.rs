//! Conversions of sandboxes, commands and log lines from and to protobuf messages.

use std::time::Duration;

use super::bypass::{BypassFilter, BypassPage};
use super::create::{CreateRequest, SandboxCreation};
use super::domain::SandboxWithMeta;
use super::input;
use super::logs::{self, LogLevel};
use super::templates::{ListedTemplate, TemplatePage};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::etag;
use crate::labels::Labels;
use crate::openshell::exec::{Command, Input, Output};
use crate::openshell::sandbox::{Condition, NewSandbox, Phase};
use crate::openshell::ssh::SshSession;
use crate::openshell::watch::{LogLine, LogQuery, PlatformEvent, WatchOptions};
use crate::pb::v1 as pb;
use crate::policy::DOCUMENT_BYTES_MAX;
use crate::resources::bypass_events::domain::BypassEvent;
use crate::resources::bypass_events::ocsf::Disposition;
use crate::rpc::wire;

/// Sources of log lines.
const SOURCES: [&str; 2] = ["gateway", "sandbox"];

impl TryFrom<pb::CreateSandboxRequest> for CreateRequest {
    type Error = Error;

    fn try_from(req: pb::CreateSandboxRequest) -> Result<Self, Error> {
        let name =
            if req.name.is_empty() { String::new() } else { input::name("name", &req.name)? };
        let workload_template = if req.gateway_template.is_empty() {
            String::new()
        } else {
            input::name("gateway_template", &req.gateway_template)?
        };
        let new = NewSandbox {
            workspace: input::workspace(&req.workspace)?,
            name,
            image: input::line("image", req.image, input::IMAGE_CHARACTERS_MAX)?,
            gpu: req.gpu,
            providers: input::providers(&req.providers)?,
            environment: input::environment(req.environment.into_iter().collect())?,
            log_level: input::log_level(&req.log_level)?,
            workload_template,
            ..NewSandbox::default()
        };
        let bytes = req.policy.len();
        if bytes > DOCUMENT_BYTES_MAX {
            let why = format!("must be at most {DOCUMENT_BYTES_MAX} bytes, got {bytes}");
            return Err(Error::invalid("policy", why));
        }
        let create = SandboxCreation {
            new,
            description: input::description(req.description)?,
            labels: input::labels(req.labels.into_iter().collect())?.into_map(),
            skip_hooks: req.skip_hooks,
            brings_policy: None,
            presets: Vec::new(),
        };
        let template = input::line("template", req.template, input::NAME_CHARACTERS_MAX)?;
        let (policy, validate_only) = (req.policy, req.validate_only);
        Ok(CreateRequest { create, template, policy, validate_only })
    }
}

impl From<SandboxWithMeta> for pb::Sandbox {
    fn from(described: SandboxWithMeta) -> Self {
        let SandboxWithMeta { gateway, sandbox, meta } = described;
        let labels = Labels::from_json(meta.as_ref().and_then(|meta| meta.labels_json.as_deref()));
        Self {
            gateway,
            workspace: sandbox.full_name.workspace,
            name: sandbox.full_name.name,
            id: sandbox.id,
            phase: pb::SandboxPhase::from(sandbox.phase).into(),
            create_time: sandbox.created_at.map(wire::to_timestamp),
            image: sandbox.image,
            gpu: sandbox.gpu,
            providers: sandbox.providers,
            policy_version: sandbox.policy_version,
            conditions: sandbox.conditions.into_iter().map(Into::into).collect(),
            exit_code: sandbox.exit_code,
            gateway_labels: sandbox.labels.into_iter().collect(),
            gateway_annotations: sandbox.annotations.into_iter().collect(),
            labels: labels.into_map().into_iter().collect(),
            metadata_update_time: meta.as_ref().and_then(|m| m.updated_at).map(wire::to_timestamp),
            etag: meta.as_ref().map(|meta| etag::from_version(meta.version)).unwrap_or_default(),
            description: meta.and_then(|meta| meta.description).unwrap_or_default(),
        }
    }
}

impl From<Condition> for pb::SandboxCondition {
    fn from(condition: Condition) -> Self {
        let Condition { kind, status, reason, message } = condition;
        Self { r#type: kind, status, reason, message }
    }
}

impl From<Phase> for pb::SandboxPhase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Unspecified => Self::Unspecified,
            Phase::Provisioning => Self::Provisioning,
            Phase::Ready => Self::Ready,
            Phase::Error => Self::Error,
            Phase::Deleting => Self::Deleting,
            Phase::Unknown => Self::Unknown,
            Phase::Stopping => Self::Stopping,
            Phase::Stopped => Self::Stopped,
            Phase::Starting => Self::Starting,
            Phase::Completed => Self::Completed,
        }
    }
}

fn timeout(given: Option<prost_types::Duration>) -> Result<Duration, Error> {
    wire::parse_duration("timeout", given.unwrap_or_default())
}

fn size(given: Option<pb::TerminalSize>) -> (u32, u32) {
    given.map(|size| (size.cols, size.rows)).unwrap_or_default()
}

impl TryFrom<pb::ExecSandboxRequest> for Command {
    type Error = Error;

    fn try_from(req: pb::ExecSandboxRequest) -> Result<Self, Error> {
        input::command(Self {
            argv: req.command,
            workdir: req.workdir,
            environment: input::environment(req.environment.into_iter().collect())?,
            timeout: timeout(req.timeout)?,
            stdin: Vec::new(),
            tty: req.tty,
            size: size(req.size),
        })
    }
}

impl TryFrom<pb::StartExecSandboxRequest> for Command {
    type Error = Error;

    fn try_from(req: pb::StartExecSandboxRequest) -> Result<Self, Error> {
        input::command(Self {
            argv: req.command,
            workdir: req.workdir,
            environment: input::environment(req.environment.into_iter().collect())?,
            timeout: timeout(req.timeout)?,
            stdin: req.stdin.into(),
            tty: req.tty,
            size: (0, 0),
        })
    }
}

/// Converts a piece of input for a command.
pub(super) fn input(given: pb::exec_sandbox_request::Input) -> Result<Input, Error> {
    match given {
        pb::exec_sandbox_request::Input::Stdin(bytes) => Ok(Input::Stdin(bytes)),
        pb::exec_sandbox_request::Input::Resize(to) => {
            let (cols, rows) = input::size("resize", (to.cols, to.rows))?;
            Ok(Input::Resize { cols, rows })
        }
    }
}

impl From<Output> for pb::ExecSandboxResponse {
    fn from(output: Output) -> Self {
        use pb::exec_sandbox_response::Output as Wire;
        let output = match output {
            Output::Stdout(bytes) => Wire::Stdout(bytes),
            Output::Stderr(bytes) => Wire::Stderr(bytes),
            Output::Exit(code) => Wire::ExitCode(code),
        };
        Self { output: Some(output) }
    }
}

impl TryFrom<pb::GetSandboxLogsRequest> for logs::LogRequest {
    type Error = Error;

    fn try_from(req: pb::GetSandboxLogsRequest) -> Result<Self, Error> {
        let bad = || Error::invalid("lines", format!("must be 0 to {}", logs::LINES_MAX));
        let lines = u32::try_from(req.lines).map_err(|_| bad())?;
        if lines > logs::LINES_MAX {
            return Err(bad());
        }
        let lines = if lines == 0 { logs::LINES_DEFAULT } else { lines };
        let least = match req.min_level.as_str() {
            "" => None,
            word => Some(LogLevel::parse(word).ok_or_else(|| {
                let why = "must be `error`, `warn`, `info`, `debug`, `trace` or empty";
                Error::invalid("min_level", why)
            })?),
        };
        let since = req.since_time.map(|at| wire::parse_timestamp("since_time", at)).transpose()?;
        let of = LogQuery { lines: logs::LINES_MAX, since, sources: sources(req.sources)? };
        Ok(Self { log_query: of, lines: lines as usize, least, ocsf_only: req.ocsf_only })
    }
}

fn sources(given: Vec<String>) -> Result<Vec<String>, Error> {
    if given.len() > SOURCES.len() || given.iter().any(|one| !SOURCES.contains(&one.as_str())) {
        return Err(Error::invalid("sources", "must be among `gateway` and `sandbox`, each once"));
    }
    Ok(given)
}

impl TryFrom<pb::WatchSandboxRequest> for WatchOptions {
    type Error = Error;

    fn try_from(req: pb::WatchSandboxRequest) -> Result<Self, Error> {
        let tail = u32::try_from(req.log_tail).ok().filter(|tail| *tail <= logs::TAIL_MAX);
        let bad = || Error::invalid("log_tail", format!("must be 0 to {}", logs::TAIL_MAX));
        let log_tail = tail.ok_or_else(bad)?;
        Ok(Self { logs: req.logs, events: req.events, log_tail, ..Self::default() })
    }
}

impl From<LogLine> for pb::SandboxLogLine {
    fn from(line: LogLine) -> Self {
        let LogLine { at, level, target, message, source, fields } = line;
        let fields = fields.into_iter().collect();
        Self { log_time: at.map(wire::to_timestamp), level, target, message, source, fields }
    }
}

impl From<PlatformEvent> for pb::SandboxEvent {
    fn from(event: PlatformEvent) -> Self {
        let PlatformEvent { at, source, kind, reason, message } = event;
        Self { event_time: at.map(wire::to_timestamp), source, r#type: kind, reason, message }
    }
}

impl From<SshSession> for pb::CreateSshSessionResponse {
    fn from(session: SshSession) -> Self {
        Self {
            sandbox_id: session.sandbox_id,
            token: session.token,
            host: session.host,
            port: session.port,
            scheme: session.scheme,
            host_key_fingerprint: session.host_key_fingerprint,
            expire_time: session.expires_at.map(wire::to_timestamp),
        }
    }
}

impl TryFrom<pb::ListBypassEventsRequest> for BypassFilter {
    type Error = Error;

    fn try_from(req: pb::ListBypassEventsRequest) -> Result<Self, Error> {
        let sandbox = input::full_name(&req.workspace, &req.sandbox)?;
        let id = input::line("sandbox_id", req.sandbox_id, input::ID_CHARACTERS_MAX)?;
        let since = req.since_time.map(|at| wire::parse_timestamp("since_time", at)).transpose()?;
        let since = since.unwrap_or(Timestamp::EPOCH);
        Ok(Self { sandbox, sandbox_id: Some(id).filter(|id| !id.is_empty()), since })
    }
}

impl From<BypassPage> for pb::ListBypassEventsResponse {
    fn from(page: BypassPage) -> Self {
        let owned = |(word, count): (&str, i64)| (word.to_owned(), count);
        Self {
            bypass_events: page.events.into_iter().map(Into::into).collect(),
            next_page_token: page.next,
            sandbox_id: page.sandbox_id,
            count_by_technique: page.by_technique.into_iter().map(owned).collect(),
            count_by_severity: page.by_severity.into_iter().map(owned).collect(),
            latest_time: page.latest.map(wire::to_timestamp),
            dropped: page.dropped,
            log_gaps: page.log_gaps,
            logs_followed: page.is_followed,
        }
    }
}

impl From<BypassEvent> for pb::BypassEvent {
    fn from(event: BypassEvent) -> Self {
        let disposition = event.raw_disposition.map(Disposition::as_str);
        Self {
            id: event.id,
            sandbox_id: event.sandbox_uid,
            log_time: Some(wire::to_timestamp(event.at)),
            create_time: Some(wire::to_timestamp(event.created_at)),
            severity: event.severity.as_str().to_owned(),
            technique: event.technique.as_str().to_owned(),
            mitre_id: event.mitre_id,
            binary: event.binary.unwrap_or_default(),
            summary: event.summary,
            fields: event.fields_json.0.into_iter().collect(),
            raw_class: event.raw_class.as_str().to_owned(),
            raw_disposition: disposition.unwrap_or_default().to_owned(),
        }
    }
}

impl From<TemplatePage> for pb::ListSandboxTemplatesResponse {
    fn from(listed: TemplatePage) -> Self {
        Self {
            sandbox_templates: listed.page.into_iter().map(Into::into).collect(),
            next_page_token: listed.next,
            gateway_unreachable: listed.missing.is_some(),
            gateway_error: listed.missing.unwrap_or_default(),
        }
    }
}

impl From<ListedTemplate> for pb::SandboxTemplate {
    fn from(template: ListedTemplate) -> Self {
        match template {
            ListedTemplate::Server(ours) => Self {
                name: ours.name,
                description: ours.description,
                category: ours.category,
                of_gateway: false,
                image: ours.image,
                gpu: ours.gpu,
                providers: ours.providers,
                environment: ours.environment.into_iter().collect(),
                presets: ours.presets,
                workspace: String::new(),
            },
            ListedTemplate::Gateway(theirs) => Self {
                name: theirs.name,
                workspace: theirs.workspace,
                image: theirs.image,
                of_gateway: true,
                ..Self::default()
            },
        }
    }
}
