//! From events to messages: a leased job reads events in their order and stores a message for each webhook that
//! subscribes to them.
//!
//! Invariants
//! - the messages of events and the position after them are stored in one transaction that proves the lease: no event
//!   is lost and none is queued twice, even if a replica crashes;
//! - nothing of this runs in a call;
//! - a webhook gets a message of each event that was written after it was created, by whichever clock, and of no
//!   earlier one. When an event is written is when its row is inserted, not when its transaction ends: on PostgreSQL, an
//!   event whose transaction inserted it before the creation and ends after it is not queued;
//! - a webhook that is switched off gets no message of a later event: switching off locks the position.

use std::collections::HashSet;

use serde_json::Value;

use super::channels::Message;
use super::channels::generic::{self, bounded};
use super::deliveries::store::{self as deliveries, NewMessages};
use super::delivery::DeliveryState;
use super::disabling::{self, Condition};
use super::store::{self, Subscription};
use super::subscriptions;
use crate::app::App;
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::db::leases::{self, Lease};
use crate::db::types::WebhookId;
use crate::error::Error;
use crate::resources::events::domain as events;
use crate::resources::events::domain::Event;
use crate::workers::TickResult;

/// Events per transaction.
const EVENTS_MAX: usize = 500;
/// Messages per transaction, unless a single event has more.
const MESSAGES_MAX: usize = 2_000;
/// Why a webhook without a readable subscription is disabled.
const UNREADABLE: &str = "its event types or gateways cannot be read";
/// Prefix of the ids of messages.
const MESSAGE_PREFIX: &str = "msg_";

/// Returns a new id of a message. It contains no dot, which separates the parts of what is signed.
pub(super) fn new_message_id(app: &App) -> String {
    format!("{MESSAGE_PREFIX}{}", app.new_id().simple())
}

/// Queues events that have been numbered since the last tick.
pub(super) async fn queue_events(ctx: &Ctx, held: Option<&Lease>) -> Result<TickResult, Error> {
    let has_webhooks = {
        let mut conn = ctx.db().read().await?;
        if store::cursor(&mut conn).await? >= events::head(&mut conn).await? {
            return Ok(TickResult::IDLE);
        }
        store::has_active(&mut conn).await?
    };
    let db = ctx.db();
    let queued = if has_webhooks {
        db.long_transaction(async |conn| queue_in(ctx, conn, held).await).await?
    } else {
        // It writes one row, and nothing waits for it.
        db.transaction_with_next(async |conn| queue_in(ctx, conn, held).await).await?
    };
    if let (Some(held), false) = (held, queued.unreadable.is_empty()) {
        // At this position, so that none of their events is lost.
        for id in &queued.unreadable {
            disabling::disable(ctx, held, (*id, Condition::Active), UNREADABLE).await?;
        }
        return Ok(TickResult { done: queued.unreadable.len(), more: true });
    }
    ctx.app().part::<DeliveryState>().notify_queued(queued.woken);
    Ok(TickResult { done: queued.count, more: queued.more })
}

/// Deliveries that one transaction has queued.
#[derive(Default)]
struct Queued {
    /// Number of messages.
    count: usize,
    /// The webhooks that they are for.
    woken: HashSet<WebhookId>,
    /// Whether later events are left.
    more: bool,
    /// Active webhooks whose subscriptions cannot be read. Nothing is queued before they are disabled.
    unreadable: Vec<WebhookId>,
}

async fn queue_in(ctx: &Ctx, conn: &mut Conn, held: Option<&Lease>) -> Result<Queued, Error> {
    if let Some(held) = held {
        leases::check_held(conn, held).await?;
    }
    let cursor = store::lock_cursor(conn).await?;
    let newest = events::head(conn).await?;
    let (webhooks, unreadable) = store::subscriptions(conn).await?;
    if !unreadable.is_empty() {
        return Ok(Queued { unreadable, ..Queued::default() });
    }
    if webhooks.is_empty() {
        store::set_cursor(conn, newest).await?;
        return Ok(Queued::default());
    }
    let limit = i64::try_from(EVENTS_MAX).unwrap_or(i64::MAX);
    let read = events::all_between(conn, cursor, newest, limit).await?;
    let batch = messages(ctx.app(), &read, &webhooks);
    // Numbers have no gaps, so without a last event there is no event up to the newest.
    let last = batch.last.unwrap_or(newest);
    let (count, woken) = (batch.count, webhooks_of(&batch.events));
    if count > 0 {
        let now = ctx.db().now(conn).await?;
        deliveries::insert(conn, batch.events, now).await?;
    }
    store::set_cursor(conn, last).await?;
    Ok(Queued { count, woken, more: last < newest, unreadable: Vec::new() })
}

fn webhooks_of(events: &[NewMessages]) -> HashSet<WebhookId> {
    events.iter().flat_map(|event| &event.recipients).map(|(webhook, _)| *webhook).collect()
}

/// The messages of the first events.
#[derive(Default)]
struct Batch {
    /// The events that have messages.
    events: Vec<NewMessages>,
    /// Number of messages.
    count: usize,
    /// The last of the events; `None` without an event.
    last: Option<i64>,
}

fn messages(app: &App, events: &[Event], webhooks: &[Subscription]) -> Batch {
    let mut batch = Batch::default();
    for event in events {
        if batch.count >= MESSAGES_MAX {
            break;
        }
        batch.last = Some(event.sequence);
        let gateway = event.gateway.as_deref();
        let is_recipient = |webhook: &&Subscription| {
            let (entries, gateways) = (&webhook.event_types, &webhook.gateways);
            // Not by their times, which are those of several clocks.
            let is_later = event.id > webhook.queued_after;
            is_later && subscriptions::matches(entries, gateways, &event.name, gateway)
        };
        let recipients: Vec<_> = webhooks
            .iter()
            .filter(is_recipient)
            .map(|webhook| (webhook.id, new_message_id(app)))
            .collect();
        if recipients.is_empty() {
            continue;
        }
        batch.count += recipients.len();
        batch.events.push(NewMessages {
            event_type: event.name.clone(),
            event_sequence: event.sequence,
            payload_json: body(event),
            recipients,
        });
    }
    batch
}

/// Returns the body of channel generic, which is stored. Gateway and actor of the event are part of the data.
fn body(event: &Event) -> String {
    let mut data = match serde_json::from_str(&event.payload_json) {
        Ok(Value::Object(data)) => data,
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    for (key, value) in [("gateway", &event.gateway), ("actor", &event.actor)] {
        if let Some(value) = value {
            data.entry(key).or_insert_with(|| value.as_str().into());
        }
    }
    let message = Message {
        id: String::new(),
        event: event.name.clone(),
        time: event.occurred_at,
        sequence: event.sequence,
        data: bounded(data),
        link: None,
    };
    String::from_utf8_lossy(&generic::body(&message).bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clock::Timestamp;

    fn event(payload: &Value) -> Event {
        Event {
            id: 9,
            sequence: 7,
            name: "sandbox.created".to_owned(),
            gateway_id: None,
            gateway: Some("edge".to_owned()),
            actor: Some("kim@example.com".to_owned()),
            payload_json: payload.to_string(),
            occurred_at: Timestamp::from_unix_seconds(1_700_000_000),
        }
    }

    #[test]
    fn a_message_has_the_documented_members() {
        let body: Value = serde_json::from_str(&body(&event(&json!({ "sandbox": "a" })))).unwrap();
        assert_eq!(
            body,
            json!({
                "type": "sandbox.created",
                "event": "sandbox.created",
                "timestamp": "2023-11-14T22:13:20.000000Z",
                "sequence": 7,
                "data": { "actor": "kim@example.com", "gateway": "edge", "sandbox": "a" },
            })
        );
    }

    #[test]
    fn a_payload_that_is_not_an_object_becomes_an_empty_one() {
        let body: Value = serde_json::from_str(&body(&event(&json!([1])))).unwrap();
        assert_eq!(body["data"], json!({ "actor": "kim@example.com", "gateway": "edge" }));
    }
}
