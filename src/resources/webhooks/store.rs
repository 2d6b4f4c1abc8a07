//! Rows of webhooks, and the position up to which events are queued for them.

use diesel::prelude::*;
use diesel::result::Error as DieselError;
use diesel_async::RunQueryDsl;

use super::channels::Channel;
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::{webhook_cursor, webhooks as t};
use crate::db::types::{Json, WebhookId};
use crate::db::{Conn, on_conn};
use crate::error::Error;

/// Advisory lock on PostgreSQL that serializes creating webhooks, so that their number is exact.
const COUNT_LOCK: i64 = 0x5348_4f52_4557_4842;

/// A webhook, with its secrets sealed.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = t)]
pub struct Webhook {
    /// Permanent id.
    pub id: WebhookId,
    /// Sealed address of the receiver.
    pub url: Vec<u8>,
    /// Sealed signing secret; `None` if messages are not signed.
    pub secret: Option<Vec<u8>>,
    /// Entries of the subscription.
    pub event_types: Json<Vec<String>>,
    /// Whether events are queued and sent.
    pub is_active: bool,
    /// Form of the messages.
    pub channel_type: Channel,
    /// Sealed settings of mails; `None` for other channels.
    pub extra_config: Option<Vec<u8>>,
    /// Actor that created it.
    pub created_by: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// Identifies the row to sealed values.
    pub uid: String,
    /// Description.
    pub description: String,
    /// Principal that created it.
    pub principal: Option<String>,
    /// Sealed previous signing secret.
    pub secret_before: Option<Vec<u8>>,
    /// When the previous secret expires.
    pub secret_before_until: Option<Timestamp>,
    /// Maximum number of messages that are sent at once.
    pub max_in_flight: i32,
    /// Maximum number of messages per second; `None` is the default of the channel.
    pub rate_per_second: Option<i32>,
    /// Names of the gateways whose events are sent; empty means all events.
    pub gateways_json: Json<Vec<String>>,
    /// Time of the first failed attempt since the last success.
    pub failing_since: Option<Timestamp>,
    /// Number of failed attempts since the last success.
    pub failures: i32,
    /// When the server disabled it.
    pub disabled_at: Option<Timestamp>,
    /// Why the server disabled it.
    pub disabled_reason: Option<String>,
    /// Last event that was queued before it became inactive the last time.
    pub stopped_sequence: Option<i64>,
    /// Id of the newest event when it was created or last became active: only later ones are queued.
    pub queued_after: i64,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Version.
    pub version: i64,
}

/// A stored webhook.
#[derive(Debug, Clone)]
pub enum Stored {
    /// Its row.
    Readable(Box<Webhook>),
    /// A row with a value that this version does not know.
    Unreadable(WebhookId),
}

impl Stored {
    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> WebhookId {
        match self {
            Self::Readable(webhook) => webhook.id,
            Self::Unreadable(id) => *id,
        }
    }
}

/// The part of a row that is needed to switch a webhook off and to delete it. It can be read if the rest cannot.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = t)]
pub struct Head {
    /// Permanent id.
    pub id: WebhookId,
    /// Whether events are queued and sent.
    pub is_active: bool,
    /// Word of the channel, which this version may not know.
    pub channel_type: String,
    /// Time of the first failed attempt since the last success.
    pub failing_since: Option<Timestamp>,
    /// Number of failed attempts since the last success.
    pub failures: i32,
    /// Version.
    pub version: i64,
}

impl From<&Webhook> for Head {
    fn from(webhook: &Webhook) -> Self {
        Self {
            id: webhook.id,
            is_active: webhook.is_active,
            channel_type: webhook.channel_type.as_str().to_owned(),
            failing_since: webhook.failing_since,
            failures: webhook.failures,
            version: webhook.version,
        }
    }
}

/// Decides which events are queued for a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The webhook.
    pub id: WebhookId,
    /// Entries of the subscription.
    pub event_types: Vec<String>,
    /// Names of the gateways whose events are sent; empty means all events.
    pub gateways: Vec<String>,
    /// Only events with a larger id are queued.
    pub queued_after: i64,
}

async fn load(conn: &mut Conn, id: WebhookId) -> QueryResult<Option<Webhook>> {
    on_conn!(conn, |c| t::table
        .filter(t::id.eq(id.get()))
        .select(Webhook::as_select())
        .first(c)
        .await
        .optional())
}

/// Returns a webhook by id.
///
/// # Errors
/// Those of the database; `Internal` if this version cannot read the row.
pub async fn by_id(conn: &mut Conn, id: WebhookId) -> Result<Option<Webhook>, Error> {
    Ok(load(conn, id).await?)
}

/// Returns a webhook by id, even if this version cannot read its row.
///
/// # Errors
/// Those of the database.
pub async fn stored(conn: &mut Conn, id: WebhookId) -> Result<Option<Stored>, Error> {
    match load(conn, id).await {
        Ok(found) => Ok(found.map(|webhook| Stored::Readable(Box::new(webhook)))),
        Err(DieselError::DeserializationError(why)) => {
            tracing::warn!(
                webhook = id.get(),
                error = &*why as &dyn std::error::Error,
                "a webhook cannot be read"
            );
            Ok(Some(Stored::Unreadable(id)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns the head of a webhook.
///
/// # Errors
/// Those of the database.
pub async fn head(conn: &mut Conn, id: WebhookId) -> Result<Option<Head>, Error> {
    Ok(on_conn!(conn, |c| t::table
        .filter(t::id.eq(id.get()))
        .select(Head::as_select())
        .first(c)
        .await
        .optional())?)
}

/// Returns webhooks, newest first, after an id. Rows are read one by one if one of them cannot be read.
///
/// # Errors
/// Those of the database.
pub async fn page(conn: &mut Conn, after: Option<i64>, limit: i64) -> Result<Vec<Stored>, Error> {
    let after = after.unwrap_or(i64::MAX);
    let rows: QueryResult<Vec<Webhook>> = on_conn!(conn, |c| t::table
        .filter(t::id.lt(after))
        .select(Webhook::as_select())
        .order(t::id.desc())
        .limit(limit)
        .load(c)
        .await);
    match rows {
        Ok(rows) => {
            return Ok(rows.into_iter().map(|row| Stored::Readable(Box::new(row))).collect());
        }
        Err(DieselError::DeserializationError(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let ids: Vec<WebhookId> = on_conn!(conn, |c| t::table
        .filter(t::id.lt(after))
        .select(t::id)
        .order(t::id.desc())
        .limit(limit)
        .load(c)
        .await)?;
    let mut rows = Vec::with_capacity(ids.len());
    for id in ids {
        rows.extend(stored(conn, id).await?);
    }
    Ok(rows)
}

/// Returns the subscriptions of all active webhooks, by id, and the ids of those that cannot be read.
///
/// # Errors
/// Those of the database.
pub async fn subscriptions(conn: &mut Conn) -> Result<(Vec<Subscription>, Vec<WebhookId>), Error> {
    let rows: Vec<(WebhookId, String, String, i64)> = on_conn!(conn, |c| t::table
        .filter(t::is_active.eq(true))
        .select((t::id, t::event_types, t::gateways_json, t::queued_after))
        .order(t::id)
        .load(c)
        .await)?;
    let (mut subscriptions, mut unreadable) = (Vec::with_capacity(rows.len()), Vec::new());
    for (id, event_types, gateways, queued_after) in rows {
        match (serde_json::from_str(&event_types), serde_json::from_str(&gateways)) {
            (Ok(event_types), Ok(gateways)) => {
                subscriptions.push(Subscription { id, event_types, gateways, queued_after });
            }
            (Err(_), _) | (_, Err(_)) => unreadable.push(id),
        }
    }
    Ok((subscriptions, unreadable))
}

/// Returns whether there is an active webhook.
pub async fn has_active(conn: &mut Conn) -> Result<bool, Error> {
    let active = t::table.filter(t::is_active.eq(true));
    Ok(on_conn!(conn, |c| diesel::select(diesel::dsl::exists(active)).get_result(c).await)?)
}

/// Returns all active webhooks, by id, with the last event that was queued before each became inactive the last time.
pub async fn active(conn: &mut Conn) -> Result<Vec<(WebhookId, Option<i64>)>, Error> {
    Ok(on_conn!(conn, |c| t::table
        .filter(t::is_active.eq(true))
        .select((t::id, t::stopped_sequence))
        .order(t::id)
        .load(c)
        .await)?)
}

/// Takes the lock for creating a webhook, until the end of the transaction.
pub async fn lock_count(conn: &mut Conn) -> Result<(), Error> {
    conn.advisory_lock(COUNT_LOCK).await
}

/// Returns the number of webhooks.
pub async fn count(conn: &mut Conn) -> Result<i64, Error> {
    Ok(on_conn!(conn, |c| t::table.count().get_result(c).await)?)
}

/// Stores a new webhook; the database assigns its id.
pub async fn insert(conn: &mut Conn, new: &Webhook) -> Result<Webhook, Error> {
    let row = (
        (
            t::url.eq(&new.url),
            t::secret.eq(&new.secret),
            t::event_types.eq(&new.event_types),
            t::is_active.eq(new.is_active),
            t::channel_type.eq(new.channel_type.as_str()),
            t::extra_config.eq(&new.extra_config),
            t::created_by.eq(&new.created_by),
            t::created_at.eq(new.created_at),
            t::uid.eq(&new.uid),
        ),
        (
            t::description.eq(&new.description),
            t::principal.eq(&new.principal),
            t::max_in_flight.eq(new.max_in_flight),
            t::rate_per_second.eq(new.rate_per_second),
            t::gateways_json.eq(&new.gateways_json),
            t::stopped_sequence.eq(new.stopped_sequence),
            t::queued_after.eq(new.queued_after),
            t::updated_at.eq(new.updated_at),
        ),
    );
    Ok(on_conn!(conn, |c| diesel::insert_into(t::table)
        .values(row)
        .returning(Webhook::as_returning())
        .get_result(c)
        .await)?)
}

/// Updates a webhook if its stored version is `webhook.version - 1`. Returns whether it was updated. Its failures are
/// not set: they are counted meanwhile ([`set_failures`]).
pub async fn update(conn: &mut Conn, webhook: &Webhook) -> Result<bool, Error> {
    let row = t::table.filter(t::id.eq(webhook.id.get()).and(t::version.eq(webhook.version - 1)));
    let set = (
        (
            t::url.eq(&webhook.url),
            t::secret.eq(&webhook.secret),
            t::event_types.eq(&webhook.event_types),
            t::is_active.eq(webhook.is_active),
            t::channel_type.eq(webhook.channel_type.as_str()),
            t::extra_config.eq(&webhook.extra_config),
            t::description.eq(&webhook.description),
            t::secret_before.eq(&webhook.secret_before),
            t::secret_before_until.eq(webhook.secret_before_until),
            t::max_in_flight.eq(webhook.max_in_flight),
            t::rate_per_second.eq(webhook.rate_per_second),
        ),
        (
            t::gateways_json.eq(&webhook.gateways_json),
            t::disabled_at.eq(webhook.disabled_at),
            t::disabled_reason.eq(&webhook.disabled_reason),
            t::stopped_sequence.eq(webhook.stopped_sequence),
            t::queued_after.eq(webhook.queued_after),
            t::updated_at.eq(webhook.updated_at),
            t::version.eq(webhook.version),
        ),
    );
    Ok(on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)? == 1)
}

/// Stores the failed attempts since the last success, without incrementing the version. Does nothing if the webhook has
/// another version: it may have another receiver.
pub async fn set_failures(
    conn: &mut Conn,
    (id, version): (WebhookId, i64),
    failing_since: Option<Timestamp>,
    failures: i32,
) -> Result<(), Error> {
    let row = t::table.filter(t::id.eq(id.get()).and(t::version.eq(version)));
    let set = (t::failing_since.eq(failing_since), t::failures.eq(failures));
    on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)?;
    Ok(())
}

/// Deletes a webhook with its deliveries if its version is still `version`. Returns whether it was deleted.
pub async fn delete(conn: &mut Conn, id: WebhookId, version: i64) -> Result<bool, Error> {
    let row = t::table.filter(t::id.eq(id.get()).and(t::version.eq(version)));
    Ok(on_conn!(conn, |c| diesel::delete(row).execute(c).await)? == 1)
}

/// Removes previous secrets that have expired. Returns their number.
pub async fn forget_expired_secrets(conn: &mut Conn, now: Timestamp) -> Result<usize, Error> {
    let rows = t::table.filter(t::secret_before_until.le(now));
    let set = (t::secret_before.eq(None::<Vec<u8>>), t::secret_before_until.eq(None::<Timestamp>));
    Ok(on_conn!(conn, |c| cached(diesel::update(rows).set(set)).execute(c).await)?)
}

/// Returns the last event that is queued.
pub async fn cursor(conn: &mut Conn) -> Result<i64, Error> {
    let row = webhook_cursor::table.select(webhook_cursor::sequence);
    Ok(on_conn!(conn, |c| row.first(c).await)?)
}

/// Returns the last event that is queued, and locks it: until the transaction ends, no event is queued.
pub async fn lock_cursor(conn: &mut Conn) -> Result<i64, Error> {
    let row = webhook_cursor::table.select(webhook_cursor::sequence);
    Ok(match conn {
        Conn::Pg(c) => row.for_update().first(c).await?,
        // The transaction already holds the database's only write lock.
        Conn::Sqlite(c) => row.first(c).await?,
    })
}

/// Moves the position up to which events are queued.
pub async fn set_cursor(conn: &mut Conn, sequence: i64) -> Result<(), Error> {
    let set = webhook_cursor::sequence.eq(sequence);
    on_conn!(conn, |c| cached(diesel::update(webhook_cursor::table).set(set)).execute(c).await)?;
    Ok(())
}
