//! Conversion of domain types to the messages of discovery.

use super::store::Run;
use super::{Answer, Found, Judged, Outcome};
use crate::ctx::Ctx;
use crate::pb::v1 as pb;
use crate::rpc::wire;

impl From<Found> for pb::DiscoverGatewaysResponse {
    fn from(found: Found) -> Self {
        let gateways = found.judged.into_iter().map(Into::into).collect();
        Self { gateways, run: Some(found.run.into()) }
    }
}

impl From<Outcome> for pb::DiscoveryOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Registered => Self::Registered,
            Outcome::Registrable => Self::Registrable,
            Outcome::AlreadyRegistered => Self::AlreadyRegistered,
            Outcome::Refused => Self::Refused,
            Outcome::Left => Self::Left,
        }
    }
}

impl From<Judged> for pb::DiscoveredGateway {
    fn from(judged: Judged) -> Self {
        let service = &judged.candidate.service;
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

impl From<Answer> for pb::DiscoveryDomain {
    fn from(answer: Answer) -> Self {
        Self {
            domain: answer.domain,
            found_count: i64::try_from(answer.found).unwrap_or(i64::MAX),
            error: answer.error.unwrap_or_default(),
        }
    }
}

impl From<Run> for pb::GatewayDiscoveryRun {
    fn from(run: Run) -> Self {
        Self {
            begin_time: Some(wire::time(run.began_at)),
            end_time: Some(wire::time(run.ended_at)),
            found_count: run.found,
            registered_count: run.registered,
            skipped_count: run.skipped,
            failed_count: run.failed,
            domains: run.answers().into_iter().map(Into::into).collect(),
            actor: run.actor,
        }
    }
}

/// Returns the configuration of discovery and its last run.
pub fn status(ctx: &Ctx, last_run: Option<Run>) -> pb::GetGatewayDiscoveryStatusResponse {
    let config = &ctx.app().config.discovery;
    let interval = i64::try_from(config.interval().as_micros()).unwrap_or(i64::MAX);
    pb::GetGatewayDiscoveryStatusResponse {
        enabled: config.enabled,
        domains: config.domains.clone(),
        interval: Some(wire::span(interval)),
        auto_register: config.auto_register,
        last_run: last_run.map(Into::into),
    }
}
