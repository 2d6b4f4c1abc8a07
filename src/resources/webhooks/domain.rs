//! Webhooks: creation, lookup, updates, rotation of secrets and deletion.

use std::time::Duration;

use serde_json::{Value, json};

use super::deliveries;
use super::outbound::Outbound;
use super::sealed::{self, SecretColumn, SigningSecret, Target};
use super::store::{self, Head, Stored, Webhook};
use super::views::{Found, View, found, not_opened, unreadable, view};
use crate::ctx::{Ctx, ListKey, Tx};
use crate::db::page::PageSize;
use crate::db::types::{Json, WebhookId};
use crate::error::{Error, Reason, ResourceKind};
use crate::etag;
use crate::outbox::{EventType, event_types};
use crate::resources::events::domain as events;

/// Maximum number of webhooks.
pub const WEBHOOKS_MAX: i64 = 200;
/// Time to resolve the host of a receiver when it is stored.
const CHECK_TIME: Duration = Duration::from_secs(5);

/// A validated webhook to create.
#[derive(Debug, Clone)]
pub struct NewWebhook {
    /// Where messages are sent.
    pub target: Target,
    /// Description.
    pub description: String,
    /// Entries of the subscription.
    pub event_types: Vec<String>,
    /// Names of gateways; empty means all events.
    pub gateways: Vec<String>,
    /// Whether events are sent.
    pub active: bool,
    /// Maximum number of messages that are sent at once.
    pub max_in_flight: i32,
    /// Maximum number of messages per second; `None` is the default of the channel.
    pub rate_per_second: Option<i32>,
}

/// A partial update of a webhook. `None` leaves the field unchanged.
#[derive(Debug, Clone, Default)]
pub struct WebhookUpdate {
    /// How the target changes.
    pub target: super::target_change::TargetChange,
    /// New description.
    pub description: Option<String>,
    /// New subscription.
    pub event_types: Option<Vec<String>>,
    /// New gateways.
    pub gateways: Option<Vec<String>>,
    /// Whether events are sent.
    pub active: Option<bool>,
    /// New number of messages that are sent at once.
    pub max_in_flight: Option<i32>,
    /// New number of messages per second.
    pub rate_per_second: Option<Option<i32>>,
    /// Names of the changed fields, for events and the audit log.
    pub fields: Vec<String>,
}

/// A webhook and its new secret, which is shown once. `None` if messages are not signed, or the secret is unchanged.
pub type WithSecret = (View, Option<SigningSecret>);

fn missing(id: WebhookId) -> Error {
    Error::not_found(ResourceKind::Webhook, id)
}

/// Refuses a target that may not be connected to. A host that does not resolve is accepted: each connection is checked.
async fn check_target(ctx: &Ctx, target: &Target) -> Result<(), Error> {
    let (host, secure) = target.host();
    let checked = ctx.app().part::<Outbound>().check(host, secure, CHECK_TIME).await;
    match checked {
        Err(Error::Refused { reason: Reason::AddressForbidden, why }) => {
            let field = if target.is_signed() { "url" } else { "email.smtp_host" };
            let plain = if secure { "" } else { "; elsewhere, `https` is required" };
            Err(Error::refused(Reason::AddressForbidden, format!("`{field}`: {why}{plain}")))
        }
        other => other,
    }
}

fn check_gateways(ctx: &Ctx, gateways: &[String]) -> Result<(), Error> {
    let snapshot = &ctx.app().snapshot;
    match gateways.iter().find(|name| snapshot.gateway_id(name).is_none()) {
        Some(unknown) => Err(Error::not_found(ResourceKind::Gateway, unknown)),
        None => Ok(()),
    }
}

/// Adds what identifies a webhook to the audit entry. The path of its URL may be a secret.
fn add_to_audit(ctx: &Ctx, target: &Target) {
    ctx.add_audit_detail("channel", target.channel().as_str());
    ctx.add_audit_detail("host", target.host().0);
}

async fn emit(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    event_type: EventType,
    webhook: &Head,
    more: Value,
) -> Result<(), Error> {
    let mut payload = json!({
        "webhook_id": webhook.id.get(),
        "channel": webhook.channel_type,
        "active": webhook.is_active,
    });
    if let (Some(payload), Value::Object(more)) = (payload.as_object_mut(), more) {
        payload.extend(more);
    }
    tx.emit(ctx.new_event(event_type, payload)).await
}

/// Creates a webhook. The secret is only in the response.
pub async fn create(ctx: &Ctx, new: NewWebhook) -> Result<WithSecret, Error> {
    add_to_audit(ctx, &new.target);
    ctx.add_audit_detail("event_types", new.event_types.clone());
    check_gateways(ctx, &new.gateways)?;
    check_target(ctx, &new.target).await?;
    let (app, now, uid) = (ctx.app(), ctx.now(), ctx.app().new_id().to_string());
    let secret = if new.target.is_signed() { Some(SigningSecret::generate()?) } else { None };
    let seal = |secret| sealed::seal_secret(app, SecretColumn::Present, &uid, &new.target, secret);
    let mut webhook = Webhook {
        id: WebhookId(0),
        url: Vec::new(),
        secret: secret.as_ref().map(seal).transpose()?,
        event_types: Json(new.event_types),
        is_active: new.active,
        channel_type: new.target.channel(),
        extra_config: None,
        created_by: ctx.stored_actor(),
        created_at: now,
        uid: uid.clone(),
        description: new.description,
        principal: ctx.principal().map(|principal| principal.to_string()),
        secret_before: None,
        secret_before_until: None,
        max_in_flight: new.max_in_flight,
        rate_per_second: new.rate_per_second,
        gateways_json: Json(new.gateways),
        failing_since: None,
        failures: 0,
        disabled_at: None,
        disabled_reason: None,
        stopped_sequence: None,
        queued_after: 0,
        updated_at: now,
        version: 1,
    };
    sealed::seal_target(app, &mut webhook, &new.target)?;
    let created = ctx
        .transaction(async |tx| {
            store::lock_count(tx).await?;
            // Locked in any case: no event is queued between the newest one and the commit, so that none is queued
            // without the webhook that follows the newest one. On PostgreSQL, an event can be committed later and have
            // a lower id than the newest one, if its transaction wrote it before: such an event is not queued.
            let position = store::lock_cursor(tx).await?;
            if !webhook.is_active {
                webhook.stopped_sequence = Some(position);
            }
            webhook.queued_after = events::newest_id(tx).await?;
            let created = store::insert(tx, &webhook).await?;
            if store::count(tx).await? > WEBHOOKS_MAX {
                let why = format!("there can be at most {WEBHOOKS_MAX} webhooks: delete one first");
                return Err(Error::refused(Reason::WebhookLimit, why));
            }
            emit(ctx, tx, event_types::WEBHOOK_CREATED, &Head::from(&created), json!({})).await?;
            Ok(created)
        })
        .await?;
    ctx.set_audit_target(created.id.to_string());
    Ok((view(ctx, created), secret))
}

/// Returns a webhook by id.
pub async fn get(ctx: &Ctx, id: WebhookId) -> Result<Found, Error> {
    Ok(found(ctx, stored(ctx, id).await?))
}

async fn stored(ctx: &Ctx, id: WebhookId) -> Result<Stored, Error> {
    let mut conn = ctx.db().read().await?;
    store::stored(&mut conn, id).await?.ok_or_else(|| missing(id))
}

/// Returns the row of a webhook.
async fn find(ctx: &Ctx, id: WebhookId) -> Result<Webhook, Error> {
    match stored(ctx, id).await? {
        Stored::Readable(webhook) => Ok(*webhook),
        Stored::Unreadable(id) => Err(unreadable(id)),
    }
}

/// Fails if a webhook does not exist.
pub(super) async fn check_exists(ctx: &Ctx, id: WebhookId) -> Result<(), Error> {
    let mut conn = ctx.db().read().await?;
    store::head(&mut conn, id).await?.map(|_| ()).ok_or_else(|| missing(id))
}

/// Returns the row of a webhook that can send messages.
pub(super) async fn find_active(ctx: &Ctx, id: WebhookId) -> Result<Webhook, Error> {
    let found = find(ctx, id).await?;
    if !found.is_active {
        let why = format!("webhook `{id}` is not active: set `active` first");
        return Err(Error::refused(Reason::WebhookInactive, why));
    }
    sealed::open_all(ctx.app(), &found).map_err(|error| not_opened(id, &error))?;
    Ok(found)
}

/// Returns a page of webhooks, newest first.
pub async fn list(ctx: &Ctx, size: PageSize, token: &str) -> Result<(Vec<Found>, String), Error> {
    let list = ListKey { method: "ListWebhooks", filter: &[], order: "id desc" };
    let page = ctx.page_request::<i64>(list, size, token)?;
    let rows = {
        let mut conn = ctx.db().read().await?;
        store::page(&mut conn, page.after().copied(), page.limit()).await?
    };
    let (rows, next) = page.finish(rows, |last| last.id().get())?;
    Ok((rows.into_iter().map(|row| found(ctx, row)).collect(), next))
}

/// Updates a webhook. If the destination of its secret changes, the secret is replaced, and only in the response.
pub async fn update(
    ctx: &Ctx,
    id: WebhookId,
    change: WebhookUpdate,
    given_etag: &str,
) -> Result<WithSecret, Error> {
    ctx.set_audit_target(id.to_string());
    ctx.add_audit_detail("fields", change.fields.clone());
    if let Some(gateways) = &change.gateways {
        check_gateways(ctx, gateways)?;
    }
    let found = find(ctx, id).await?;
    etag::check(given_etag, found.version, ResourceKind::Webhook, id)?;
    let opened = sealed::open_all(ctx.app(), &found);
    let before = opened.map_err(|error| not_opened(id, &error))?;
    let target = change.target.clone().apply(&before)?;
    add_to_audit(ctx, &target);
    if target.host() != before.host() || change.target.is_given() {
        check_target(ctx, &target).await?;
    }
    let fields = json!({ "fields": change.fields });
    // The count of failures is reset when the webhook is enabled, or when it gets another receiver.
    let has_failures = change.active != Some(true) && target.has_destination_of(&before);
    let (mut webhook, secret) = changed(ctx, &found, &before, &target, change)?;
    let updated = ctx
        .transaction(async |tx| {
            note_switch(tx, &found, &mut webhook).await?;
            if !store::update(tx, &webhook).await? {
                return Err(Error::conflict(ResourceKind::Webhook, id));
            }
            if !has_failures {
                webhook.failing_since = None;
                webhook.failures = 0;
                store::set_failures(tx, (id, webhook.version), None, 0).await?;
            }
            emit(ctx, tx, event_types::WEBHOOK_UPDATED, &Head::from(&webhook), fields).await?;
            Ok(webhook)
        })
        .await?;
    Ok((view(ctx, updated), secret))
}

/// Notes at which event an update switches a webhook off or on. The position is locked, so that no event is queued
/// before the commit: when it is switched off, none is queued after the noted one, and when it is switched on, none
/// that was written before, even if it was not yet read.
async fn note_switch(tx: &mut Tx<'_>, found: &Webhook, webhook: &mut Webhook) -> Result<(), Error> {
    if found.is_active == webhook.is_active {
        return Ok(());
    }
    let position = store::lock_cursor(tx).await?;
    if webhook.is_active {
        webhook.queued_after = events::newest_id(tx).await?;
    } else {
        webhook.stopped_sequence = Some(position);
    }
    Ok(())
}

/// Returns the changed row, and its new secret.
fn changed(
    ctx: &Ctx,
    found: &Webhook,
    before: &Target,
    target: &Target,
    change: WebhookUpdate,
) -> Result<(Webhook, Option<SigningSecret>), Error> {
    let app = ctx.app();
    let mut webhook = found.clone();
    webhook.version += 1;
    webhook.updated_at = ctx.now();
    webhook.description = change.description.unwrap_or(webhook.description);
    webhook.event_types = change.event_types.map_or(webhook.event_types, Json);
    webhook.gateways_json = change.gateways.map_or(webhook.gateways_json, Json);
    webhook.max_in_flight = change.max_in_flight.unwrap_or(webhook.max_in_flight);
    webhook.rate_per_second = change.rate_per_second.unwrap_or(webhook.rate_per_second);
    if let Some(active) = change.active {
        webhook.is_active = active;
        if active {
            webhook.disabled_at = None;
            webhook.disabled_reason = None;
        }
    }
    if target != before {
        sealed::seal_target(app, &mut webhook, target)?;
    }
    if target.has_destination_of(before) {
        return Ok((webhook, None));
    }
    // T04: the secrets of another destination are dropped, also the previous one.
    webhook.secret_before = None;
    webhook.secret_before_until = None;
    webhook.secret = None;
    if !target.is_signed() {
        return Ok((webhook, None));
    }
    let secret = SigningSecret::generate()?;
    let sealed = sealed::seal_secret(app, SecretColumn::Present, &webhook.uid, target, &secret)?;
    webhook.secret = Some(sealed);
    Ok((webhook, Some(secret)))
}

/// Replaces the signing secret. Messages are signed with both until `overlap` ends.
pub async fn rotate_secret(
    ctx: &Ctx,
    id: WebhookId,
    overlap: Duration,
    given_etag: &str,
) -> Result<WithSecret, Error> {
    ctx.set_audit_target(id.to_string());
    ctx.add_audit_detail("overlap_seconds", overlap.as_secs());
    let app = ctx.app();
    let mut webhook = find(ctx, id).await?;
    etag::check(given_etag, webhook.version, ResourceKind::Webhook, id)?;
    let opened = sealed::open_all(app, &webhook);
    let target = opened.map_err(|error| not_opened(id, &error))?;
    add_to_audit(ctx, &target);
    if !target.is_signed() {
        let why = "messages of channel email are not signed";
        return Err(Error::refused(Reason::WebhookNotSigned, why));
    }
    let secret = SigningSecret::generate()?;
    let present = sealed::open_secret(app, SecretColumn::Present, &webhook, &target)?;
    let seal = |column, secret| sealed::seal_secret(app, column, &webhook.uid, &target, secret);
    let kept = present.filter(|_| !overlap.is_zero());
    let before = kept.as_ref().map(|secret| seal(SecretColumn::Before, secret)).transpose()?;
    let sealed = seal(SecretColumn::Present, &secret)?;
    webhook.secret = Some(sealed);
    webhook.secret_before = before;
    webhook.updated_at = ctx.now();
    webhook.version += 1;
    let rotated = ctx
        .transaction(async |tx| {
            let now = ctx.db().now(tx).await?;
            webhook.secret_before_until =
                webhook.secret_before.is_some().then(|| now.plus(overlap));
            if !store::update(tx, &webhook).await? {
                return Err(Error::conflict(ResourceKind::Webhook, id));
            }
            let head = Head::from(&webhook);
            emit(ctx, tx, event_types::WEBHOOK_SECRET_ROTATED, &head, json!({})).await?;
            Ok(webhook)
        })
        .await?;
    Ok((view(ctx, rotated), Some(secret)))
}

/// Deletes a webhook with its deliveries, even if it cannot be read.
pub async fn delete(ctx: &Ctx, id: WebhookId, given_etag: &str) -> Result<(), Error> {
    ctx.set_audit_target(id.to_string());
    {
        let mut conn = ctx.db().read().await?;
        let found = store::head(&mut conn, id).await?.ok_or_else(|| missing(id))?;
        etag::check(given_etag, found.version, ResourceKind::Webhook, id)?;
    }
    deliveries::delete_finished_of(ctx, id).await?;
    ctx.long_transaction(async |tx| {
        let found = store::head(tx, id).await?.ok_or_else(|| missing(id))?;
        etag::check(given_etag, found.version, ResourceKind::Webhook, id)?;
        if !store::delete(tx, id, found.version).await? {
            return Err(Error::conflict(ResourceKind::Webhook, id));
        }
        emit(ctx, tx, event_types::WEBHOOK_DELETED, &found, json!({})).await
    })
    .await
}
