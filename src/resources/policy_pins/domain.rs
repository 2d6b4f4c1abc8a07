//! Sets, removes, reads and ends pins.

use std::cmp::Ordering;

use super::complete::complete;
use super::expiry;
use super::review::review;
use super::rules::compare_ends;
use super::store::{self, NewPin, PinQuery};
use crate::clock::Timestamp;
use crate::ctx::{Ctx, FleetCtx, ListKey, Tx};
use crate::db::Conn;
use crate::db::page::PageSize;
use crate::db::types::{GatewayRef, SandboxName, SandboxRef};
use crate::error::{Error, Reason, ResourceKind};
use crate::etag;
use crate::outbox::{EventType, event_types};
use crate::resources::approvals::rule_changes::outdated::end_outdated;
use crate::resources::approvals::rule_changes::propose::Change;
pub use crate::resources::stored_rules::domain::Pin;
use crate::resources::stored_rules::domain::{delete_pin, pin_payload};
use crate::resources::write_intents::domain::{self as write_intents, IntentScope, WriteInFlight};
use crate::role::Role;
use crate::seal::join_parts;

/// Maximum number of pins on one gateway, which can have as many sandboxes.
pub const PINS_OF_GATEWAY_MAX: i64 = 10_000;
/// Maximum number of pins of one setter below admin on one gateway. Sandboxes need not exist, and one operator must not
/// use all pins of the gateway (T16).
pub const PINS_OF_SETTER_MAX: i64 = 1_000;

/// How a sandbox is pinned.
#[derive(Debug, Clone, Default)]
pub struct PinSettings {
    /// Why.
    pub reason: Option<String>,
    /// When the pin ends; `None` keeps the end of the present pin, or sets a new pin without an end.
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

pub(super) fn scope(place: &SandboxRef) -> IntentScope<'_> {
    IntentScope {
        gateway: place.gateway.id,
        workspace: Some(place.workspace()),
        sandbox: Some(place.sandbox()),
    }
}

pub(super) async fn emit(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    gateway: &GatewayRef,
    event_type: EventType,
    pin: &Pin,
) -> Result<(), Error> {
    let event = ctx.new_event(event_type, pin_payload(ctx, pin));
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
    Ok(found.filter(|pin| pin.lock().is_in_force(now)))
}

async fn find(ctx: &Ctx, conn: &mut Conn, place: &SandboxRef) -> Result<Pin, Error> {
    let now = ctx.db().now(conn).await?;
    let found = in_force(conn, &place.gateway.name, &place.name, now).await?;
    found.ok_or_else(|| Error::not_found(ResourceKind::PolicyPin, &place.name))
}

/// Pins a sandbox, which need not exist. A pin in force is lengthened, or shortened if the caller may do that.
pub async fn pin(
    ctx: &Ctx,
    place: &SandboxRef,
    settings: &PinSettings,
) -> Result<PinOutcome, Error> {
    ctx.add_audit_detail("workspace", place.workspace());
    ctx.add_audit_detail("reason", settings.reason.as_deref());
    ctx.add_audit_detail("expires_at", settings.expires_at.map(|at| at.to_string()));
    expiry::end_at(ctx, place).await?;
    let stored = ctx
        .transaction(async |tx| {
            write_intents::lock_exclusive(tx, place.gateway.id).await?;
            let (pin, is_changed) = match store_pin(ctx, tx, place, settings).await? {
                Change::Made(stored) => stored,
                Change::InReview(round) => return Ok(Change::InReview(round)),
            };
            if is_changed {
                emit(ctx, tx, &place.gateway, event_types::POLICY_PINNED, &pin).await?;
            } else {
                ctx.add_audit_detail("outcome", "noop");
            }
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

/// Returns the pin, and whether it was set or changed.
async fn store_pin(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    place: &SandboxRef,
    settings: &PinSettings,
) -> Result<Change<(Pin, bool)>, Error> {
    let now = ctx.db().now(tx).await?;
    if settings.expires_at.is_some_and(|at| at <= now) {
        return Err(Error::invalid("expire_time", "must be in the future"));
    }
    let gateway = &*place.gateway.name;
    let is_changed = match store::by_place(tx, gateway, &place.name).await? {
        Some(before) if before.lock().is_in_force(now) => {
            match repeat(ctx, tx, place, &before, settings).await? {
                Change::Made(is_changed) => is_changed,
                Change::InReview(round) => return Ok(Change::InReview(round)),
            }
        }
        // It has ended since the call began. Its end gets an audit entry before this transaction.
        Some(_) => return Err(Error::conflict(ResourceKind::PolicyPin, &place.name)),
        None => {
            insert(ctx, tx, place, settings, now).await?;
            true
        }
    };
    let stored = store::by_place(tx, gateway, &place.name).await?;
    let missing = || Error::internal("a pin that was just stored is missing");
    stored.ok_or_else(missing).map(|pin| Change::Made((pin, is_changed)))
}

async fn insert(
    ctx: &Ctx,
    conn: &mut Conn,
    place: &SandboxRef,
    settings: &PinSettings,
    now: Timestamp,
) -> Result<(), Error> {
    let setter = ctx.stored_actor();
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
    if let (Some(setter), true) = (ctx.principal(), ctx.role() < Role::Admin)
        && store::count_of_setter(conn, &place.gateway.name, setter).await? > PINS_OF_SETTER_MAX
    {
        let why = format!(
            "a principal below admin may have at most {PINS_OF_SETTER_MAX} pins on a gateway"
        );
        return Err(Error::refused(Reason::LimitReached, why));
    }
    Ok(())
}

/// Changes a pin in force. The name of the first setter stays. Only a longer pin gets another reason, and the role of a
/// setter who has a higher one. Returns whether it has changed: otherwise it keeps its version, which reviews of its
/// removal are about.
async fn repeat(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    place: &SandboxRef,
    before: &Pin,
    settings: &PinSettings,
) -> Result<Change<bool>, Error> {
    let expires_at = settings.expires_at.or(before.expires_at);
    let mut pin = Pin { expires_at, version: before.version + 1, ..before.clone() };
    match compare_ends(expires_at, before.expires_at) {
        Ordering::Less => {
            if let Some(round) = review(ctx, tx, place, before, expires_at).await? {
                return Ok(Change::InReview(round));
            }
        }
        Ordering::Equal => {}
        Ordering::Greater => {
            pin.reason = settings.reason.clone().or(pin.reason);
            if ctx.role() > pin.setter_role {
                pin.setter_role = ctx.role();
                pin.principal = ctx.principal().map(|principal| principal.to_string());
            }
        }
    }
    pin.reason = pin.reason.or_else(|| settings.reason.clone());
    if (Pin { version: before.version, ..pin.clone() }) == *before {
        return Ok(Change::Made(false));
    }
    if !store::update(tx, &pin).await? {
        return Err(Error::conflict(ResourceKind::PolicyPin, &place.name));
    }
    end_outdated(ctx, tx, place).await?;
    Ok(Change::Made(true))
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
    if !delete_pin(tx, pin.id, pin.version).await? {
        return Err(Error::conflict(ResourceKind::PolicyPin, &place.name));
    }
    emit(ctx, tx, &place.gateway, event_types::POLICY_UNPINNED, pin).await?;
    end_outdated(ctx, tx, place).await
}

/// Removes a pin on the server's host, in a transaction that holds the lock of the gateway. Neither a role nor a
/// workflow is checked.
pub async fn remove_on_host(ctx: &Ctx, tx: &mut Tx<'_>, place: &SandboxRef) -> Result<(), Error> {
    let pin = find(ctx, tx, place).await?;
    remove(ctx, tx, place, &pin).await
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
        None => ctx.visible_gateway_names(),
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
