//! Finds out whether a sandbox was created when the gateway's response was lost, and retries calls while a gateway or
//! the database is unavailable.
//!
//! Invariants
//! - the sandbox of a creation is identified by its annotation alone: the create request is not sent again;
//! - a replica that is shutting down or has lost its lease does not wait any longer: another replica resumes the
//!   operation.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use uuid::Uuid;

use crate::db::types::SandboxName;
use crate::error::{Error, GatewayRefusal, ResourceKind};
use crate::openshell::sandbox::Sandbox;
use crate::openshell::{Gateway, annotation};
use crate::resources::operations::retry::{self, is_final, is_handed_over};
use crate::resources::operations::{Failure, FailureCode, RunningOperation};

/// How long a gateway is asked whether it created a sandbox. Longer than its response budget, which is per minute, can
/// stay exhausted.
const ASK_TIME: Duration = Duration::from_secs(90);
/// How long a sandbox may take to appear on a gateway that has ended the creation with an error.
const APPEAR_TIME: Duration = Duration::from_secs(4);
/// Length of a request id, in bytes.
const REQUEST_ID_BYTES: usize = 36;
/// Pause between two attempts.
pub(super) const PAUSE: Duration = Duration::from_millis(1_500);

/// Retries `attempt` for a minute. Stops early if a retry cannot help, or if another replica resumes the operation.
pub(super) async fn with_retries<T, F, Fut>(
    running: &RunningOperation,
    attempt: F,
) -> Result<T, Failure>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Error>>,
{
    let done = retry::with_retries(running, attempt).await;
    done.map_err(|error| if is_handed_over(running) { Failure::cancelled() } else { error.into() })
}

/// A creation whose response was lost.
#[derive(Debug)]
pub(super) struct LostCreation<'a> {
    /// The gateway handle that sent the request. Only this gateway knows the outcome, even if its registration has
    /// changed since.
    pub(super) gateway: &'a Gateway,
    /// Place of the sandbox. The name may be empty.
    pub(super) place: &'a SandboxName,
    /// Annotation that identifies the sandbox.
    pub(super) mark: &'a CreationMark,
    /// The gateway's error, or why there was no response. `None` after a takeover.
    pub(super) why: Option<CreateFailure>,
}

/// The error of a creation that may have created the sandbox anyway.
#[derive(Debug, Clone)]
pub(super) struct CreateFailure {
    /// The gateway's error, or why there was no response.
    pub(super) failure: Failure,
    /// Whether the gateway has ended the request, so that it creates the sandbox now or not at all.
    pub(super) ended: bool,
}

impl CreateFailure {
    /// Creates it from the gateway's error, or from Shoreguard's own if there was no response.
    pub(super) fn new(error: &Error, failure: Failure) -> Self {
        Self { failure, ended: has_ended(error) }
    }
}

impl From<Error> for CreateFailure {
    fn from(error: Error) -> Self {
        Self { ended: has_ended(&error), failure: error.into() }
    }
}

/// Whether the gateway itself reports that the creation failed. A front end can answer for it with `UNAVAILABLE`, while
/// the gateway continues.
fn has_ended(error: &Error) -> bool {
    matches!(error, Error::Gateway { refusal: GatewayRefusal::Failed, .. })
}

/// Annotation that identifies the sandbox of a creation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum CreationMark {
    /// The operation's id.
    #[default]
    Operation,
    /// The request id of a stock client, checked together with the actor. A client may repeat its message with the same
    /// request id, and a gateway treats a message with other bytes as a new request, so the annotation must be the same
    /// each time.
    Request(String),
}

impl CreationMark {
    /// Selects the annotation for a creation by a stock client. A text that a gateway would not accept as a request id
    /// is ignored.
    pub(super) fn from_request_id(request_id: &str) -> Self {
        let is_id = request_id.len() == REQUEST_ID_BYTES && Uuid::try_parse(request_id).is_ok();
        if is_id { Self::Request(request_id.to_owned()) } else { Self::Operation }
    }

    /// Returns key and value of the annotation.
    pub(super) fn annotation<'a>(
        &'a self,
        running: &'a RunningOperation,
    ) -> (&'static str, &'a str) {
        match self {
            Self::Operation => (annotation::OPERATION, running.id()),
            Self::Request(id) => (annotation::REQUEST, id),
        }
    }

    /// Whether the sandbox carries the annotation.
    pub(super) fn is_on(&self, sandbox: &Sandbox, running: &RunningOperation) -> bool {
        let (key, value) = self.annotation(running);
        let noted = |key: &str| sandbox.annotations.get(key).map(String::as_str);
        let by_the_actor = || noted(annotation::ACTOR) == Some(&*running.ctx().actor());
        noted(key) == Some(value) && (*self == Self::Operation || by_the_actor())
    }
}

/// Asks the gateway whether it created a sandbox, until it is found, the answer is final or the time is up. The time is
/// a few seconds if the gateway has ended the request with an error.
pub(super) async fn find_outcome(
    running: &RunningOperation,
    lost: &LostCreation<'_>,
) -> Result<Sandbox, Failure> {
    tokio::select! {
        became = timeout(ASK_TIME, search(running, lost)) => {
            let became = became.unwrap_or_else(|_| {
                let why = "the gateway did not report whether it created the sandbox";
                let silent = || Failure::new(FailureCode::GatewayUnreachable, why);
                Err(lost.why.as_ref().map_or_else(silent, |why| why.failure.clone()))
            });
            became.inspect(|_| lost.gateway.mark_outcome_known())
        }
        () = wait_handed_over(running) => Err(Failure::cancelled()),
    }
}

/// Waits until another replica must resume the operation: this one is shutting down or has lost its lease.
pub(super) async fn wait_handed_over(running: &RunningOperation) {
    running.cancel().cancelled().await;
    while !is_handed_over(running) {
        running.ctx().app().clock.sleep(PAUSE).await;
    }
}

async fn search(running: &RunningOperation, lost: &LostCreation<'_>) -> Result<Sandbox, Failure> {
    let clock = &running.ctx().app().clock;
    let appeared_by = clock.since_boot() + APPEAR_TIME;
    let ended = lost.why.as_ref().filter(|why| why.ended).map(|why| &why.failure);
    loop {
        let mut rest = PAUSE;
        match find_by_mark(running, lost).await {
            Ok(Some(sandbox)) => return Ok(sandbox),
            // The gateway's response budget is exhausted until the next minute.
            Err(Error::Exhausted { retry_in, .. }) => rest = retry_in.max(PAUSE),
            Err(error) if is_final(&error) => return Err(error.into()),
            // The sandbox may appear later.
            Ok(None) => {
                if let Some(failure) = ended.filter(|_| clock.since_boot() >= appeared_by) {
                    return Err(failure.clone());
                }
            }
            Err(_) => {}
        }
        // A cancellation does not end the search: a created sandbox must be found to be deleted.
        clock.sleep(rest).await;
    }
}

async fn find_by_mark(
    running: &RunningOperation,
    lost: &LostCreation<'_>,
) -> Result<Option<Sandbox>, Error> {
    let LostCreation { gateway, place, mark, .. } = lost;
    if place.name.is_empty() {
        let all = gateway.list_sandboxes(Some(&place.workspace)).await?;
        return Ok(all.into_iter().find(|sandbox| mark.is_on(sandbox, running)));
    }
    match gateway.get_sandbox(place).await {
        Ok(found) if mark.is_on(&found, running) => Ok(Some(found)),
        Ok(_) => Err(Error::already_exists(ResourceKind::Sandbox, &place.name)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
