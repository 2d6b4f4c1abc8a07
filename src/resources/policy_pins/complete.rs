//! Facts of the gateway about a pinned sandbox: they are stored when the sandbox is pinned, or later by the clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream;
use tokio::time::timeout;
use tracing::debug;

use super::domain::scope;
use super::store::{self, PinnedState};
use crate::ctx::Ctx;
use crate::db::leases::{self, Lease};
use crate::db::types::{GatewayRef, SandboxRef};
use crate::error::Error;
use crate::openshell::Gateway;
use crate::resources::stored_rules::domain::Pin;
use crate::resources::write_intents::domain as write_intents;

/// Maximum length of a hash that is stored, in bytes. Other hashes count as not reported (T20).
const HASH_BYTES_MAX: usize = 1_024;
/// Pins that one tick of the clock completes, concurrently.
const BATCH: usize = 20;
/// How long a gateway may take in a tick.
const READ_TIME: Duration = Duration::from_secs(5);

/// Id of the pin that the last tick of this replica has read last; 0 to begin with the first.
#[derive(Debug, Default)]
pub struct PinsRead(AtomicI64);

/// Stores what the gateway reports of a pinned sandbox, if it responds in time. Returns the pin, which stays in force
/// in any case.
pub(super) async fn complete(ctx: &Ctx, place: &SandboxRef, pin: Pin, within: Duration) -> Pin {
    let read = Box::pin(read_state(ctx, place));
    let state = match ctx.app().clock.timeout(within, read).await {
        Some(Ok(state)) => state,
        Some(Err(error)) => {
            debug!(gateway = %place.gateway.name, %error, "a pinned sandbox could not be read");
            return pin;
        }
        None => return pin,
    };
    // A repeated pin keeps the version that was pinned first, unless another sandbox has the name now.
    if pin.pinned_version > 0 && pin.sandbox_id.as_ref() == Some(&state.sandbox_id) {
        return pin;
    }
    match store_state(ctx, None, place, &pin, &state).await {
        Ok(Some(completed)) => completed,
        Ok(None) => pin,
        Err(error) => {
            debug!(gateway = %place.gateway.name, %error, "a pin was not completed");
            pin
        }
    }
}

async fn read_state(ctx: &Ctx, place: &SandboxRef) -> Result<PinnedState, Error> {
    let gateway = Gateway::connect(ctx.app(), &place.gateway).await?.on_behalf_of(ctx);
    let sandbox_id = gateway.get_sandbox(&place.name).await?.id;
    let version = match gateway.policy_revision(&place.name, 0).await {
        Ok((revision, _)) => revision.version,
        // Reading the policy in force of such a sandbox would make some gateways write a revision.
        Err(Error::NotFound { .. }) => {
            return Ok(PinnedState { version: 0, hash: None, sandbox_id });
        }
        Err(error) => return Err(error),
    };
    let hash = gateway.effective_policy(&place.name).await?.policy_hash;
    let hash = (1..=HASH_BYTES_MAX).contains(&hash.len()).then_some(hash);
    Ok(PinnedState { version: version.into(), hash, sandbox_id })
}

/// Returns the completed pin; `None` if it was changed or removed meanwhile.
async fn store_state(
    ctx: &Ctx,
    lease: Option<&Lease>,
    place: &SandboxRef,
    pin: &Pin,
    state: &PinnedState,
) -> Result<Option<Pin>, Error> {
    let gateway = &*place.gateway.name;
    ctx.record_change(async |tx| {
        if let Some(lease) = lease {
            leases::check_held(tx, lease).await?;
        }
        if !store::set_state(tx, pin.id, pin.version, state).await? {
            return Ok(None);
        }
        let now = ctx.db().now(tx).await?;
        store::note_sandbox(tx, gateway, &place.name, &state.sandbox_id, now).await?;
        store::by_place(tx, gateway, &place.name).await
    })
    .await
}

/// Completes pins whose version is not known and on whose sandbox no write is in progress. Each tick continues where
/// the last one ended, so that a gateway that does not respond delays no pin of another. Returns the number of pins
/// that it completed.
pub(super) async fn complete_later(ctx: &Ctx, lease: Option<&Lease>) -> Result<usize, Error> {
    let position = &ctx.app().part::<PinsRead>().0;
    let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
    let pins = {
        let mut conn = ctx.db().read().await?;
        let now = ctx.db().now(&mut conn).await?;
        store::incomplete(&mut conn, now, position.load(Ordering::Relaxed), limit).await?
    };
    let last = pins.last().filter(|_| pins.len() == BATCH);
    position.store(last.map_or(0, |pin| pin.id.get()), Ordering::Relaxed);
    let reads: Vec<_> = pins.iter().map(|pin| read_later(ctx, pin)).collect();
    let mut reads = stream::iter(reads).buffer_unordered(BATCH);
    let mut completed = 0;
    // Stored here, one at a time: the concurrent futures are dropped if the lease is lost.
    while let Some(read) = reads.next().await {
        if let Some((place, pin, state)) = read
            && store_state(ctx, lease, &place, pin, &state).await?.is_some()
        {
            completed += 1;
        }
    }
    Ok(completed)
}

/// Reads what a pin lacks; `None` if there is nothing new or the gateway does not respond.
fn read_later<'a>(
    ctx: &'a Ctx,
    pin: &'a Pin,
) -> BoxFuture<'a, Option<(SandboxRef, &'a Pin, PinnedState)>> {
    Box::pin(async move {
        // Pins are deleted with their gateway.
        let id = ctx.app().snapshot.gateway_id(&pin.gateway)?;
        let gateway = GatewayRef { id, name: pin.gateway.as_str().into() };
        let place = SandboxRef { gateway, name: pin.sandbox.clone() };
        let read = timeout(READ_TIME, read_settled(ctx, &place)).await;
        match read {
            Ok(Ok(state)) => {
                let state = state.filter(|state| !state.is_of(pin))?;
                Some((place, pin, state))
            }
            Ok(Err(error)) => {
                debug!(gateway = %pin.gateway, %error, "a pinned sandbox could not be read");
                None
            }
            Err(_) => None,
        }
    })
}

/// Returns `None` while a write is in progress, which would move what the gateway reports.
async fn read_settled(ctx: &Ctx, place: &SandboxRef) -> Result<Option<PinnedState>, Error> {
    let open = {
        let mut conn = ctx.db().read().await?;
        write_intents::in_flight(ctx, &mut conn, scope(place)).await?
    };
    if open.is_empty() { read_state(ctx, place).await.map(Some) } else { Ok(None) }
}
