//! Answers that were lost: what became of a creation, and patience with whoever is away for a moment.
//!
//! Invariants
//! - the sandbox of an operation is known by its annotation, or by the gateway, which tells a repeat;
//! - a replica that stops, or has lost its lease, waits for nothing more: another goes on.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::sleep;

use super::domain::reach;
use crate::error::{Error, Kind};
use crate::openshell::sandbox::{NewSandbox, Place, Sandbox};
use crate::openshell::{Gateway, Wire, annotation};
use crate::proxy::connection::Connection;
use crate::resources::operations::patience::{self, is_anothers, is_final};
use crate::resources::operations::{Code, Failure, Running};

/// How often a gateway that has not answered is asked what became of a sandbox.
const ASK_TRIES: u32 = 20;
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
    /// Where the sandbox was to be; the name may be empty.
    pub(super) place: &'a Place,
    /// Whether it may be asked for again.
    pub(super) again: Again<'a>,
}

/// Asking for the same again, where the gateway tells a repeat by its `request_id`, and answers as it did before.
#[derive(Debug)]
pub(super) enum Again<'a> {
    /// What is known to have been made is not asked for again.
    Not,
    /// As we asked for it.
    Own(&'a NewSandbox),
    /// As a stock client asked for it, who gave the id: the sandbox has no annotation of ours.
    Passed(&'a HeaderMap, &'a Bytes),
}

/// Asks what became of a sandbox whose creation was not answered.
pub(super) async fn what_became(running: &Running, lost: &Lost<'_>) -> Result<Sandbox, Failure> {
    let mut last = None;
    for _ in 0..ASK_TRIES {
        let mut rest = REST;
        match ask(running, lost).await {
            Ok(Some(sandbox)) => return Ok(sandbox),
            Ok(None) => last = Some("it is not there"),
            // Its budget is spent until the next minute.
            Err(Error::Exhausted { retry_in, .. }) => rest = retry_in.max(REST),
            Err(error) if is_final(&error) => return Err(error.into()),
            Err(_) => {}
        }
        // Whoever cancels wants to know what became of it, too.
        sleep(rest).await;
        if is_anothers(running) {
            return Err(Failure::cancelled());
        }
    }
    let why = last.unwrap_or("it can't be reached");
    let why = format!("the gateway did not say what became of the sandbox, and now {why}");
    Err(Failure::new(Code::GatewayUnreachable, why))
}

async fn ask(running: &Running, lost: &Lost<'_>) -> Result<Option<Sandbox>, Error> {
    let gateway = reach(running.ctx()).await?;
    if let Again::Passed(headers, message) = &lost.again {
        return repeat(&gateway, headers, message).await;
    }
    let is_ours = |sandbox: &Sandbox| {
        sandbox.annotations.get(annotation::OPERATION).is_some_and(|id| id == running.id())
    };
    let place = lost.place;
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
            gateway.create_sandbox(new).await.map(Some)
        }
        (Wire::V0_0 | Wire::V0_1, _) => Ok(None),
    }
}

/// Only generation 0.1 tells repeats.
async fn repeat(
    gateway: &Gateway,
    headers: &HeaderMap,
    message: &Bytes,
) -> Result<Option<Sandbox>, Error> {
    if gateway.wire() != Wire::V0_1 {
        return Err(Connection::changed(gateway.name()));
    }
    let (passed, sandbox) = gateway.pass_create((headers.clone(), None), message).await?;
    match passed.refused {
        Some(error) => Err(error),
        None => Ok(sandbox),
    }
}
