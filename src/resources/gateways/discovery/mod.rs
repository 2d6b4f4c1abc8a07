//! Discovery of gateways that domains advertise by DNS.
//!
//! Invariants
//! - only domains in the configuration are queried, for every caller;
//! - a discovered gateway is checked as if an admin had registered it; it is only reported unless the configuration
//!   enables automatic registration;
//! - a gateway registered here has no credentials, and no label that decides about access (T07);
//! - only one run is in progress across all replicas: the worker and admins share a lease;
//! - a run is bounded in domains, records per domain, candidates and time; what exceeds a bound is reported;
//! - a failed query is an error, never an empty result.

pub mod candidate;
pub mod messages;
pub mod run;
pub mod store;
pub mod worker;

use serde::{Deserialize, Serialize};

use self::candidate::Candidate;
use crate::ctx::Ctx;
use crate::error::Error;

/// Result of the query of one domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainResult {
    /// The domain.
    pub domain: String,
    /// Number of gateways that it advertises.
    pub found: usize,
    /// Why the result is missing or incomplete.
    pub error: Option<String>,
}

/// Outcome for a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateOutcome {
    /// Registered in this run.
    Registered,
    /// Can be registered.
    Registrable,
    /// Its endpoint is registered already.
    AlreadyRegistered,
    /// Its registration was rejected.
    Refused,
    /// Not checked, since the run ran out of time.
    NotChecked,
}

/// A candidate and its outcome.
#[derive(Debug)]
pub struct CheckedCandidate {
    /// The candidate.
    pub candidate: Candidate,
    /// Name that it has, or would have, as a gateway.
    pub name: String,
    /// Outcome.
    pub outcome: CandidateOutcome,
    /// Why it was not registered.
    pub reason: Option<String>,
}

/// Result of a run.
#[derive(Debug)]
pub struct DiscoveryResult {
    /// All candidates, in the order of domains and records.
    pub candidates: Vec<CheckedCandidate>,
    /// The run as stored.
    pub run: store::DiscoveryRun,
}

/// Returns the last run of any replica.
pub async fn last_run(ctx: &Ctx) -> Result<Option<store::DiscoveryRun>, Error> {
    store::last(&mut ctx.db().read().await?).await
}
