//! Sets, removes, reads and ends pins.

use std::time::Duration;

use serde_json::{Value, json};
use tracing::debug;

use super::review::{Change, review};
use super::rules;
pub use super::store::Pin;
use super::store::{self, NewPin, PinQuery, PinnedState};
use crate::access::snapshot::VisibleGateways;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, FleetCtx, ListKey, Tx};
use crate::db::Conn;
use crate::db::page::PageSize;
use crate::db::types::{GatewayRef, SandboxName, SandboxRef};
use crate::error::{Error, Reason, ResourceKind};
use crate::etag;
use crate::openshell::Gateway;
use crate::outbox::{EventType, event_types};
use crate::resources::write_intents::domain::{self as write_intents, IntentScope, WriteInFlight};
use crate::seal::join_parts;

/// Maximum number of pins on one gateway, which can have as many sandboxes.
pub const PINS_OF_GATEWAY_MAX: i64 = 10_000;
/// Maximum length of the stored name of a setter, in characters.
const SETTER_CHARACTERS_MAX: usize = 254;
/// Maximum length of a hash that is stored, in bytes. Other hashes count as not reported (T20).
const HASH_BYTES_MAX: usize = 1_024;

/// How a sandbox is pinned.
#[derive(Debug, Clone, Default)]
pub struct PinSettings {
    /// Why.
    pub reason: Option<String>,
    /// When the pin ends; `None` if it does not.
    pub expires_at: Option<Timestamp>,
}

/// A pin that was set.
#[derive(Debug)]
pub struct PinOutcome {
    /// The pin.
    pub pin: Pin,
    /// Writes that began before and may still happen.
    pub in_flight: Vec<WriteInFlight>,
}

/// Which pins are listed.
#[derive(Debug, Default)]
pub struct PinFilter {
    /// Only those on this gateway.
    pub gateway: Option<String>,
    /// Only those in this workspace.
    pub workspace: Option<String>,
}

fn scope(place: &SandboxRef) -> IntentScope<'_> {
    IntentScope {
        gateway: place.gateway.id,
        workspace: Some(place.workspace()),
        sandbox: Some(place.sandbox()),
    }
}

fn event_payload(pin: &Pin, ctx: &Ctx) -> Value {
    json!({
        "gateway": pin.gateway,
        "workspace": pin.sandbox.workspace,
        "sandbox": pin.sandbox.name,
        "version": (pin.pinned_version > 0).then_some(pin.pinned_version),
        "actor": &*ctx.actor(),
        "reason": pin.reason,
        "expires_at": pin.expires_at.map(|at| at.to_string()),
    })
}

async fn emit(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    gateway: &GatewayRef,
    event_type: EventType,
    pin: &Pin,
) -> Result<(), Error> {
    let event = ctx.new_event(event_type, event_payload(pin, ctx));
    tx.emit(event.with_gateway(gateway.clone())).await
}

/// Returns the pin that locks a sandbox at a time.
async fn in_force(
    conn: &mut Conn,
    gateway: &str,
    sandbox: &SandboxName,
    now: Timestamp,
) -> Result<Option<Pin>, Error> {
    let found = store::by_place(conn, gateway, sandbox).await?;
    Ok(found.filter(|pin| rules::is_in_force(pin.expires_at, now)))
}

async fn find(ctx: &Ctx, conn: &mut Conn, place: &SandboxRef) -> Result<Pin, Error> {
    let now = ctx.db().now(conn).await?;
    let found = in_force(conn, &place.gateway.name, &place.name, now).await?;
    found.ok_or_else(|| Error::not_found(ResourceKind::PolicyPin, &place.name))
}

/// Pins a sandbox, which need not exist. A sandbox that is pinned already gets the new reason and expiry.
pub async fn pin(
    ctx: &Ctx,
    place: &SandboxRef,
    settings: &PinSettings,
) -> Result<PinOutcome, Error> {
    ctx.add_audit_detail("workspace", place.workspace());
    ctx.add_audit_detail("reason", settings.reason.as_deref());
    ctx.add_audit_detail("expires_at", settings.expires_at.map(|at| at.to_string()));
    let stored = ctx
        .transaction(async |tx| {
            write_intents::lock_exclusive(tx, place.gateway.id).await?;
            let pin = match store_pin(ctx, tx, place, settings).await? {
                Change::Made(pin) => pin,
                Change::InReview(round) => return Ok(Change::InReview(round)),
            };
            emit(ctx, tx, &place.gateway, event_types::POLICY_PINNED, &pin).await?;
            let open = write_intents::in_flight(ctx, tx, scope(place)).await?;
            Ok(Change::Made((pin, open)))
        })
        .await?;
    let (pin, open) = stored.made(ctx).await?;
    let clock = &ctx.app().clock;
    let until = clock.since_boot().saturating_add(write_intents::WAIT_TIME);
    let in_flight = write_intents::wait_for_end(ctx, scope(place), open).await;
    // A write in progress would move what the gateway reports now.
    let pin = if in_flight.is_empty() {
        complete(ctx, place, pin, until.saturating_sub(clock.since_boot())).await
    } else {
        pin
    };
    ctx.add_audit_detail("pinned_version", pin.pinned_version);
    ctx.add_audit_detail("writes_in_flight", in_flight.len());
    Ok(PinOutcome { pin, in_flight })
}

async fn store_pin(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    place: &SandboxRef,
    settings: &PinSettings,
) -> Result<Change<Pin>, Error> {
    let now = ctx.db().now(tx).await?;
    if settings.expires_at.is_some_and(|at| at <= now) {
        return Err(Error::invalid("expire_time", "must be in the future"));
    }
    let gateway = &*place.gateway.name;
    match store::by_place(tx, gateway, &place.name).await? {
        Some(before) if rules::is_in_force(before.expires_at, now) => {
            if let Change::InReview(round) = repeat(ctx, tx, place, before, settings).await? {
                return Ok(Change::InReview(round));
            }
        }
        before => {
            if let Some(expired) = before {
                end(ctx, tx, &place.gateway, &expired).await?;
            }
            insert(ctx, tx, place, settings, now).await?;
        }
    }
    let stored = store::by_place(tx, gateway, &place.name).await?;
    let missing = || Error::internal("a pin that was just stored is missing");
    stored.ok_or_else(missing).map(Change::Made)
}

async fn insert(
    ctx: &Ctx,
    conn: &mut Conn,
    place: &SandboxRef,
    settings: &PinSettings,
    now: Timestamp,
) -> Result<(), Error> {
    let setter: String = ctx.actor().chars().take(SETTER_CHARACTERS_MAX).collect();
    let new = NewPin {
        place,
        pinned_by: &setter,
        principal: ctx.principal(),
        setter_role: ctx.role(),
        reason: settings.reason.as_deref(),
        at: now,
        expires_at: settings.expires_at,
    };
    store::insert(conn, &new).await?;
    if store::count_on_gateway(conn, &place.gateway.name).await? > PINS_OF_GATEWAY_MAX {
        let why = format!("a gateway may have at most {PINS_OF_GATEWAY_MAX} pins");
        return Err(Error::refused(Reason::LimitReached, why));
    }
    Ok(())
}

/// Changes a pin in force. The first setter stays, and the highest role of a setter.
async fn repeat(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    place: &SandboxRef,
    before: Pin,
    settings: &PinSettings,
) -> Result<Change<()>, Error> {
    if rules::is_shorter(before.expires_at, settings.expires_at)
        && let Some(round) = review(ctx, tx, place, &before, settings.expires_at).await?
    {
        return Ok(Change::InReview(round));
    }
    let pin = Pin {
        expires_at: settings.expires_at,
        reason: settings.reason.clone().or_else(|| before.reason.clone()),
        setter_role: before.setter_role.max(ctx.role()),
        version: before.version + 1,
        ..before
    };
    if store::update(tx, &pin).await? {
        return Ok(Change::Made(()));
    }
    Err(Error::conflict(ResourceKind::PolicyPin, &place.name))
}

/// Stores what the gateway reports of a pinned sandbox, if it responds in time. Returns the pin, which stays in force
/// in any case.
async fn complete(ctx: &Ctx, place: &SandboxRef, pin: Pin, within: Duration) -> Pin {
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
    match store_state(ctx, place, &pin, &state).await {
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

async fn store_state(
    ctx: &Ctx,
    place: &SandboxRef,
    pin: &Pin,
    state: &PinnedState,
) -> Result<Option<Pin>, Error> {
    let gateway = &*place.gateway.name;
    ctx.record_change(async |tx| {
        // The pin was changed or removed meanwhile.
        if !store::set_state(tx, pin.id, pin.version, state).await? {
            return Ok(None);
        }
        let now = ctx.db().now(tx).await?;
        store::note_sandbox(tx, gateway, &place.name, &state.sandbox_id, now).await?;
        store::by_place(tx, gateway, &place.name).await
    })
    .await
}

/// Removes a pin.
pub async fn unpin(ctx: &Ctx, place: &SandboxRef, given_etag: &str) -> Result<(), Error> {
    ctx.add_audit_detail("workspace", place.workspace());
    let removed = ctx
        .transaction(async |tx| {
            write_intents::lock_exclusive(tx, place.gateway.id).await?;
            let pin = find(ctx, tx, place).await?;
            etag::check(given_etag, pin.version, ResourceKind::PolicyPin, &place.name)?;
            match review(ctx, tx, place, &pin, None).await? {
                Some(round) => Ok(Change::InReview(round)),
                None => remove(ctx, tx, place, &pin).await.map(Change::Made),
            }
        })
        .await?;
    removed.made(ctx).await
}

async fn remove(ctx: &Ctx, tx: &mut Tx<'_>, place: &SandboxRef, pin: &Pin) -> Result<(), Error> {
    if !store::delete(tx, pin.id, pin.version).await? {
        return Err(Error::conflict(ResourceKind::PolicyPin, &place.name));
    }
    emit(ctx, tx, &place.gateway, event_types::POLICY_UNPINNED, pin).await
}

/// Removes a pin on the server's host. Neither a role nor a workflow is checked.
pub async fn remove_on_host(ctx: &Ctx, place: &SandboxRef) -> Result<(), Error> {
    ctx.transaction(async |tx| {
        write_intents::lock_exclusive(tx, place.gateway.id).await?;
        let pin = find(ctx, tx, place).await?;
        remove(ctx, tx, place, &pin).await
    })
    .await
}

/// Returns the pin of a sandbox.
pub async fn get(ctx: &Ctx, place: &SandboxRef) -> Result<Pin, Error> {
    find(ctx, &mut ctx.db().read().await?, place).await
}

/// Returns a page of the pins on the gateways that the caller can see, in the order in which they were set.
pub async fn list(
    ctx: &FleetCtx,
    filter: &PinFilter,
    size: PageSize,
    token: &str,
) -> Result<(Vec<Pin>, String), Error> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (gateway, workspace) = (text(&filter.gateway), text(&filter.workspace));
    let key = join_parts(&[gateway.as_bytes(), workspace.as_bytes()]);
    let gateways = match &filter.gateway {
        Some(gateway) => Some(vec![ctx.require_gateway(gateway)?.name.to_string()]),
        None => visible_names(ctx),
    };
    let list = ListKey { method: "ListPolicyPins", filter: &key, order: "id" };
    let page = ctx.page_request::<i64>(list, size, token)?;
    let after = page.after().copied().unwrap_or_default();
    let mut conn = ctx.db().read().await?;
    let now = ctx.db().now(&mut conn).await?;
    let workspace = filter.workspace.as_deref();
    let wanted = PinQuery { gateways: gateways.as_deref(), workspace, now };
    let rows = store::page(&mut conn, wanted, after, page.limit()).await?;
    page.finish(rows, |last| last.id.get())
}

/// Returns the names of the gateways that the caller can see; `None` if it can see all of them.
fn visible_names(ctx: &FleetCtx) -> Option<Vec<String>> {
    let VisibleGateways::Only(ids) = ctx.visible_gateways() else { return None };
    let name = |id| ctx.app().snapshot.gateway_name(id).map(|name| name.to_string());
    Some(ids.into_iter().filter_map(name).collect())
}

/// Deletes the row of an expired pin and emits its event. Returns `false` if the pin has changed meanwhile.
pub(super) async fn end(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    gateway: &GatewayRef,
    pin: &Pin,
) -> Result<bool, Error> {
    let is_deleted = store::delete(tx, pin.id, pin.version).await?;
    if is_deleted {
        emit(ctx, tx, gateway, event_types::POLICY_PIN_EXPIRED, pin).await?;
    }
    Ok(is_deleted)
}
