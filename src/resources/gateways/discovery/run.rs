//! One run of discovery: queries the domains concurrently and checks their candidates one at a time.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::candidate::{Candidate, name_indexes, sort_records};
use super::store::{self, DiscoveryRun};
use super::{CandidateOutcome, CheckedCandidate, DiscoveryResult, DomainResult};
use crate::access::action::Action;
use crate::access::policy::AuditSubject;
use crate::app::App;
use crate::audit::{self, Ending, Intent};
use crate::clock::Timestamp;
use crate::config::Discovery;
use crate::ctx::Ctx;
use crate::db::leases::{self, Lease};
use crate::db::types::NamedGateway;
use crate::error::{Error, Reason, ResourceKind};
use crate::net::names::SrvRecord;
use crate::outbox::event_types;
use crate::resources::gateways::domain::{self, NewGateway};
use crate::resources::gateways::store as gateways;
use crate::upstream::endpoint::{Endpoint, Scheme};
use crate::upstream::probe::display_error;

/// Maximum number of records used per domain.
pub const RECORDS_MAX: usize = 100;
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
const ERROR_CHARACTERS_MAX: usize = 500;

/// Runs discovery for an admin, on these domains or, if the list is empty, on all configured ones.
pub async fn discover(ctx: &Ctx, asked: &[String]) -> Result<DiscoveryResult, Error> {
    let domains = select_domains(&ctx.app().config.discovery, asked)?;
    ctx.add_audit_detail("domains", json!(domains));
    let Some(found) = run(ctx, &domains).await? else {
        let why = "a discovery is in progress on this or another replica: retry later";
        return Err(Error::refused(Reason::DiscoveryRunning, why.to_owned()));
    };
    for (key, count) in counts(&found.run) {
        ctx.add_audit_detail(key, count);
    }
    Ok(found)
}

/// Selects domains from the configured ones. A caller cannot add any, since a domain decides where Shoreguard connects.
fn select_domains(config: &Discovery, asked: &[String]) -> Result<Vec<String>, Error> {
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
pub async fn run(ctx: &Ctx, domains: &[String]) -> Result<Option<DiscoveryResult>, Error> {
    let app = ctx.app();
    let Some(lease) = leases::acquire(&app.db, LEASE, &app.replica, lease_time(app)).await? else {
        return Ok(None);
    };
    let found = run_with_lease(ctx, &lease, domains).await;
    // A lease that another replica has taken over needs no release.
    let _ = leases::release(&app.db, lease).await;
    found.map(Some)
}

/// Returns the duration of the lease: enough for connecting to one candidate, including TLS, and probing it.
fn lease_time(app: &App) -> Duration {
    let config = &app.config.gateways;
    config.connect_timeout() * 3 + config.probe_timeout() * 2 + LEASE_MARGIN
}

async fn run_with_lease(
    ctx: &Ctx,
    lease: &Lease,
    domains: &[String],
) -> Result<DiscoveryResult, Error> {
    let app = ctx.app();
    let began_at = ctx.now();
    let until = Instant::now() + RUN_TIME;
    let asked = join_all(domains.iter().map(|domain| query_domain(app, domain))).await;
    let (answers, candidates) = limit_candidates(asked);
    let mut checker =
        CandidateChecker { ctx, lease, endpoints: BTreeSet::new(), names: BTreeSet::new() };
    let mut results = Vec::new();
    let indexes = name_indexes(&candidates);
    for (candidate, index) in candidates.into_iter().zip(indexes) {
        if Instant::now() >= until {
            let name = candidate.names()[index].clone();
            let reason = Some("the time limit of this run was reached".to_owned());
            let outcome = CandidateOutcome::NotChecked;
            results.push(CheckedCandidate { candidate, name, outcome, reason });
            continue;
        }
        results.push(checker.check_candidate(candidate, index).await?);
        leases::renew(&app.db, lease, lease_time(app)).await?;
    }
    let run = build_run(ctx, began_at, &answers, &results)?;
    store_run(ctx, lease, &run).await?;
    Ok(DiscoveryResult { candidates: results, run })
}

/// Queries a domain. Returns the result to report and the records in order.
async fn query_domain(app: &App, domain: &str) -> (DomainResult, Vec<SrvRecord>) {
    let name = format!("_openshell._tcp.{domain}");
    let within = app.config.discovery.timeout();
    let (services, error) = match timeout(within, app.fleet.names.srv_records(&name)).await {
        Ok(Ok(services)) => (sort_records(services), None),
        Ok(Err(why)) => (Vec::new(), Some(why.chars().take(ERROR_CHARACTERS_MAX).collect())),
        Err(_) => (Vec::new(), Some("no answer in time".to_owned())),
    };
    if let Some(why) = &error {
        warn!(domain, why, "the gateways of a domain could not be looked up");
    }
    (DomainResult { domain: domain.to_owned(), found: services.len(), error }, services)
}

/// Drops the records beyond the limits and reports that at their domain.
fn limit_candidates(
    asked: Vec<(DomainResult, Vec<SrvRecord>)>,
) -> (Vec<DomainResult>, Vec<Candidate>) {
    let (mut answers, mut candidates) = (Vec::new(), Vec::new());
    for (mut answer, mut services) in asked {
        let room = RECORDS_MAX.min(CANDIDATES_MAX - candidates.len());
        if services.len() > room {
            answer.error =
                Some(format!("it offers {}, of which {room} were looked at", services.len()));
            services.truncate(room);
        }
        let domain = answer.domain.clone();
        let of_it = services
            .into_iter()
            .map(|service| Candidate { domain: domain.clone(), record: service });
        candidates.extend(of_it);
        answers.push(answer);
    }
    (answers, candidates)
}

/// Checks candidates, and remembers the endpoints and names of this run.
struct CandidateChecker<'a> {
    ctx: &'a Ctx,
    lease: &'a Lease,
    endpoints: BTreeSet<String>,
    names: BTreeSet<String>,
}

impl CandidateChecker<'_> {
    /// Checks a candidate, and registers it if that is enabled. `index` is that of the first name that no other
    /// candidate has.
    ///
    /// # Errors
    /// Errors that abort the run. If the candidate is invalid or its registration is rejected, the outcome is
    /// `Refused`.
    async fn check_candidate(
        &mut self,
        candidate: Candidate,
        index: usize,
    ) -> Result<CheckedCandidate, Error> {
        let mut name = candidate.names()[index].clone();
        let (outcome, reason) = match self.classify(&candidate, index, &mut name).await {
            Ok(classified) => classified,
            Err(
                error @ (Error::Invalid { .. }
                | Error::AlreadyExists { .. }
                | Error::Refused { .. }
                | Error::Explained { .. }),
            ) => (CandidateOutcome::Refused, Some(error.to_string())),
            Err(error) => return Err(error),
        };
        Ok(CheckedCandidate { candidate, name, outcome, reason })
    }

    /// Returns the outcome for a candidate, and why it was not registered. Sets the name that it has or would have.
    async fn classify(
        &mut self,
        candidate: &Candidate,
        index: usize,
        name: &mut String,
    ) -> Result<(CandidateOutcome, Option<String>), Error> {
        let config = &self.ctx.app().config.discovery;
        let unknown = || Error::internal("a scheme that no configuration has");
        let scheme = Scheme::from_word(&config.scheme).ok_or_else(unknown)?;
        let endpoint = Endpoint::parse("endpoint", &candidate.endpoint())?.display();
        let known = gateways::name_by_endpoint(&mut self.ctx.db().read().await?, &endpoint).await?;
        if let Some(known) = known {
            let reason = format!("`{endpoint}` is registered as `{known}`");
            *name = known;
            return Ok((CandidateOutcome::AlreadyRegistered, Some(reason)));
        }
        if !self.endpoints.insert(endpoint) {
            let reason = "it was found twice".to_owned();
            return Ok((CandidateOutcome::AlreadyRegistered, Some(reason)));
        }
        *name = self.free_name(candidate, index).await?;
        let new = candidate.to_new_gateway(name, scheme, self.ctx.now())?;
        self.check_registration(&new).await?;
        if config.auto_register {
            return Ok((self.register(new).await?, None));
        }
        Ok((CandidateOutcome::Registrable, None))
    }

    /// Returns the first name from `index` on that no registered gateway has, or the last one. A registered gateway
    /// with the same first label may not be among the candidates, for example while its record is missing.
    async fn free_name(&self, candidate: &Candidate, index: usize) -> Result<String, Error> {
        let [.., last] = candidate.names();
        for name in &candidate.names()[index..] {
            let mut conn = self.ctx.db().read().await?;
            let taken = gateways::by_name(&mut conn, name).await?.is_some();
            if !taken && !self.names.contains(name) {
                return Ok(name.clone());
            }
        }
        Ok(last)
    }

    /// Runs the checks of a registration, except for the probe.
    async fn check_registration(&mut self, new: &NewGateway) -> Result<(), Error> {
        let app = self.ctx.app();
        let taken = gateways::by_name(&mut app.db.read().await?, &new.name).await?.is_some();
        if taken || !self.names.insert(new.name.clone()) {
            return Err(Error::already_exists(ResourceKind::Gateway, &new.name));
        }
        domain::check_addresses(app, Some(&new.endpoint), new.oidc_client.as_ref()).await
    }

    /// Registers a checked candidate, with an audit entry of its own, since one run can register many. Candidates that
    /// fail the check have no entry, since every run would add one; the run counts them.
    async fn register(&self, new: NewGateway) -> Result<CandidateOutcome, Error> {
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
        registered.map(|_| CandidateOutcome::Registered)
    }
}

/// gRPC status code as a number, since a registration by discovery is not a gRPC call.
const FAILED_PRECONDITION: i32 = 9;

fn intent(ctx: &Ctx, new: &NewGateway) -> Intent {
    let about = AuditSubject::new(Action::GATEWAY_REGISTER, new.name.as_str());
    Intent {
        gateway: Some(NamedGateway { id: None, name: new.name.as_str().into() }),
        detail: Some(json!({
            "endpoint": new.endpoint.display(),
            "auth_mode": new.auth_mode.as_str(),
            "description": new.description,
            "labels": new.labels.clone().into_map(),
        })),
        ..ctx.new_intent(about)
    }
}

fn build_run(
    ctx: &Ctx,
    began_at: Timestamp,
    answers: &[DomainResult],
    checked: &[CheckedCandidate],
) -> Result<DiscoveryRun, Error> {
    let count = |is: fn(CandidateOutcome) -> bool| {
        let count = checked.iter().filter(|checked| is(checked.outcome)).count();
        i64::try_from(count).unwrap_or(i64::MAX)
    };
    Ok(DiscoveryRun {
        began_at,
        ended_at: ctx.now(),
        actor: ctx.stored_actor(),
        found: count(|_| true),
        registered: count(|outcome| outcome == CandidateOutcome::Registered),
        skipped: count(|outcome| match outcome {
            CandidateOutcome::Registrable
            | CandidateOutcome::AlreadyRegistered
            | CandidateOutcome::NotChecked => true,
            CandidateOutcome::Registered | CandidateOutcome::Refused => false,
        }),
        failed: count(|outcome| outcome == CandidateOutcome::Refused),
        domains_json: serde_json::to_string(answers).map_err(Error::internal)?,
    })
}

fn counts(run: &DiscoveryRun) -> [(&'static str, i64); 4] {
    let DiscoveryRun { found, registered, skipped, failed, .. } = run;
    [("found", *found), ("registered", *registered), ("skipped", *skipped), ("errors", *failed)]
}

/// Stores a run and emits its event. A run of the worker with the same result as the previous run emits none: an event
/// every few minutes would bury the others.
async fn store_run(ctx: &Ctx, lease: &Lease, run: &DiscoveryRun) -> Result<(), Error> {
    ctx.record_change(async |tx| {
        leases::check_held(tx, lease).await?;
        let before = store::last(tx).await?;
        store::add(tx, run, RUNS_KEPT).await?;
        let what = |run: &DiscoveryRun| (run.found, run.failed, run.domains_json.clone());
        let same = before.is_some_and(|before| what(&before) == what(run));
        if same && run.registered == 0 && ctx.caller().is_none() {
            return Ok(());
        }
        let counts = counts(run).into_iter().map(|(key, count)| (key.to_owned(), json!(count)));
        let mut payload: serde_json::Map<String, Value> = counts.collect();
        let domains = run.domain_results().into_iter().map(|answer| json!(answer.domain)).collect();
        payload.insert("domains".to_owned(), Value::Array(domains));
        tx.emit(ctx.new_event(event_types::GATEWAY_DISCOVERED, payload.into())).await
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(domain: &str, count: usize) -> (DomainResult, Vec<SrvRecord>) {
        let service = |n| SrvRecord { priority: 0, weight: 0, host: format!("g{n}"), port: 443 };
        let services: Vec<SrvRecord> = (0..count).map(service).collect();
        (DomainResult { domain: domain.to_owned(), found: count, error: None }, services)
    }

    #[test]
    fn excess_candidates_are_dropped_and_reported() {
        let (answers, candidates) =
            limit_candidates(vec![offers("a", RECORDS_MAX), offers("b", 1)]);
        assert_eq!(candidates.len(), RECORDS_MAX + 1);
        assert!(answers.iter().all(|answer| answer.error.is_none()));

        let asked = vec![offers("a", RECORDS_MAX + 1), offers("b", RECORDS_MAX), offers("c", 1)];
        let (answers, candidates) = limit_candidates(asked);
        assert_eq!(candidates.len(), CANDIDATES_MAX);
        let errors: Vec<Option<&str>> = answers.iter().map(|a| a.error.as_deref()).collect();
        let first = Some("it offers 101, of which 100 were looked at");
        assert_eq!(errors, [first, None, Some("it offers 1, of which 0 were looked at")]);
    }
}
