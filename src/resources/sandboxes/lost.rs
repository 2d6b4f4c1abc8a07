//! Answers that were lost: what became of a creation, and patience with whoever is away for a moment.
//!
//! Invariants
//! - the sandbox of an operation is known by its annotation, or by the gateway, which tells a repeat;
//! - a replica that stops, or has lost its lease, waits for nothing more: another goes on.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::{sleep, timeout};

use crate::error::{Error, Kind};
use crate::openshell::sandbox::{NewSandbox, Place, Sandbox};
use crate::openshell::{Gateway, Wire, annotation};
use crate::resources::operations::patience::{self, is_anothers, is_final};
use crate::resources::operations::{Code, Failure, Running};

/// How long a gateway that has not answered is asked what became of a sandbox: longer than its budget may be spent.
const ASK_TIME: Duration = Duration::from_secs(90);
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
    pub(super) place: &'a Place,
    /// Whether it may be asked for again.
    pub(super) again: Again<'a>,
    /// Why there was no answer, or what was answered; none where that went with a replica.
    pub(super) why: Option<Failure>,
}

/// Asking for the same again, where the gateway tells a repeat by its `request_id`, and answers as it did before.
#[derive(Debug)]
pub(super) enum Again<'a> {
    /// What is known to have been made is not asked for again.
    Not,
    /// As we asked for it.
    Own(&'a NewSandbox),
    /// As a stock client asked for it, who gave the id: the sandbox has no annotation of ours. What was cancelled is asked
    /// for again too, since it can't be found and taken back in another way.
    Passed(&'a HeaderMap, &'a Bytes),
}

/// Asks what became of a sandbox whose creation was not answered.
pub(super) async fn what_became(running: &Running, lost: &Lost<'_>) -> Result<Sandbox, Failure> {
    tokio::select! {
        became = timeout(ASK_TIME, search(running, lost)) => became.unwrap_or_else(|_| {
            let why = "the gateway did not say what became of the sandbox";
            let silent = || Failure::new(Code::GatewayUnreachable, why);
            Err(lost.why.clone().unwrap_or_else(silent))
        }),
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
    let Lost { gateway, place, .. } = lost;
    if let Again::Passed(headers, message) = &lost.again {
        running.still_mine()?;
        return repeat(gateway, headers, message).await;
    }
    let is_ours = |sandbox: &Sandbox| {
        sandbox.annotations.get(annotation::OPERATION).is_some_and(|id| id == running.id())
    };
    if place.name.is_empty() {
        let all = gateway.list_sandboxes(Some(&place.workspace)).await?;
        if let Some(found) = all.into_iter().find(is_ours) {
            return Ok(Some(found));
        }
    } else {
        match gateway.get_sandbox(place).await {
            Ok(found) if is_ours(&found) => return Ok(Some(found)),
            Ok(_) => return Err(Error::exists(Kind::Sandbox, &place.name)),
            Err(Error::Missing { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    match (gateway.wire(), &lost.again) {
        (Wire::V0_1, Again::Own(new)) if !running.cancel().is_cancelled() => {
            running.still_mine()?;
            gateway.create_sandbox(new).await.map(Some)
        }
        (Wire::V0_0 | Wire::V0_1, _) => Ok(None),
    }
}

async fn repeat(
    gateway: &Gateway,
    headers: &HeaderMap,
    message: &Bytes,
) -> Result<Option<Sandbox>, Error> {
    let (passed, sandbox) = gateway.pass_create((headers.clone(), None), message).await?;
    match passed.refused {
        Some(error) => Err(error),
        None => Ok(sandbox),
    }
}
