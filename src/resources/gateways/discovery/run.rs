//! One run of discovery: queries the domains concurrently and checks their candidates one at a time.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::candidate::{Candidate, ordered};
use super::store::{self, Run};
use super::{Answer, Found, Judged, Outcome};
use crate::access::action::Action;
use crate::access::policy::About;
use crate::app::App;
use crate::audit::{self, Ending, Intent};
use crate::clock::Timestamp;
use crate::config::Discovery;
use crate::ctx::Ctx;
use crate::db::leases::{self, Lease};
use crate::db::types::NamedGateway;
use crate::error::{Error, Kind, Reason};
use crate::net::names::Service;
use crate::outbox::event_types;
use crate::resources::gateways::domain::{self, NewGateway};
use crate::resources::gateways::store as gateways;
use crate::upstream::endpoint::Scheme;
use crate::upstream::probe::display_error;

/// Maximum number of records used per domain.
pub const ANSWERS_MAX: usize = 100;
/// Maximum number of candidates per run.
pub const CANDIDATES_MAX: usize = 200;
/// Time for checking candidates; the rest is left to the next run.
const RUN_TIME: Duration = Duration::from_mins(2);
/// Upper bound for the time that one candidate takes in addition to its connection and its probe.
const LEASE_MARGIN: Duration = Duration::from_secs(30);
/// Number of stored runs.
const RUNS_KEPT: i64 = 100;
/// Lease of a run, of the worker or of an admin.
const LEASE: &str = "gateway.discovery-run";
const ACTOR_CHARACTERS_MAX: usize = 254;
const ERROR_CHARACTERS_MAX: usize = 500;

/// Runs discovery for an admin, on these domains or, if the list is empty, on all configured ones.
pub async fn discover(ctx: &Ctx, asked: &[String]) -> Result<Found, Error> {
    let domains = chosen(&ctx.app().config.discovery, asked)?;
    ctx.detail("domains", json!(domains));
    let Some(found) = run(ctx, &domains).await? else {
        let why = "a discovery is in progress on this or another replica: retry later";
        return Err(Error::refused(Reason::DiscoveryRunning, why.to_owned()));
    };
    for (key, count) in counts(&found.run) {
        ctx.detail(key, count);
    }
    Ok(found)
}

/// Selects domains from the configured ones. A caller cannot add any, since a domain decides where Shoreguard connects.
fn chosen(config: &Discovery, asked: &[String]) -> Result<Vec<String>, Error> {
    if config.domains.is_empty() {
        let why = "discovery has no domains: set `discovery.domains`";
        return Err(Error::refused(Reason::FeatureDisabled, why.to_owned()));
    }
    if let Some(i) = asked.iter().position(|domain| !config.domains.contains(domain)) {
        let why = "is not a domain of `discovery.domains`";
        return Err(Error::invalid(format!("domains[{i}]"), why));
    }
    let chosen = config.domains.iter().filter(|d| asked.is_empty() || asked.contains(d));
    Ok(chosen.cloned().collect())
}

/// Runs discovery on these domains; returns `None` if another run is in progress.
pub async fn run(ctx: &Ctx, domains: &[String]) -> Result<Option<Found>, Error> {
    let app = ctx.app();
    let Some(lease) = leases::acquire(&app.db, LEASE, &app.replica, lease_time(app)).await? else {
        return Ok(None);
    };
    let found = look(ctx, &lease, domains).await;
    // A lease that another replica has taken over needs no release.
    let _ = leases::release(&app.db, lease).await;
    found.map(Some)
}

/// Returns the duration of the lease: enough for connecting to one candidate, including TLS, and probing it.
fn lease_time(app: &App) -> Duration {
    let config = &app.config.gateways;
    config.connect_timeout() * 3 + config.probe_timeout() * 2 + LEASE_MARGIN
}

async fn look(ctx: &Ctx, lease: &Lease, domains: &[String]) -> Result<Found, Error> {
    let app = ctx.app();
    let began_at = ctx.now();
    let until = Instant::now() + RUN_TIME;
    let asked = join_all(domains.iter().map(|domain| ask(app, domain))).await;
    let (answers, candidates) = bounded(asked);
    let mut judge = Judge { ctx, lease, endpoints: BTreeSet::new(), names: BTreeSet::new() };
    let mut judged = Vec::new();
    for candidate in candidates {
        if Instant::now() >= until {
            let (name, reason) =
                (candidate.name(), Some("the time of this run was over".to_owned()));
            judged.push(Judged { candidate, name, outcome: Outcome::Left, reason });
            continue;
        }
        judged.push(judge.judge(candidate).await?);
        leases::renew(&app.db, lease, lease_time(app)).await?;
    }
    let run = kept(ctx, began_at, &answers, &judged)?;
    store_run(ctx, lease, &run).await?;
    Ok(Found { judged, run })
}

/// Queries a domain. Returns the result to report and the records in order.
async fn ask(app: &App, domain: &str) -> (Answer, Vec<Service>) {
    let name = format!("_openshell._tcp.{domain}");
    let within = app.config.discovery.timeout();
    let (services, error) = match timeout(within, app.fleet.names.services(&name)).await {
        Ok(Ok(services)) => (ordered(services), None),
        Ok(Err(why)) => (Vec::new(), Some(why.chars().take(ERROR_CHARACTERS_MAX).collect())),
        Err(_) => (Vec::new(), Some("no answer in time".to_owned())),
    };
    if let Some(why) = &error {
        warn!(domain, why, "the gateways of a domain could not be looked up");
    }
    (Answer { domain: domain.to_owned(), found: services.len(), error }, services)
}

/// Drops the records beyond the limits and reports that at their domain.
fn bounded(asked: Vec<(Answer, Vec<Service>)>) -> (Vec<Answer>, Vec<Candidate>) {
    let (mut answers, mut candidates) = (Vec::new(), Vec::new());
    for (mut answer, mut services) in asked {
        let room = ANSWERS_MAX.min(CANDIDATES_MAX - candidates.len());
        if services.len() > room {
            answer.error =
                Some(format!("it offers {}, of which {room} were looked at", services.len()));
            services.truncate(room);
        }
        let domain = answer.domain.clone();
        let of_it =
            services.into_iter().map(|service| Candidate { domain: domain.clone(), service });
        candidates.extend(of_it);
        answers.push(answer);
    }
    (answers, candidates)
}

/// Checks candidates, and remembers the endpoints and names of this run.
struct Judge<'a> {
    ctx: &'a Ctx,
    lease: &'a Lease,
    endpoints: BTreeSet<String>,
    names: BTreeSet<String>,
}

impl Judge<'_> {
    /// Checks a candidate, and registers it if that is enabled.
    ///
    /// # Errors
    /// Errors that abort the run. If the candidate is invalid or its registration is rejected, the outcome is
    /// `Refused`.
    async fn judge(&mut self, candidate: Candidate) -> Result<Judged, Error> {
        let (mut name, config) = (candidate.name(), &self.ctx.app().config.discovery);
        let unknown = || Error::internal("a scheme that no configuration has");
        let scheme = Scheme::from_word(&config.scheme).ok_or_else(unknown)?;
        let judged = match candidate.gateway(scheme, self.ctx.now()) {
            Err(error) => Err(error),
            Ok(new) => {
                let endpoint = new.endpoint.shown();
                let known = gateways::name_at(&mut self.ctx.db().read().await?, &endpoint).await?;
                if let Some(known) = known {
                    let reason = Some(format!("`{endpoint}` is registered as `{known}`"));
                    name = known;
                    let outcome = Outcome::AlreadyRegistered;
                    return Ok(Judged { candidate, name, outcome, reason });
                }
                if !self.endpoints.insert(endpoint) {
                    let reason = Some("it was found twice".to_owned());
                    let outcome = Outcome::AlreadyRegistered;
                    return Ok(Judged { candidate, name, outcome, reason });
                }
                match self.check(&new).await {
                    Ok(()) if config.auto_register => self.register(new).await,
                    checked => checked.map(|()| Outcome::Registrable),
                }
            }
        };
        let (outcome, reason) = match judged {
            Ok(outcome) => (outcome, None),
            Err(error @ (Error::Invalid { .. } | Error::Exists { .. } | Error::Refused { .. })) => {
                (Outcome::Refused, Some(error.to_string()))
            }
            Err(error) => return Err(error),
        };
        Ok(Judged { candidate, name, outcome, reason })
    }

    /// Runs the checks of a registration, except for the probe.
    async fn check(&mut self, new: &NewGateway) -> Result<(), Error> {
        let app = self.ctx.app();
        let taken = gateways::by_name(&mut app.db.read().await?, &new.name).await?.is_some();
        if taken || !self.names.insert(new.name.clone()) {
            return Err(Error::exists(Kind::Gateway, &new.name));
        }
        domain::check_addresses(app, Some(&new.endpoint), new.oidc_client.as_ref()).await
    }

    /// Registers a checked candidate, with an audit entry of its own, since one run can register many. Candidates that
    /// fail the check have no entry, since every run would add one; the run counts them.
    async fn register(&self, new: NewGateway) -> Result<Outcome, Error> {
        let (ctx, started) = (self.ctx, Instant::now());
        let entry = ctx.app().audit.open(intent(ctx, &new)).await?;
        let registered = domain::add(ctx, new, Some(self.lease)).await;
        let error = registered.as_ref().err().map(display_error);
        let ending = if error.is_none() { Ending::Ok } else { Ending::Failed };
        let code = error.as_ref().map_or(0, |_| FAILED_PRECONDITION);
        let outcome = audit::Outcome {
            took: started.elapsed(),
            detail: error.map(|error| json!({ "error": error })),
            ..audit::Outcome::new(ctx.now(), ending, code)
        };
        ctx.app().audit.close(entry, outcome).await?;
        registered.map(|_| Outcome::Registered)
    }
}

/// gRPC status code as a number, since a registration by discovery is not a gRPC call.
const FAILED_PRECONDITION: i32 = 9;

fn intent(ctx: &Ctx, new: &NewGateway) -> Intent {
    let about = About::new(Action::GATEWAY_REGISTER, new.name.as_str());
    Intent {
        gateway: Some(NamedGateway { id: None, name: new.name.as_str().into() }),
        detail: Some(json!({
            "endpoint": new.endpoint.shown(),
            "auth_mode": new.auth_mode.as_str(),
            "description": new.description,
            "labels": new.labels.clone().into_map(),
        })),
        ..ctx.intent(about)
    }
}

fn kept(
    ctx: &Ctx,
    began_at: Timestamp,
    answers: &[Answer],
    judged: &[Judged],
) -> Result<Run, Error> {
    let count = |is: fn(Outcome) -> bool| {
        let count = judged.iter().filter(|judged| is(judged.outcome)).count();
        i64::try_from(count).unwrap_or(i64::MAX)
    };
    Ok(Run {
        began_at,
        ended_at: ctx.now(),
        actor: ctx.actor().chars().take(ACTOR_CHARACTERS_MAX).collect(),
        found: count(|_| true),
        registered: count(|outcome| outcome == Outcome::Registered),
        skipped: count(|outcome| match outcome {
            Outcome::Registrable | Outcome::AlreadyRegistered | Outcome::Left => true,
            Outcome::Registered | Outcome::Refused => false,
        }),
        failed: count(|outcome| outcome == Outcome::Refused),
        domains_json: serde_json::to_string(answers).map_err(Error::internal)?,
    })
}

fn counts(run: &Run) -> [(&'static str, i64); 4] {
    let Run { found, registered, skipped, failed, .. } = run;
    [("found", *found), ("registered", *registered), ("skipped", *skipped), ("errors", *failed)]
}

/// Stores a run and emits its event. A run of the worker with the same result as the previous run emits none: an event
/// every few minutes would bury the others.
async fn store_run(ctx: &Ctx, lease: &Lease, run: &Run) -> Result<(), Error> {
    ctx.record(async |tx| {
        leases::still_held(tx, lease).await?;
        let before = store::last(tx).await?;
        store::add(tx, run, RUNS_KEPT).await?;
        let what = |run: &Run| (run.found, run.failed, run.domains_json.clone());
        let same = before.is_some_and(|before| what(&before) == what(run));
        if same && run.registered == 0 && ctx.caller().is_none() {
            return Ok(());
        }
        let counts = counts(run).into_iter().map(|(key, count)| (key.to_owned(), json!(count)));
        let mut payload: serde_json::Map<String, Value> = counts.collect();
        let domains = run.answers().into_iter().map(|answer| json!(answer.domain)).collect();
        payload.insert("domains".to_owned(), Value::Array(domains));
        tx.emit(ctx.event(event_types::GATEWAY_DISCOVERED, payload.into())).await
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(domain: &str, count: usize) -> (Answer, Vec<Service>) {
        let service = |n| Service { priority: 0, weight: 0, host: format!("g{n}"), port: 443 };
        let services: Vec<Service> = (0..count).map(service).collect();
        (Answer { domain: domain.to_owned(), found: count, error: None }, services)
    }

    #[test]
    fn excess_candidates_are_dropped_and_reported() {
        let (answers, candidates) = bounded(vec![offers("a", ANSWERS_MAX), offers("b", 1)]);
        assert_eq!(candidates.len(), ANSWERS_MAX + 1);
        assert!(answers.iter().all(|answer| answer.error.is_none()));

        let asked = vec![offers("a", ANSWERS_MAX + 1), offers("b", ANSWERS_MAX), offers("c", 1)];
        let (answers, candidates) = bounded(asked);
        assert_eq!(candidates.len(), CANDIDATES_MAX);
        let errors: Vec<Option<&str>> = answers.iter().map(|a| a.error.as_deref()).collect();
        let first = Some("it offers 101, of which 100 were looked at");
        assert_eq!(errors, [first, None, Some("it offers 1, of which 0 were looked at")]);
    }
}
