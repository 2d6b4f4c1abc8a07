//! Converts the state to messages of generation 0.1.
//!
//! Fields that kept their type also kept their number, so a message of one generation can be decoded as that of the
//! other; fields that changed their type have new numbers and are set here. The only exception is the endpoints of
//! policies.

use std::collections::BTreeMap;

use prost::Message;
use tonic::Status;

use super::scope::to_timestamp;
use crate::state::{
    Chunk, LogLine, Member, Meta, PlatformEvent, Provider, Refresh, Revision, Sandbox, Service,
    Template, Workspace,
};
use crate::v0_0::render as old;
use shoreguard_proto::v0_0::openshell::sandbox::v1 as old_sb;
use shoreguard_proto::v0_0::openshell::v1 as old_pb;
use shoreguard_proto::v0_1::openshell::datamodel::v1 as dm;
use shoreguard_proto::v0_1::openshell::sandbox::v1 as sb;
use shoreguard_proto::v0_1::openshell::v1 as pb;

/// Decodes a message as the message of the other generation. Only for messages without endpoints.
pub(super) fn recast<A: Message, B: Message + Default>(message: &A) -> B {
    B::decode(message.encode_to_vec().as_slice()).expect("equal numbers have equal types")
}

const TLS: [&str; 4] = ["", "skip", "terminate", "passthrough"];
const ENFORCEMENT: [&str; 3] = ["", "enforce", "audit"];
const ACCESS: [&str; 4] = ["", "read-only", "read-write", "full"];

/// Returns the enum number of a word; 0 for an unknown word.
fn word_index(words: &[&str], word: &str) -> i32 {
    let at = words.iter().position(|known| *known == word);
    at.and_then(|at| i32::try_from(at).ok()).unwrap_or_default()
}

/// Returns the word of an enum number. Refuses a number that the generation does not have.
fn word_at(words: &[&str], field: &str, number: i32) -> Result<String, Status> {
    let at = usize::try_from(number).ok();
    let word = at.and_then(|at| words.get(at)).map(|word| (*word).to_owned());
    word.ok_or_else(|| Status::invalid_argument(format!("unknown value {number} of `{field}`")))
}

pub(super) fn endpoint(kept: &old_sb::NetworkEndpoint) -> sb::NetworkEndpoint {
    let mut bare = kept.clone();
    let tls = word_index(&TLS, &std::mem::take(&mut bare.tls));
    let enforcement = word_index(&ENFORCEMENT, &std::mem::take(&mut bare.enforcement));
    let access = word_index(&ACCESS, &std::mem::take(&mut bare.access));
    sb::NetworkEndpoint { tls, enforcement, access, ..recast(&bare) }
}

fn parse_endpoint(given: &sb::NetworkEndpoint) -> Result<old_sb::NetworkEndpoint, Status> {
    let bare = sb::NetworkEndpoint { tls: 0, enforcement: 0, access: 0, ..given.clone() };
    Ok(old_sb::NetworkEndpoint {
        tls: word_at(&TLS, "tls", given.tls)?,
        enforcement: word_at(&ENFORCEMENT, "enforcement", given.enforcement)?,
        access: word_at(&ACCESS, "access", given.access)?,
        ..recast(&bare)
    })
}

pub(super) fn rule(kept: &old_sb::NetworkPolicyRule) -> sb::NetworkPolicyRule {
    sb::NetworkPolicyRule {
        name: kept.name.clone(),
        endpoints: kept.endpoints.iter().map(endpoint).collect(),
        binaries: kept.binaries.iter().map(recast).collect(),
    }
}

pub(super) fn parse_rule(
    given: &sb::NetworkPolicyRule,
) -> Result<old_sb::NetworkPolicyRule, Status> {
    let endpoints: Result<Vec<_>, Status> = given.endpoints.iter().map(parse_endpoint).collect();
    Ok(old_sb::NetworkPolicyRule {
        name: given.name.clone(),
        endpoints: endpoints?,
        binaries: given.binaries.iter().map(recast).collect(),
    })
}

pub(super) fn policy(kept: &old_sb::SandboxPolicy) -> sb::SandboxPolicy {
    let mut bare = kept.clone();
    let rules = std::mem::take(&mut bare.network_policies);
    let network_policies = rules.iter().map(|(name, kept)| (name.clone(), rule(kept))).collect();
    sb::SandboxPolicy { network_policies, ..recast(&bare) }
}

pub(super) fn parse_policy(mut given: sb::SandboxPolicy) -> Result<old_sb::SandboxPolicy, Status> {
    let rules = std::mem::take(&mut given.network_policies);
    let mut parsed: old_sb::SandboxPolicy = recast(&given);
    for (name, rule) in rules {
        parsed.network_policies.insert(name, parse_rule(&rule)?);
    }
    Ok(parsed)
}

pub(super) fn parse_spec(mut given: pb::SandboxSpec) -> Result<old_pb::SandboxSpec, Status> {
    let policy = given.policy.take().map(parse_policy).transpose()?;
    Ok(old_pb::SandboxSpec { policy, ..recast(&given) })
}

pub(super) fn profile(kept: &old_pb::ProviderProfile) -> pb::ProviderProfile {
    let mut bare = kept.clone();
    let endpoints = std::mem::take(&mut bare.endpoints);
    pb::ProviderProfile { endpoints: endpoints.iter().map(endpoint).collect(), ..recast(&bare) }
}

pub(super) fn parse_profile(
    given: pb::ProviderProfileImportItem,
) -> Result<old_pb::ProviderProfileImportItem, Status> {
    let source = given.source;
    let Some(mut profile) = given.profile else {
        return Ok(old_pb::ProviderProfileImportItem { profile: None, source });
    };
    let endpoints = std::mem::take(&mut profile.endpoints);
    let endpoints: Result<Vec<_>, Status> = endpoints.iter().map(parse_endpoint).collect();
    let profile = old_pb::ProviderProfile { endpoints: endpoints?, ..recast(&profile) };
    Ok(old_pb::ProviderProfileImportItem { profile: Some(profile), source })
}

/// Converts profiles of a request.
pub(super) fn parse_profiles(
    given: Vec<pb::ProviderProfileImportItem>,
) -> Result<Vec<old_pb::ProviderProfileImportItem>, Status> {
    given.into_iter().map(parse_profile).collect()
}

pub(super) fn meta(meta: &Meta) -> dm::ObjectMeta {
    dm::ObjectMeta {
        created_time: to_timestamp(meta.created_ms),
        deletion_time: to_timestamp(meta.deletion_ms),
        ..recast(&old::meta(meta))
    }
}

pub(super) fn sandbox(sandbox: &Sandbox) -> pb::Sandbox {
    let mut kept = old::sandbox(sandbox);
    let policy = kept.spec.as_mut().and_then(|spec| spec.policy.take());
    let mut shown: pb::Sandbox = recast(&kept);
    shown.metadata = Some(meta(&sandbox.meta));
    if let Some(spec) = &mut shown.spec {
        spec.policy = policy.as_ref().map(self::policy);
    }
    for condition in shown.status.iter_mut().flat_map(|status| &mut status.conditions) {
        condition.transition_time = to_timestamp(sandbox.phase_ms);
    }
    shown
}

pub(super) fn provider(provider: &Provider) -> dm::Provider {
    let times: BTreeMap<_, _> = provider
        .expires_ms
        .iter()
        .filter_map(|(key, ms)| to_timestamp(*ms).map(|time| (key.clone(), time)))
        .collect();
    dm::Provider {
        metadata: Some(meta(&provider.meta)),
        credential_expiration_times: times,
        ..recast(&old::provider(provider))
    }
}

pub(super) fn refresh(refresh: &Refresh) -> pb::ProviderCredentialRefreshStatus {
    pb::ProviderCredentialRefreshStatus {
        expiration_time: to_timestamp(refresh.expires_ms),
        next_refresh_time: to_timestamp(refresh.expires_ms),
        last_refresh_time: to_timestamp(refresh.last_ms),
        ..recast(&old::refresh(refresh))
    }
}

pub(super) fn service(service: &Service) -> pb::ServiceEndpoint {
    pb::ServiceEndpoint {
        metadata: Some(meta(&service.meta)),
        authorization_mode: service.authorization,
        ..recast(&old::service(service))
    }
}

pub(super) fn workspace(workspace: &Workspace) -> dm::Workspace {
    dm::Workspace { metadata: Some(meta(&workspace.meta)), ..recast(&old::workspace(workspace)) }
}

pub(super) fn member(member: &Member) -> pb::WorkspaceMember {
    pb::WorkspaceMember { metadata: Some(meta(&member.meta)), ..recast(&old::member(member)) }
}

pub(super) fn template(template: &Template) -> pb::SandboxWorkloadTemplate {
    pb::SandboxWorkloadTemplate {
        metadata: Some(meta(&template.meta)),
        spec: Some(template.spec.clone()),
    }
}

/// Returns a revision without its policy.
pub(super) fn revision(revision: &Revision) -> pb::SandboxPolicyRevision {
    pb::SandboxPolicyRevision {
        created_time: to_timestamp(revision.created_ms),
        loaded_time: to_timestamp(revision.loaded_ms),
        ..recast(&old::revision(revision))
    }
}

pub(super) fn chunk(chunk: &Chunk) -> pb::PolicyChunk {
    let mut kept = old::chunk(chunk);
    let current = kept.current_effective_policy.take();
    let candidate = kept.candidate_effective_policy.take();
    kept.proposed_rule = None;
    pb::PolicyChunk {
        proposed_rule: Some(rule(&chunk.rule)),
        created_time: to_timestamp(chunk.created_ms),
        decided_time: to_timestamp(chunk.decided_ms),
        first_seen_time: to_timestamp(chunk.created_ms),
        last_seen_time: to_timestamp(chunk.seen_ms),
        current_effective_policy: current.as_ref().map(policy),
        candidate_effective_policy: candidate.as_ref().map(policy),
        ..recast(&kept)
    }
}

pub(super) fn log(sandbox_id: &str, line: &LogLine) -> pb::SandboxLogLine {
    pb::SandboxLogLine {
        event_time: to_timestamp(line.at_ms),
        ..recast(&old::log(sandbox_id, line))
    }
}

pub(super) fn event(event: &PlatformEvent) -> pb::PlatformEvent {
    pb::PlatformEvent { event_time: to_timestamp(event.at_ms), ..recast(&old::event(event)) }
}
