//! Probes: whether a gateway is reachable, its health, its wire generation, and whether it accepts Shoreguard's
//! credential.
//!
//! Invariants
//! - each probe has its own deadline, and unreachable gateways never delay the others, even if there are many;
//! - the reported state is exactly that of the last probe; it is stored under the lease of the round that probed;
//! - a gateway is healthy only if an authenticated call proved the credential: `Health` requires none.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::store::{self, ProbeResult};
use super::{budgets, certificates, findings, health};
use crate::app::App;
use crate::clock::Timestamp;
use crate::ctx::Ctx;
use crate::db::leases::{self, Lease};
use crate::db::types::GatewayId;
use crate::error::{Error, ResourceKind};
use crate::outbox::AccessSubject;
use crate::outbox::event_types;
use crate::telemetry::metrics as names;
use crate::upstream::probe::{self, Health, Probe};
use crate::upstream::row::GatewayStatus;
use crate::upstream::targets::{self, Target};
use crate::workers::{TickResult, Worker};

/// Concurrent probes of gateways that answered their last probe.
const AT_ONCE: usize = 64;
/// Time after which a slow probe gives up its slot and continues in the background. In an outage, every [`AT_ONCE`]
/// unreachable gateways delay the others by one second, and only in the first round.
const SLOT_TIME: Duration = Duration::from_secs(1);
/// Concurrent probes of gateways that did not answer their last probe.
const SILENT_AT_ONCE: usize = 256;
/// Results stored concurrently: each one verifies the same lease, and storing them must not block other writers.
const STORING_AT_ONCE: usize = 1;
/// Limit for how much later a stored probe can have begun than the present one: a larger difference means a wrong
/// clock.
const CLOCK_SLACK: Duration = Duration::from_mins(1);

/// Returns why a gateway is not usable according to a probe; `None` if it is usable.
#[must_use]
pub fn problem(found: &Result<Probe, Error>) -> Option<String> {
    match found {
        Ok(probe) => {
            let why = probe.credential_problem()?;
            Some(why.chars().take(probe::ERROR_CHARACTERS_MAX).collect())
        }
        Err(error) => Some(probe::display_error(error)),
    }
}

/// Returns whether the gateway accepts Shoreguard's credential according to a probe; `None` if that is unknown.
#[must_use]
pub fn credential_usable(found: &Result<Probe, Error>) -> Option<bool> {
    found.as_ref().ok()?.credential.as_ref()?.is_usable()
}

/// Returns the status to store for a gateway that answered. It is not healthy unless the credential is proven usable.
fn probe_status(probe: &Probe) -> GatewayStatus {
    match (probe.status, probe.credential_problem()) {
        (Health::Healthy | Health::Unspecified, Some(_)) | (Health::Degraded, _) => {
            GatewayStatus::Degraded
        }
        (Health::Healthy, None) => GatewayStatus::Healthy,
        (Health::Unspecified, None) => GatewayStatus::Unspecified,
        (Health::Unhealthy, _) => GatewayStatus::Unhealthy,
    }
}

/// Calls a gateway for its health and checks the credential.
pub async fn probe(app: &App, target: &Target) -> Result<Probe, Error> {
    let config = &app.config.gateways;
    let begun = Instant::now();
    let found = probe::probe(&app.clock, config, target, config.probe_timeout()).await;
    metrics::histogram!(names::PROBE_DURATION).record(begun.elapsed());
    let outcome = match &found {
        Ok(probe) if probe.credential_problem().is_some() => "unusable",
        Ok(_) => "answered",
        Err(_) => "failed",
    };
    metrics::counter!(names::PROBES, "outcome" => outcome).increment(1);
    found
}

/// Probes a gateway with the stored settings and stores the result.
pub async fn probe_and_store(ctx: &Ctx, id: GatewayId) -> Result<Result<Probe, String>, Error> {
    let app = ctx.app();
    let target =
        app.fleet.targets.get(id).ok_or_else(|| Error::not_found(ResourceKind::Gateway, id))?;
    let asked_at = ctx.now();
    let found = probe(app, &target).await;
    store_result(ctx, None, &target, asked_at, &found).await?;
    Ok(found.map_err(|error| probe::display_error(&error)))
}

/// Probes a gateway after a committed change and stores the result. If the probe or the storing fails, the change still
/// succeeds.
pub async fn probe_changed(ctx: &Ctx, id: GatewayId) {
    if let Err(error) = probe_and_store(ctx, id).await {
        tracing::warn!(gateway = %id, error = &error as &dyn std::error::Error, "a changed gateway was not probed");
    }
}

/// Returns the columns to store for a probe that began at `asked_at` and ended at `now`.
#[must_use]
pub fn probe_result(
    found: &Result<Probe, Error>,
    asked_at: Timestamp,
    now: Timestamp,
) -> ProbeResult {
    let answer = found.as_ref().ok();
    ProbeResult {
        last_status: answer.map_or(GatewayStatus::Unreachable, probe_status),
        probed_at: asked_at,
        last_seen: answer.map(|_| now),
        wire_generation: answer.map(Probe::reported_generation),
        gateway_version: answer.map(|probe| probe.version.chars().take(100).collect()),
        latency_us: answer.and_then(|probe| i64::try_from(probe.latency.as_micros()).ok()),
        server_cert_ends_at: answer.and_then(|probe| probe.server_cert_expires_at),
    }
}

/// Stores the result of a probe. Drops it if the connection settings of the gateway have changed since, or if a probe
/// that began later is stored already.
async fn store_result(
    ctx: &Ctx,
    lease: Option<&Lease>,
    target: &Target,
    asked_at: Timestamp,
    found: &Result<Probe, Error>,
) -> Result<(), Error> {
    let now = ctx.now();
    let (error, usable) = (problem(found), credential_usable(found));
    let found = probe_result(found, asked_at, now);
    ctx.record_change(async |tx| {
            if let Some(lease) = lease {
                leases::check_held(tx, lease).await?;
            }
            let Some(before) = store::lock(tx, target.id).await? else { return Ok(()) };
            let changed = targets::connection_version(&before) != target.connection_version;
            let is_later = |last: Timestamp| last > asked_at && last.since(asked_at) < CLOCK_SLACK;
            if changed || before.observed.probed_at.is_some_and(is_later) {
                return Ok(());
            }
            let (probed, over) = budgets::apply_budget(tx, before.id, found.clone()).await?;
            let error = error.clone().or(over);
            store::store_probe(tx, target.id, &probed, error.as_deref()).await?;
            health::record_probe(tx, &before, &probed, error.as_deref()).await?;
            let mut after = before.clone();
            probed.apply_to(&mut after, error.clone());
            certificates::record(ctx, tx, &after).await?;
            // The row is locked, and its finding is usually as it was.
            let is_open = before.observed.credential_unusable_since.is_some();
            if usable == Some(is_open) {
                findings::record_credential_check(ctx, tx, &mut after, usable).await?;
            }
            let up = |status| !matches!(status, GatewayStatus::Unreachable | GatewayStatus::Unknown);
            let event = match (up(before.observed.last_status), up(probed.last_status)) {
                (false, true) => Some(event_types::GATEWAY_UP),
                (true, false) => Some(event_types::GATEWAY_DOWN),
                _ if before.observed.last_status != probed.last_status => Some(event_types::GATEWAY_STATUS_CHANGED),
                _ => None,
            };
            let on = || target.gateway();
            let payload = json!({ "gateway": &*target.name, "status": probed.last_status.as_str(), "version": probed.gateway_version });
            if let Some(name) = event {
                tx.emit(ctx.new_event(name, payload.clone()).with_gateway(on())).await?;
            }
            let new_version = probed.gateway_version.is_some() && probed.gateway_version != before.observed.gateway_version;
            if new_version && before.observed.gateway_version.is_some() {
                tx.emit(ctx.new_event(event_types::GATEWAY_VERSION_CHANGED, payload).with_gateway(on())).await?;
            }
            let generation = probed.wire_generation.is_some_and(|now| now != before.observed.wire_generation);
            if generation {
                // The proxies of all replicas must reload the generation.
                tx.log_access_change(AccessSubject::Gateway(target.id)).await?;
            }
            Ok(())
        })
        .await?;
    Ok(())
}

/// Worker that probes all gateways, on one replica at a time.
pub const PROBES: Worker = Worker {
    name: "gateway.probes",
    interval: |config| config.gateways.probe_interval(),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(tick(ctx, lease)),
};

/// Probes every gateway that answered its last probe. Concurrently probes the unreachable ones, least recently probed
/// first, and starts no more of them after half an interval, so that they do not delay the next round.
async fn tick(ctx: &Ctx, lease: Option<&Lease>) -> Result<TickResult, Error> {
    let (answering, silent) = split_by_last_answer(ctx).await?;
    let storing = &Semaphore::new(STORING_AT_ONCE);
    let first = ProbeGroup {
        ctx,
        lease,
        storing,
        slots: Semaphore::new(AT_ONCE),
        slot_time: SLOT_TIME,
        until: None,
    };
    let until = Instant::now() + ctx.app().config.gateways.probe_interval() / 2;
    let beside = ProbeGroup {
        ctx,
        lease,
        storing,
        slots: Semaphore::new(SILENT_AT_ONCE),
        slot_time: Duration::MAX,
        until: Some(until),
    };
    let (answering, silent) = tokio::join!(first.probe(answering), beside.probe(silent));
    Ok(TickResult { done: answering? + silent?, more: false })
}

/// Returns the gateways that answered their last probe or were never probed, and those that did not answer.
async fn split_by_last_answer(ctx: &Ctx) -> Result<(Vec<Arc<Target>>, Vec<Arc<Target>>), Error> {
    let silent = store::list_unresponsive(&mut ctx.db().read().await?).await?;
    let places: HashMap<GatewayId, usize> = silent.into_iter().zip(0..).collect();
    let (mut silent, answering): (Vec<_>, Vec<_>) = ctx
        .app()
        .fleet
        .targets
        .all()
        .into_iter()
        .partition(|target| places.contains_key(&target.id));
    silent.sort_by_key(|target| places.get(&target.id));
    Ok((answering, silent))
}

/// A group of gateways that share a limit of concurrent probes.
struct ProbeGroup<'a> {
    ctx: &'a Ctx,
    lease: Option<&'a Lease>,
    storing: &'a Semaphore,
    slots: Semaphore,
    /// Time after which a probe gives up its slot.
    slot_time: Duration,
    /// Time after which no more probes are started.
    until: Option<Instant>,
}

impl ProbeGroup<'_> {
    /// Probes the targets and returns the number of probes.
    ///
    /// # Errors
    /// `Conflict` if the lease was lost.
    async fn probe(&self, targets: Vec<Arc<Target>>) -> Result<usize, Error> {
        let mut running: FuturesUnordered<_> =
            targets.into_iter().map(|target| self.probe_in_slot(target)).collect();
        let mut done = Ok(0);
        while let Some(probed) = running.next().await {
            match probed {
                Ok(probed) => done = done.map(|done| done + usize::from(probed)),
                Err(error @ Error::Conflict { kind: ResourceKind::Lease, .. }) => {
                    // Probes in progress finish: a transaction must not be dropped halfway.
                    self.slots.close();
                    done = Err(error);
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a probe was not stored"
                    );
                }
            }
        }
        done
    }

    /// Probes a target once a slot is free. Returns `false` if it was not probed.
    async fn probe_in_slot(&self, target: Arc<Target>) -> Result<bool, Error> {
        let Ok(place) = self.slots.acquire().await else { return Ok(false) };
        if self.until.is_some_and(|until| Instant::now() >= until) {
            return Ok(false);
        }
        // Boxed: thousands of targets may wait for a slot, and none of them should allocate a probe yet.
        let mut probe = Box::pin(self.probe_one(&target));
        let clock = &self.ctx.app().clock;
        if let Some(stored) = clock.timeout(self.slot_time, &mut probe).await {
            return stored.map(|()| true);
        }
        drop(place);
        probe.await.map(|()| true)
    }

    async fn probe_one(&self, target: &Target) -> Result<(), Error> {
        let asked_at = self.ctx.now();
        let found = probe(self.ctx.app(), target).await;
        let _turn = self.storing.acquire().await;
        store_result(self.ctx, self.lease, target, asked_at, &found).await
    }
}
