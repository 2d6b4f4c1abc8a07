//! Request ids: generation 0.1 admits a write that carries one once, and answers a repeat from what it remembers.
//!
//! Invariants
//! - each caller has a table of its own, of at most [`ADMISSIONS_MAX`] admissions;
//! - a confirmed success leaves the table after [`SUCCESS_MS`]; everything else stays, since no status proves that
//!   nothing was done;
//! - an id is a UUID in its form of 36 characters.

use std::collections::{BTreeMap, HashMap};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use uuid::Uuid;

use super::meta::now_ms;

/// Admissions of one caller.
const ADMISSIONS_MAX: usize = 1_000;

/// How long a confirmed success is kept.
const SUCCESS_MS: i64 = 24 * 60 * 60 * 1_000;

/// The callers that have a table.
const CALLERS_MAX: usize = 1_000;

/// The domain of the reasons.
const DOMAIN: &str = "openshell";

/// What every caller was admitted for.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    callers: HashMap<String, BTreeMap<Asked, Admission>>,
    /// Counts the keys that protected the records; a record of an older key cannot be replayed.
    key: u64,
}

/// The method and the id.
type Asked = (&'static str, Uuid);

/// One admission, by which its outcome is recorded.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    caller: String,
    asked: Asked,
}

/// A request that was admitted.
#[derive(Debug)]
struct Admission {
    request: Vec<u8>,
    key: u64,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    /// It runs, it failed, or nobody recorded its end.
    Open,
    /// It succeeded with this answer, at this time.
    Confirmed(Vec<u8>, i64),
    /// Its stream ended with an exit code, at this time; the output is not kept.
    Ended(i64),
}

/// What is done with a request that carries an id.
#[derive(Debug)]
pub(crate) enum Admitted {
    /// It is carried out, and its outcome recorded under the claim.
    New(Claim),
    /// It was carried out before, with this answer.
    Before(Vec<u8>),
}

impl Requests {
    /// Admits a request of a caller, or says what became of the one that had its id before.
    pub(crate) fn admit(
        &mut self,
        caller: &str,
        (method, id): (&'static str, &str),
        request: Vec<u8>,
    ) -> Result<Admitted, Status> {
        let asked = (method, parse(id)?);
        if !self.callers.contains_key(caller) && self.callers.len() == CALLERS_MAX {
            return Err(full());
        }
        let (key, now) = (self.key, now_ms());
        let table = self.callers.entry(caller.to_owned()).or_default();
        if table.get(&asked).is_some_and(|before| before.is_over(now)) {
            table.remove(&asked);
        }
        if let Some(before) = table.get(&asked) {
            return before.repeated(&request, key).map(Admitted::Before);
        }
        if table.len() >= ADMISSIONS_MAX {
            table.retain(|_, before| !before.is_over(now));
        }
        if table.len() >= ADMISSIONS_MAX {
            return Err(full());
        }
        table.insert(asked, Admission { request, key, outcome: Outcome::Open });
        Ok(Admitted::New(Claim { caller: caller.to_owned(), asked }))
    }

    /// Records the answer of a success.
    pub(crate) fn confirm(&mut self, claim: &Claim, answer: Vec<u8>) {
        self.record(claim, Outcome::Confirmed(answer, now_ms()));
    }

    /// Records that a command ended with an exit code.
    pub(crate) fn end(&mut self, claim: &Claim) {
        self.record(claim, Outcome::Ended(now_ms()));
    }

    fn record(&mut self, claim: &Claim, outcome: Outcome) {
        let table = self.callers.get_mut(&claim.caller);
        if let Some(admission) = table.and_then(|table| table.get_mut(&claim.asked)) {
            admission.outcome = outcome;
        }
    }

    /// Protects records with another key from now on.
    pub(crate) fn change_key(&mut self) {
        self.key += 1;
    }
}

impl Admission {
    fn is_over(&self, now: i64) -> bool {
        match self.outcome {
            Outcome::Open => false,
            Outcome::Confirmed(_, at) | Outcome::Ended(at) => now >= at.saturating_add(SUCCESS_MS),
        }
    }

    /// The answer to a repeat.
    fn repeated(&self, request: &[u8], key: u64) -> Result<Vec<u8>, Status> {
        if self.key != key {
            let why = "the record of this request_id cannot be replayed";
            return Err(refusal("REQUEST_REPLAY_UNAVAILABLE", why));
        }
        if self.request != request {
            let why = "request_id was already used with a different payload";
            return Err(refusal("REQUEST_ID_PAYLOAD_MISMATCH", why));
        }
        match &self.outcome {
            Outcome::Confirmed(answer, _) => Ok(answer.clone()),
            Outcome::Open => {
                let why = "the outcome of the request with this request_id is not known";
                Err(refusal("REQUEST_OUTCOME_UNCERTAIN", why))
            }
            Outcome::Ended(_) => {
                let why = "the command has ended and its output is not kept";
                Err(refusal("REQUEST_STREAM_UNAVAILABLE", why))
            }
        }
    }
}

fn parse(id: &str) -> Result<Uuid, Status> {
    let parsed = Uuid::try_parse(id).ok().filter(|parsed| id.len() == 36 && !parsed.is_nil());
    parsed.ok_or_else(|| {
        Status::invalid_argument("request_id must be a nonzero hyphenated UUID (36 characters)")
    })
}

fn full() -> Status {
    Status::resource_exhausted("the caller has reached the limit of admitted requests")
}

fn refusal(reason: &str, why: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(Code::FailedPrecondition, why, details)
}
