//! Gateways that domains offer by DNS.
//!
//! Invariants
//! - only domains that the configuration names are looked at, whoever asks;
//! - what is found is judged as if an admin had registered it, and unless the configuration says otherwise only told of;
//! - what is registered here has no credentials, and no label that decides about access (T07);
//! - one run goes on at a time, over all replicas: the worker's and those of admins share a lease;
//! - a run has bounds: domains, answers of each, candidates, time; what is beyond them is said to be;
//! - a domain that could not be asked is never one that offers nothing.

pub mod candidate;
pub mod messages;
pub mod run;
pub mod store;
pub mod worker;

use serde::{Deserialize, Serialize};

use self::candidate::Candidate;
use crate::ctx::Ctx;
use crate::error::Error;

/// What a domain has answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The domain.
    pub domain: String,
    /// How many gateways it offers.
    pub found: usize,
    /// Why it is not known which it offers, or not all of them.
    pub error: Option<String>,
}

/// What became of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is registered now.
    Registered,
    /// It would be.
    Registrable,
    /// Its endpoint was known.
    AlreadyRegistered,
    /// A registration is refused.
    Refused,
    /// The time was over.
    Left,
}

/// A candidate that was judged.
#[derive(Debug)]
pub struct Judged {
    /// It.
    pub candidate: Candidate,
    /// The name that it has, gets or would get.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why, where it is not registered.
    pub reason: Option<String>,
}

/// What a run has found.
#[derive(Debug)]
pub struct Found {
    /// Each candidate, in the order of domains and records.
    pub judged: Vec<Judged>,
    /// The run as it is kept.
    pub run: store::Run,
}

/// The last run, on whichever replica.
pub async fn last_run(ctx: &Ctx) -> Result<Option<store::Run>, Error> {
    store::last(&mut ctx.db().read().await?).await
}
