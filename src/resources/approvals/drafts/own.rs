//! Changes of drafts through Shoreguard's own API, besides edits: undoing an approved one, and clearing the pending ones.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tracing::warn;

use super::content::is_chunk_id;
use super::current::{self, CurrentDrafts};
use super::edit::wrong_status;
use super::undo::{self, Undoing};
use crate::ctx::Ctx;
use crate::db::types::SandboxRef;
use crate::error::{Error, GatewayRefusal, ResourceKind};
use crate::governance::Origin;
use crate::openshell::Gateway;
use crate::openshell::drafts::ChunkStatus;
use crate::resources::approvals::apply::start_now;
use crate::resources::approvals::rounds::{Round, RoundState};
use crate::resources::approvals::wake;

/// Time for the call.
const CALL_TIME: Duration = Duration::from_secs(20);

/// Opens the round that removes an approved draft from the policy. Without a workflow the caller has decided it, and its
/// write begins. Returns the round, and the operation that writes it.
///
/// # Errors
/// `NOT_FOUND` if the draft does not exist, `CHUNK_STATUS` if it is not approved; those of [`undo::submit`].
pub fn undo<'a>(
    ctx: &'a Ctx,
    gateway: &'a Gateway,
    place: &'a SandboxRef,
    (chunk, comment): (&'a str, &'a str),
) -> BoxFuture<'a, Result<(Round, Option<String>), Error>> {
    Box::pin(async move {
        let current = CurrentDrafts::read(gateway, place).await?;
        let found = current.chunk(chunk)?;
        if found.status != ChunkStatus::MaybeApproved {
            return Err(wrong_status(found, "approved"));
        }
        let undoing =
            Undoing::of(gateway, place, (&current, found), (Origin::Own, comment)).await?;
        let opened = undo::submit(ctx, undoing).await?;
        let opened =
            opened.ok_or_else(|| Error::internal("a change that passed without a round"))?;
        let round = opened.round;
        if round.state == RoundState::Open {
            return Ok((round, None));
        }
        let operation = start_now(ctx.app(), &round).await;
        if operation.is_none() {
            wake(ctx.app());
        }
        Ok((round, operation))
    })
}

/// Parses the id of a chunk.
///
/// # Errors
/// `Invalid` for `field`.
pub fn parse_chunk_id(field: &str, id: String) -> Result<String, Error> {
    if is_chunk_id(&id) {
        return Ok(id);
    }
    let why = "is required: the id of a draft, 1 to 100 bytes without `:` and control characters";
    Err(Error::invalid(field, why))
}

/// Deletes the pending drafts of a sandbox on its gateway, and ends their rounds. Returns the numbers of both.
///
/// # Errors
/// `NOT_FOUND` if the sandbox does not exist; those of the call.
pub fn clear<'a>(
    ctx: &'a Ctx,
    gateway: &'a Gateway,
    place: &'a SandboxRef,
) -> BoxFuture<'a, Result<(u32, u32), Error>> {
    Box::pin(async move {
        let until = ctx.app().clock.since_boot() + CALL_TIME;
        let cleared = match gateway.clear_drafts(&place.name, until).await {
            Err(Error::Gateway { refusal: GatewayRefusal::NotFound, .. }) => {
                return Err(Error::not_found(ResourceKind::Sandbox, &place.name));
            }
            answer => answer?,
        };
        let why = format!("the drafts were cleared by {}", ctx.actor());
        let superseded = match current::refresh(ctx, gateway, place, &why).await {
            Ok(superseded) => superseded,
            Err(error) => {
                // The gateway has deleted them. The reviews end later.
                let error = &error as &dyn std::error::Error;
                warn!(error, "reviews of deleted drafts are still open");
                0
            }
        };
        Ok((cleared, superseded))
    })
}
