//! Probing: is a gateway there, how is it, what does it speak, and does it accept our credential.
//!
//! Invariants
//! - each has its own deadline, and silent ones delay no other, however many they are;
//! - what is told is what the last probe said, never more; it is stored under the lease of the round that has asked;
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
use crate::telemetry::metrics::{PROBE_DURATION, PROBES};
use crate::upstream::probe::{self, Health, Probe};
use crate::upstream::row::Status;
use crate::upstream::targets::{self, Target};
use crate::workers::{Worked, Worker};

/// Probes at once of gateways that have answered last time.
const AT_ONCE: usize = 64;
/// How long such a one keeps the next from being asked. One that is silent longer is waited for beside the others, so that
/// an outage costs those that are well a second for every [`AT_ONCE`] that are not, and in its first round alone.
const PATIENCE: Duration = Duration::from_secs(1);
/// Probes at once of gateways that have not answered last time.
const SILENT_AT_ONCE: usize = 256;
/// Results that are stored at once: each proves the same lease, and must not keep others from writing.
const STORING_AT_ONCE: usize = 1;
/// How much later another probe may have been begun than one that ends after it: more is a clock that was wrong.
const LATER_MAX: Duration = Duration::from_mins(1);

/// Why a gateway is not usable, as a probe found; `None` if it is usable.
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

/// Whether the gateway accepts our credential, as a probe found; `None` if that is unknown.
#[must_use]
pub fn usable(found: &Result<Probe, Error>) -> Option<bool> {
    found.as_ref().ok()?.credential.as_ref()?.is_usable()
}

/// The status to store for a gateway that answered. It is not well as long as our credential is not proven usable.
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

/// Asks a gateway how it is, and checks our credential.
pub async fn probe(app: &App, target: &Target) -> Result<Probe, Error> {
    let config = &app.config.gateways;
    let begun = Instant::now();
    let found = probe::probe(config, target, config.probe_timeout()).await;
    metrics::histogram!(PROBE_DURATION).record(begun.elapsed());
    let outcome = match &found {
        Ok(probe) if probe.credential_problem().is_some() => "unusable",
        Ok(_) => "answered",
        Err(_) => "failed",
    };
    metrics::counter!(PROBES, "outcome" => outcome).increment(1);
    found
}

/// Probes a gateway with what is stored and stores what was found.
pub async fn probe_and_store(ctx: &Ctx, id: GatewayId) -> Result<Result<Probe, String>, Error> {
    let app = ctx.app();
    let target = app.fleet.targets.get(id).ok_or_else(|| Error::missing(Kind::Gateway, id))?;
    let asked_at = ctx.now();
    let found = probe(app, &target).await;
    store_found(ctx, None, &target, asked_at, &found).await?;
    Ok(found.map_err(|error| probe::display_error(&error)))
}

/// Probes a gateway after a change that is committed. What it finds stands in the row; that it finds nothing, or that it
/// can't be stored now, fails no change.
pub async fn probe_changed(ctx: &Ctx, id: GatewayId) {
    if let Err(error) = probe_and_store(ctx, id).await {
        tracing::warn!(gateway = %id, error = &error as &dyn std::error::Error, "a changed gateway was not probed");
    }
}

/// What a probe found that was begun then and is over now, as it is stored.
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

/// Stores what a probe found of a gateway as it was described then. It says nothing of one that has changed since, and
/// nothing new where a later probe was faster.
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
                // Every replica's proxy must know.
                tx.access_changed(Subject::Gateway(target.id)).await?;
            }
            Ok(())
        })
        .await?;
    Ok(())
}

/// The probes, on one replica at a time.
pub const PROBES: Worker = Worker {
    name: "gateway.probes",
    every: |config| config.gateways.probe_interval(),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(tick(ctx, lease)),
};

/// Probes every gateway that has answered last time, and beside them as many of the silent ones as half an interval lets
/// be asked, those first that were asked longest ago: the next round must not wait for them.
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

/// The gateways that have answered last time or were never asked, and those that have not.
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

/// Gateways that are probed in turn.
struct Lane<'a> {
    ctx: &'a Ctx,
    lease: Option<&'a Lease>,
    storing: &'a Semaphore,
    places: Semaphore,
    /// How long each keeps its place.
    patience: Duration,
    /// When no more are begun.
    until: Option<Instant>,
}

impl Lane<'_> {
    /// How many were probed.
    ///
    /// # Errors
    /// `Conflict` where the lease was lost.
    async fn probe(&self, targets: Vec<Arc<Target>>) -> Result<usize, Error> {
        let mut running: FuturesUnordered<_> =
            targets.into_iter().map(|target| self.in_turn(target)).collect();
        let mut done = Ok(0);
        while let Some(probed) = running.next().await {
            match probed {
                Ok(probed) => done = done.map(|done| done + usize::from(probed)),
                Err(error @ Error::Conflict { kind: Kind::Lease, .. }) => {
                    // What has begun ends by itself: a transaction is not to be dropped halfway.
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

    /// Answers whether its turn has come.
    async fn in_turn(&self, target: Arc<Target>) -> Result<bool, Error> {
        let Ok(place) = self.places.acquire().await else { return Ok(false) };
        if self.until.is_some_and(|until| Instant::now() >= until) {
            return Ok(false);
        }
        // Boxed: thousands wait for their turn, and none of them needs room for a probe yet.
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
