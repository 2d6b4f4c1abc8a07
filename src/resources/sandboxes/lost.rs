//! Answers that were lost: what became of a creation, and patience with whoever is away for a moment.
//!
//! Invariants
//! - the sandbox of a creation is known by its annotation alone: nothing is sent again to find out;
//! - a replica that stops, or has lost its lease, waits for nothing more: another goes on.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::db::types::SandboxName;
use crate::error::{Error, Kind};
use crate::openshell::sandbox::Sandbox;
use crate::openshell::{Gateway, annotation};
use crate::resources::operations::patience::{self, is_anothers, is_final};
use crate::resources::operations::{Code, Failure, Running};

/// How long a gateway that has not answered is asked what became of a sandbox: longer than its budget may be spent.
const ASK_TIME: Duration = Duration::from_secs(90);
/// Bytes of a request id.
const REQUEST_ID_BYTES: usize = 36;
/// How long it rests in between.
pub(super) const REST: Duration = Duration::from_millis(1_500);

/// Tries something for a minute, unless it can't get better, or another replica is to go on.
pub(super) async fn patiently<T, F, Fut>(running: &Running, attempt: F) -> Result<T, Failure>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Error>>,
{
    let done = patience::patiently(running, attempt).await;
    done.map_err(|error| if is_anothers(running) { Failure::cancelled() } else { error.into() })
}

/// A creation whose answer was lost.
#[derive(Debug)]
pub(super) struct Lost<'a> {
    /// The gateway that was asked: what became of it no other one knows, also where it has moved.
    pub(super) gateway: &'a Gateway,
    /// Where the sandbox was to be; the name may be empty.
    pub(super) place: &'a SandboxName,
    /// By which its sandbox is known.
    pub(super) mark: &'a Mark,
    /// Why there was no answer, or what was answered; none where that went with a replica.
    pub(super) why: Option<Failure>,
}

/// The annotation by which the sandbox of a creation is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Mark {
    /// The id of the operation.
    #[default]
    Operation,
    /// The request id that a stock client gave, beside the actor: a client may repeat its message under it, and a gateway
    /// takes a message that differs for another one.
    Request(String),
}

impl Mark {
    /// Of a creation by a stock client, with its request id. What is no id for a gateway either is not noted.
    pub(super) fn of(request_id: &str) -> Self {
        let is_id = request_id.len() == REQUEST_ID_BYTES && Uuid::try_parse(request_id).is_ok();
        if is_id { Self::Request(request_id.to_owned()) } else { Self::Operation }
    }

    /// Key and value of the annotation.
    pub(super) fn annotation<'a>(&'a self, running: &'a Running) -> (&'static str, &'a str) {
        match self {
            Self::Operation => (annotation::OPERATION, running.id()),
            Self::Request(id) => (annotation::REQUEST, id),
        }
    }

    fn is_on(&self, sandbox: &Sandbox, running: &Running) -> bool {
        let (key, value) = self.annotation(running);
        let noted = |key: &str| sandbox.annotations.get(key).map(String::as_str);
        let by_the_actor = || noted(annotation::ACTOR) == Some(&*running.ctx().actor());
        noted(key) == Some(value) && (*self == Self::Operation || by_the_actor())
    }
}

/// Asks what became of a sandbox whose creation was not answered.
pub(super) async fn what_became(running: &Running, lost: &Lost<'_>) -> Result<Sandbox, Failure> {
    tokio::select! {
        became = timeout(ASK_TIME, search(running, lost)) => {
            let became = became.unwrap_or_else(|_| {
                let why = "the gateway did not say what became of the sandbox";
                let silent = || Failure::new(Code::GatewayUnreachable, why);
                Err(lost.why.clone().unwrap_or_else(silent))
            });
            became.inspect(|_| lost.gateway.found_out())
        }
        () = given_up(running) => Err(Failure::cancelled()),
    }
}

/// Until another replica is to go on: this one stops, or has lost its lease.
pub(super) async fn given_up(running: &Running) {
    running.cancel().cancelled().await;
    while !is_anothers(running) {
        sleep(REST).await;
    }
}

async fn search(running: &Running, lost: &Lost<'_>) -> Result<Sandbox, Failure> {
    loop {
        let mut rest = REST;
        match ask(running, lost).await {
            Ok(Some(sandbox)) => return Ok(sandbox),
            // Its budget is spent until the next minute.
            Err(Error::Exhausted { retry_in, .. }) => rest = retry_in.max(REST),
            Err(error) if is_final(&error) => return Err(error.into()),
            // It may be there in a moment.
            Ok(None) | Err(_) => {}
        }
        // Whoever cancels wants to know what became of it, too.
        sleep(rest).await;
    }
}

async fn ask(running: &Running, lost: &Lost<'_>) -> Result<Option<Sandbox>, Error> {
    let Lost { gateway, place, mark, .. } = lost;
    if place.name.is_empty() {
        let all = gateway.list_sandboxes(Some(&place.workspace)).await?;
        return Ok(all.into_iter().find(|sandbox| mark.is_on(sandbox, running)));
    }
    match gateway.get_sandbox(place).await {
        Ok(found) if mark.is_on(&found, running) => Ok(Some(found)),
        Ok(_) => Err(Error::exists(Kind::Sandbox, &place.name)),
        Err(Error::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
