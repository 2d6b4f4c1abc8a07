//! Converts the state to messages of generation 0.0.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::state::{
    Chunk, Config, LogLine, Member, Meta, Phase, PlatformEvent, Provider, Refresh, Revision,
    Sandbox, Service, Workspace, security_notes,
};
use shoreguard_proto::v0_0::openshell::datamodel::v1 as dm;
use shoreguard_proto::v0_0::openshell::sandbox::v1 as sb;
use shoreguard_proto::v0_0::openshell::v1 as pb;

/// The confidence of every proposal.
const CONFIDENCE: f32 = 0.8;

pub(crate) fn meta(meta: &Meta) -> dm::ObjectMeta {
    dm::ObjectMeta {
        id: meta.id.clone(),
        name: meta.name.clone(),
        created_at_ms: meta.created_ms,
        labels: meta.labels.clone(),
        resource_version: meta.resource_version,
        annotations: meta.annotations.clone(),
        workspace: meta.workspace.clone(),
        deletion_timestamp_ms: meta.deletion_ms,
    }
}

pub(crate) fn sandbox(sandbox: &Sandbox) -> pb::Sandbox {
    let ready = if sandbox.phase == Phase::Ready { "True" } else { "False" };
    let when = OffsetDateTime::from_unix_timestamp_nanos(i128::from(sandbox.phase_ms) * 1_000_000);
    let when = when.ok().and_then(|when| when.format(&Rfc3339).ok()).unwrap_or_default();
    pb::Sandbox {
        metadata: Some(meta(&sandbox.meta)),
        spec: Some(sandbox.spec.clone()),
        status: Some(pb::SandboxStatus {
            sandbox_name: sandbox.meta.name.clone(),
            conditions: vec![pb::SandboxCondition {
                r#type: "Ready".to_owned(),
                status: ready.to_owned(),
                reason: sandbox.phase.as_str_name().to_owned(),
                message: sandbox.phase_reason.clone(),
                last_transition_time: when,
            }],
            phase: sandbox.phase.into(),
            current_policy_version: sandbox.loaded_version,
            ..pb::SandboxStatus::default()
        }),
    }
}

pub(crate) fn provider(provider: &Provider) -> dm::Provider {
    dm::Provider {
        metadata: Some(meta(&provider.meta)),
        r#type: provider.kind.clone(),
        credentials: provider.credentials.clone(),
        config: provider.config.clone(),
        credential_expires_at_ms: provider.expires_ms.clone(),
        profile_workspace: provider.profile_workspace.clone(),
        ..dm::Provider::default()
    }
}

pub(crate) fn refresh(refresh: &Refresh) -> pb::ProviderCredentialRefreshStatus {
    pb::ProviderCredentialRefreshStatus {
        provider_name: refresh.provider.clone(),
        provider_id: refresh.provider_id.clone(),
        credential_key: refresh.key.clone(),
        strategy: refresh.strategy,
        status: if refresh.last_ms == 0 { "pending" } else { "ok" }.to_owned(),
        expires_at_ms: refresh.expires_ms,
        next_refresh_at_ms: refresh.expires_ms,
        last_refresh_at_ms: refresh.last_ms,
        ..pb::ProviderCredentialRefreshStatus::default()
    }
}

pub(crate) fn service(service: &Service) -> pb::ServiceEndpoint {
    pb::ServiceEndpoint {
        metadata: Some(meta(&service.meta)),
        sandbox_id: service.sandbox_id.clone(),
        sandbox_name: service.sandbox.clone(),
        service_name: service.meta.name.clone(),
        target_port: service.port,
        domain: service.domain,
    }
}

pub(crate) fn workspace(workspace: &Workspace) -> dm::Workspace {
    let phase = dm::WorkspacePhase::Active.into();
    dm::Workspace {
        metadata: Some(meta(&workspace.meta)),
        status: Some(dm::WorkspaceStatus { phase }),
    }
}

pub(crate) fn member(member: &Member) -> pb::WorkspaceMember {
    pb::WorkspaceMember {
        metadata: Some(meta(&member.meta)),
        principal_subject: member.subject.clone(),
        role: member.role,
    }
}

/// Returns a revision without its policy.
pub(crate) fn revision(revision: &Revision) -> pb::SandboxPolicyRevision {
    pb::SandboxPolicyRevision {
        version: revision.version,
        policy_hash: revision.hash.clone(),
        status: revision.status.into(),
        load_error: revision.load_error.clone(),
        created_at_ms: revision.created_ms,
        loaded_at_ms: revision.loaded_ms,
        policy: None,
        provenance: revision.provenance.clone(),
    }
}

pub(crate) fn config(config: Config, workspace: &str) -> sb::GetSandboxConfigResponse {
    let source = match config.global_version {
        Some(_) => sb::PolicySource::Global,
        None => sb::PolicySource::Sandbox,
    };
    sb::GetSandboxConfigResponse {
        policy: config.policy,
        version: config.version,
        policy_hash: config.hash,
        settings: config.settings,
        config_revision: config.revision,
        policy_source: source.into(),
        global_policy_version: config.global_version.unwrap_or_default(),
        provider_env_revision: config.provider_revision,
        workspace: workspace.to_owned(),
        ..sb::GetSandboxConfigResponse::default()
    }
}

/// Stage, superseded proposal and denials are fields that a gateway does not set.
pub(crate) fn chunk(chunk: &Chunk) -> pb::PolicyChunk {
    let verdict = &chunk.verdict;
    pb::PolicyChunk {
        id: chunk.id.clone(),
        status: chunk.status.to_owned(),
        rule_name: chunk.rule_name.clone(),
        proposed_rule: Some(chunk.rule.clone()),
        rationale: chunk.rationale.clone(),
        security_notes: security_notes(&chunk.rule),
        confidence: CONFIDENCE,
        created_at_ms: chunk.created_ms,
        decided_at_ms: chunk.decided_ms,
        hit_count: chunk.hits,
        first_seen_ms: chunk.created_ms,
        last_seen_ms: chunk.seen_ms,
        binary: chunk.subject.binary.clone(),
        validation_result: verdict.validation.clone(),
        rejection_reason: chunk.reason.clone(),
        application_error: verdict.application_error.clone(),
        review_token: verdict.token.clone(),
        current_effective_policy_hash: verdict.current_hash.clone(),
        candidate_effective_policy_hash: verdict.candidate_hash.clone(),
        current_effective_policy: Some(verdict.current.clone()),
        candidate_effective_policy: verdict.candidate.clone(),
        ..pb::PolicyChunk::default()
    }
}

pub(crate) fn log(sandbox_id: &str, line: &LogLine) -> pb::SandboxLogLine {
    pb::SandboxLogLine {
        sandbox_id: sandbox_id.to_owned(),
        timestamp_ms: line.at_ms,
        level: line.level.clone(),
        target: line.target.clone(),
        message: line.message.clone(),
        source: line.source.clone(),
        fields: line.fields.clone(),
    }
}

pub(crate) fn event(event: &PlatformEvent) -> pb::PlatformEvent {
    pb::PlatformEvent {
        timestamp_ms: event.at_ms,
        source: "simulator".to_owned(),
        r#type: "Normal".to_owned(),
        reason: event.reason.clone(),
        message: event.message.clone(),
        ..pb::PlatformEvent::default()
    }
}
