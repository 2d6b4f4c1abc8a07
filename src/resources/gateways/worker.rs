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
use tokio::time::{Instant, timeout};

use super::store::{self, Probed};
use super::{budgets, certificates, findings, health};
use crate::app::App;
use crate::clock::Timestamp;
use crate::ctx::Ctx;
use crate::db::leases::{self, Lease};
use crate::db::types::GatewayId;
use crate::error::{Error, Kind};
use crate::outbox::Subject;
use crate::outbox::event_types;
use crate::telemetry::metrics as names;
use crate::upstream::probe::{self, Health, Probe};
use crate::upstream::row::Status;
use crate::upstream::targets::{self, Target};
use crate::workers::{Worked, Worker};

/// Concurrent probes of gateways that answered their last probe.
const AT_ONCE: usize = 64;
/// Time after which a slow probe gives up its slot and continues in the background. In an outage, every [`AT_ONCE`]
/// unreachable gateways delay the others by one second, and only in the first round.
const PATIENCE: Duration = Duration::from_secs(1);
/// Concurrent probes of gateways that did not answer their last probe.
const SILENT_AT_ONCE: usize = 256;
/// Results stored concurrently: each one verifies the same lease, and storing them must not block other writers.
const STORING_AT_ONCE: usize = 1;
/// Limit for how much later a stored probe can have begun than the present one: a larger difference means a wrong
/// clock.
const LATER_MAX: Duration = Duration::from_mins(1);

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
pub fn usable(found: &Result<Probe, Error>) -> Option<bool> {
    found.as_ref().ok()?.credential.as_ref()?.is_usable()
}

/// Returns the status to store for a gateway that answered. It is not healthy unless the credential is proven usable.
fn status_of(probe: &Probe) -> Status {
    match (probe.status, probe.credential_problem()) {
        (Health::Healthy | Health::Unspecified, Some(_)) | (Health::Degraded, _) => {
            Status::Degraded
        }
        (Health::Healthy, None) => Status::Healthy,
        (Health::Unspecified, None) => Status::Unspecified,
        (Health::Unhealthy, _) => Status::Unhealthy,
    }
}

/// Calls a gateway for its health and checks the credential.
pub async fn probe(app: &App, target: &Target) -> Result<Probe, Error> {
    let config = &app.config.gateways;
    let begun = Instant::now();
    let found = probe::probe(config, target, config.probe_timeout()).await;
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
    let target = app.fleet.targets.get(id).ok_or_else(|| Error::missing(Kind::Gateway, id))?;
    let asked_at = ctx.now();
    let found = probe(app, &target).await;
    store_found(ctx, None, &target, asked_at, &found).await?;
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
pub fn probed(found: &Result<Probe, Error>, asked_at: Timestamp, now: Timestamp) -> Probed {
    let answer = found.as_ref().ok();
    Probed {
        last_status: answer.map_or(Status::Unreachable, status_of),
        probed_at: asked_at,
        last_seen: answer.map(|_| now),
        wire_generation: answer.map(Probe::told_generation),
        gateway_version: answer.map(|probe| probe.version.chars().take(100).collect()),
        latency_us: answer.and_then(|probe| i64::try_from(probe.latency.as_micros()).ok()),
        server_cert_ends_at: answer.and_then(|probe| probe.server_cert),
    }
}

/// Stores the result of a probe. Drops it if the connection settings of the gateway have changed since, or if a probe
/// that began later is stored already.
async fn store_found(
    ctx: &Ctx,
    lease: Option<&Lease>,
    target: &Target,
    asked_at: Timestamp,
    found: &Result<Probe, Error>,
) -> Result<(), Error> {
    let now = ctx.now();
    let (error, usable) = (problem(found), usable(found));
    let found = probed(found, asked_at, now);
    ctx.record(async |tx| {
            if let Some(lease) = lease {
                leases::still_held(tx, lease).await?;
            }
            let Some(before) = store::lock(tx, target.id).await? else { return Ok(()) };
            let changed = targets::connection_version(&before) != target.connection_version;
            let is_later = |last: Timestamp| last > asked_at && last.since(asked_at) < LATER_MAX;
            if changed || before.found.probed_at.is_some_and(is_later) {
                return Ok(());
            }
            let (probed, over) = budgets::judged(tx, before.id, found.clone()).await?;
            let error = error.clone().or(over);
            store::store_probe(tx, target.id, &probed, error.as_deref()).await?;
            health::note(tx, &before, &probed, error.as_deref()).await?;
            let mut after = before.clone();
            probed.note_on(&mut after, error.clone());
            certificates::note(ctx, tx, &after).await?;
            findings::note_credential(ctx, tx, &mut after, usable).await?;
            let up = |status| !matches!(status, Status::Unreachable | Status::Unknown);
            let event = match (up(before.found.last_status), up(probed.last_status)) {
                (false, true) => Some(event_types::GATEWAY_UP),
                (true, false) => Some(event_types::GATEWAY_DOWN),
                _ if before.found.last_status != probed.last_status => Some(event_types::GATEWAY_STATUS_CHANGED),
                _ => None,
            };
            let on = || target.gateway();
            let payload = json!({ "gateway": &*target.name, "status": probed.last_status.as_str(), "version": probed.gateway_version });
            if let Some(name) = event {
                tx.emit(ctx.event(name, payload.clone()).on(on())).await?;
            }
            let new_version = probed.gateway_version.is_some() && probed.gateway_version != before.found.gateway_version;
            if new_version && before.found.gateway_version.is_some() {
                tx.emit(ctx.event(event_types::GATEWAY_VERSION_CHANGED, payload).on(on())).await?;
            }
            let generation = probed.wire_generation.is_some_and(|now| now != before.found.wire_generation);
            if generation {
                // The proxies of all replicas must reload the generation.
                tx.access_changed(Subject::Gateway(target.id)).await?;
            }
            Ok(())
        })
        .await?;
    Ok(())
}

/// Worker that probes all gateways, on one replica at a time.
pub const PROBES: Worker = Worker {
    name: "gateway.probes",
    every: |config| config.gateways.probe_interval(),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(tick(ctx, lease)),
};

/// Probes every gateway that answered its last probe. Concurrently probes the unreachable ones, least recently probed
/// first, and starts no more of them after half an interval, so that they do not delay the next round.
async fn tick(ctx: &Ctx, lease: Option<&Lease>) -> Result<Worked, Error> {
    let (answering, silent) = by_last_answer(ctx).await?;
    let storing = &Semaphore::new(STORING_AT_ONCE);
    let first = Lane {
        ctx,
        lease,
        storing,
        places: Semaphore::new(AT_ONCE),
        patience: PATIENCE,
        until: None,
    };
    let until = Instant::now() + ctx.app().config.gateways.probe_interval() / 2;
    let beside = Lane {
        ctx,
        lease,
        storing,
        places: Semaphore::new(SILENT_AT_ONCE),
        patience: Duration::MAX,
        until: Some(until),
    };
    let (answering, silent) = tokio::join!(first.probe(answering), beside.probe(silent));
    Ok(Worked { done: answering? + silent?, more: false })
}

/// Returns the gateways that answered their last probe or were never probed, and those that did not answer.
async fn by_last_answer(ctx: &Ctx) -> Result<(Vec<Arc<Target>>, Vec<Arc<Target>>), Error> {
    let silent = store::silent(&mut ctx.db().read().await?).await?;
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
struct Lane<'a> {
    ctx: &'a Ctx,
    lease: Option<&'a Lease>,
    storing: &'a Semaphore,
    places: Semaphore,
    /// Time after which a probe gives up its slot.
    patience: Duration,
    /// Time after which no more probes are started.
    until: Option<Instant>,
}

impl Lane<'_> {
    /// Probes the targets and returns the number of probes.
    ///
    /// # Errors
    /// `Conflict` if the lease was lost.
    async fn probe(&self, targets: Vec<Arc<Target>>) -> Result<usize, Error> {
        let mut running: FuturesUnordered<_> =
            targets.into_iter().map(|target| self.in_turn(target)).collect();
        let mut done = Ok(0);
        while let Some(probed) = running.next().await {
            match probed {
                Ok(probed) => done = done.map(|done| done + usize::from(probed)),
                Err(error @ Error::Conflict { kind: Kind::Lease, .. }) => {
                    // Probes in progress finish: a transaction must not be dropped halfway.
                    self.places.close();
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
    async fn in_turn(&self, target: Arc<Target>) -> Result<bool, Error> {
        let Ok(place) = self.places.acquire().await else { return Ok(false) };
        if self.until.is_some_and(|until| Instant::now() >= until) {
            return Ok(false);
        }
        // Boxed: thousands of targets may wait for a slot, and none of them should allocate a probe yet.
        let mut probe = Box::pin(self.probe_one(&target));
        if let Ok(stored) = timeout(self.patience, &mut probe).await {
            return stored.map(|()| true);
        }
        drop(place);
        probe.await.map(|()| true)
    }

    async fn probe_one(&self, target: &Target) -> Result<(), Error> {
        let asked_at = self.ctx.now();
        let found = probe(self.ctx.app(), target).await;
        let _turn = self.storing.acquire().await;
        store_found(self.ctx, self.lease, target, asked_at, &found).await
    }
}
