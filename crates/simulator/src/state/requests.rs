//! Request ids: generation 0.1 carries out a write with an id once, and replays the stored response for a repeat.
//!
//! Invariants
//! - each caller has its own table with at most [`ADMISSIONS_MAX`] entries;
//! - a confirmed success is removed after [`SUCCESS_MS`]; other entries are never removed, since no status proves that
//!   nothing was done;
//! - an id is a UUID in its form of 36 characters.

use std::collections::{BTreeMap, HashMap};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use uuid::Uuid;

use super::meta::now_ms;

/// Maximum number of entries per caller.
const ADMISSIONS_MAX: usize = 1_000;

/// Retention of a confirmed success.
const SUCCESS_MS: i64 = 24 * 60 * 60 * 1_000;

/// Maximum number of callers with a table.
const CALLERS_MAX: usize = 1_000;

/// The domain of the error reasons.
const DOMAIN: &str = "openshell";

/// The tables of all callers.
#[derive(Debug, Default)]
pub(crate) struct RequestTable {
    callers: HashMap<String, BTreeMap<RequestKey, RequestRecord>>,
    /// Number of the current key. Entries that were protected by an older key cannot be replayed.
    key: u64,
}

/// The method and the id.
type RequestKey = (&'static str, Uuid);

/// Identifies an entry, to record its outcome.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    caller: String,
    key: RequestKey,
}

/// A request that was admitted.
#[derive(Debug)]
struct RequestRecord {
    request: Vec<u8>,
    key: u64,
    outcome: RequestOutcome,
}

#[derive(Debug)]
enum RequestOutcome {
    /// It is running, has failed, or its end was not recorded.
    Open,
    /// It succeeded with this response, at this time.
    Confirmed(Vec<u8>, i64),
    /// Its stream ended with an exit code, at this time; the output is not stored.
    Ended(i64),
}

/// The result of admitting a request with an id.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It must be carried out, and its outcome recorded with the claim.
    New(Claim),
    /// It was carried out earlier, with this response.
    Repeated(Vec<u8>),
}

impl RequestTable {
    /// Admits a request of a caller, or returns the outcome of the earlier request with the same id.
    pub(crate) fn admit(
        &mut self,
        caller: &str,
        (method, id): (&'static str, &str),
        request: Vec<u8>,
    ) -> Result<Admission, Status> {
        let request_key = (method, parse_request_id(id)?);
        if !self.callers.contains_key(caller) && self.callers.len() == CALLERS_MAX {
            return Err(table_full());
        }
        let (key, now) = (self.key, now_ms());
        let table = self.callers.entry(caller.to_owned()).or_default();
        if table.get(&request_key).is_some_and(|before| before.is_expired(now)) {
            table.remove(&request_key);
        }
        if let Some(before) = table.get(&request_key) {
            return before.replay(&request, key).map(Admission::Repeated);
        }
        if table.len() >= ADMISSIONS_MAX {
            table.retain(|_, before| !before.is_expired(now));
        }
        if table.len() >= ADMISSIONS_MAX {
            return Err(table_full());
        }
        table.insert(request_key, RequestRecord { request, key, outcome: RequestOutcome::Open });
        Ok(Admission::New(Claim { caller: caller.to_owned(), key: request_key }))
    }

    /// Records the response of a success.
    pub(crate) fn confirm(&mut self, claim: &Claim, answer: Vec<u8>) {
        self.record(claim, RequestOutcome::Confirmed(answer, now_ms()));
    }

    /// Records that a command ended with an exit code.
    pub(crate) fn end(&mut self, claim: &Claim) {
        self.record(claim, RequestOutcome::Ended(now_ms()));
    }

    fn record(&mut self, claim: &Claim, outcome: RequestOutcome) {
        let table = self.callers.get_mut(&claim.caller);
        if let Some(admission) = table.and_then(|table| table.get_mut(&claim.key)) {
            admission.outcome = outcome;
        }
    }

    /// Changes the key that protects the entries.
    pub(crate) fn change_key(&mut self) {
        self.key += 1;
    }
}

impl RequestRecord {
    fn is_expired(&self, now: i64) -> bool {
        match self.outcome {
            RequestOutcome::Open => false,
            RequestOutcome::Confirmed(_, at) | RequestOutcome::Ended(at) => {
                now >= at.saturating_add(SUCCESS_MS)
            }
        }
    }

    /// Returns the response to a repeated request.
    fn replay(&self, request: &[u8], key: u64) -> Result<Vec<u8>, Status> {
        if self.key != key {
            let why = "the record of this request_id cannot be replayed";
            return Err(refusal("REQUEST_REPLAY_UNAVAILABLE", why));
        }
        if self.request != request {
            let why = "request_id was already used with a different payload";
            return Err(refusal("REQUEST_ID_PAYLOAD_MISMATCH", why));
        }
        match &self.outcome {
            RequestOutcome::Confirmed(answer, _) => Ok(answer.clone()),
            RequestOutcome::Open => {
                let why = "the outcome of the request with this request_id is not known";
                Err(refusal("REQUEST_OUTCOME_UNCERTAIN", why))
            }
            RequestOutcome::Ended(_) => {
                let why = "the command has ended and its output is not kept";
                Err(refusal("REQUEST_STREAM_UNAVAILABLE", why))
            }
        }
    }
}

fn parse_request_id(id: &str) -> Result<Uuid, Status> {
    let parsed = Uuid::try_parse(id).ok().filter(|parsed| id.len() == 36 && !parsed.is_nil());
    parsed.ok_or_else(|| {
        Status::invalid_argument("request_id must be a nonzero hyphenated UUID (36 characters)")
    })
}

fn table_full() -> Status {
    Status::resource_exhausted("the caller has reached the limit of admitted requests")
}

fn refusal(reason: &str, why: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(Code::FailedPrecondition, why, details)
}
