//! Conversion of domain types to the messages of discovery.

use super::store::DiscoveryRun;
use super::{CandidateOutcome, CheckedCandidate, DiscoveryResult, DomainResult};
use crate::ctx::Ctx;
use crate::pb::v1 as pb;
use crate::rpc::wire;

impl From<DiscoveryResult> for pb::DiscoverGatewaysResponse {
    fn from(found: DiscoveryResult) -> Self {
        let gateways = found.candidates.into_iter().map(Into::into).collect();
        Self { gateways, run: Some(found.run.into()) }
    }
}

impl From<CandidateOutcome> for pb::DiscoveryOutcome {
    fn from(outcome: CandidateOutcome) -> Self {
        match outcome {
            CandidateOutcome::Registered => Self::Registered,
            CandidateOutcome::Registrable => Self::Registrable,
            CandidateOutcome::AlreadyRegistered => Self::AlreadyRegistered,
            CandidateOutcome::Refused => Self::Refused,
            CandidateOutcome::NotChecked => Self::Left,
        }
    }
}

impl From<CheckedCandidate> for pb::DiscoveredGateway {
    fn from(judged: CheckedCandidate) -> Self {
        let service = &judged.candidate.record;
        Self {
            endpoint: judged.candidate.endpoint(),
            host: service.host.clone(),
            port: service.port.into(),
            priority: service.priority.into(),
            weight: service.weight.into(),
            domain: judged.candidate.domain,
            name: judged.name,
            outcome: pb::DiscoveryOutcome::from(judged.outcome).into(),
            reason: judged.reason.unwrap_or_default(),
        }
    }
}

impl From<DomainResult> for pb::DiscoveryDomain {
    fn from(answer: DomainResult) -> Self {
        Self {
            domain: answer.domain,
            found_count: i64::try_from(answer.found).unwrap_or(i64::MAX),
            error: answer.error.unwrap_or_default(),
        }
    }
}

impl From<DiscoveryRun> for pb::GatewayDiscoveryRun {
    fn from(run: DiscoveryRun) -> Self {
        Self {
            begin_time: Some(wire::to_timestamp(run.began_at)),
            end_time: Some(wire::to_timestamp(run.ended_at)),
            found_count: run.found,
            registered_count: run.registered,
            skipped_count: run.skipped,
            failed_count: run.failed,
            domains: run.domain_results().into_iter().map(Into::into).collect(),
            actor: run.actor,
        }
    }
}

/// Returns the configuration of discovery and its last run.
pub fn status(ctx: &Ctx, last_run: Option<DiscoveryRun>) -> pb::GetGatewayDiscoveryStatusResponse {
    let config = &ctx.app().config.discovery;
    let interval = i64::try_from(config.interval().as_micros()).unwrap_or(i64::MAX);
    pb::GetGatewayDiscoveryStatusResponse {
        enabled: config.enabled,
        domains: config.domains.clone(),
        interval: Some(wire::to_duration(interval)),
        auto_register: config.auto_register,
        last_run: last_run.map(Into::into),
    }
}
