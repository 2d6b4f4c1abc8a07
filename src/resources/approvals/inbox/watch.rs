//! Follows the inbox for a stream: first the list, then each round that changes.
//!
//! Invariant: the position is taken before the list is read, so that a change during the list is sent after it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::view::{self, Item};
use super::{InboxFilter, Position, read_page};
use crate::ctx::FleetCtx;
use crate::db::page::PageSize;
use crate::db::types::ApprovalRoundId;
use crate::error::Error;
use crate::outbox::{EventType, event_types};
use crate::resources::approvals::rounds::{self, Round};
use crate::resources::events::domain::{Filter, Follower, StartPosition};

/// The events after which a round is sent.
const FOLLOWED: [EventType; 13] = [
    event_types::APPROVAL_APPROVED,
    event_types::APPROVAL_ESCALATED,
    event_types::APPROVAL_EXPIRED,
    event_types::APPROVAL_FAILED,
    event_types::APPROVAL_PENDING,
    event_types::APPROVAL_QUORUM_MET,
    event_types::APPROVAL_REJECTED,
    event_types::APPROVAL_REOPENED,
    event_types::APPROVAL_RULE_REMOVED,
    event_types::APPROVAL_SUPERSEDED,
    event_types::APPROVAL_VOTE_CAST,
    event_types::APPROVAL_WITHDRAWN,
    // The event of an approval that has been applied.
    event_types::POLICY_APPLIED,
];
/// Rounds that are read per query while the list is sent.
const LIST_BATCH: i32 = 200;

/// A step of a stream.
#[derive(Debug)]
pub struct Update {
    /// Rounds to send.
    pub items: Vec<Item>,
    /// Position to resume from; `None` until the list is complete.
    pub cursor: Option<i64>,
}

/// Follows the inbox.
pub struct Watcher {
    filter: InboxFilter,
    events: Follower,
    list: ListProgress,
}

enum ListProgress {
    /// The list continues after this position.
    Running(Option<Position>),
    /// The list was sent, and its end was not reported yet.
    Sent,
    Over,
}

impl Watcher {
    /// Starts with the list, or after a cursor.
    ///
    /// # Errors
    /// `Invalid` if the cursor is negative or beyond the last event, `CURSOR_EXPIRED` if it is older than the stored
    /// events, `NOT_FOUND` if the caller does not see the gateway of the filter.
    pub async fn start(ctx: &FleetCtx, filter: InboxFilter, cursor: i64) -> Result<Self, Error> {
        let names = FOLLOWED.iter().map(|event_type| event_type.name().to_owned()).collect();
        let gateway = filter.gateway.clone().unwrap_or_default();
        let (start, list) = match cursor {
            0 => (StartPosition::Now, ListProgress::Running(None)),
            1.. => (StartPosition::After(cursor), ListProgress::Over),
            _ => return Err(Error::invalid("cursor", "must not be negative")),
        };
        let events = Follower::start(ctx, Filter::parse(gateway, names)?, start).await;
        // The events name the field of their own requests.
        let events = events.map_err(|error| {
            if let Error::Invalid { why, .. } = error {
                Error::invalid("cursor", why)
            } else {
                error
            }
        })?;
        Ok(Self { filter, events, list })
    }

    /// Returns the next rounds to send, and waits for a change after the list.
    ///
    /// # Errors
    /// Those of the database and of the events.
    pub async fn next(&mut self, ctx: &FleetCtx) -> Result<Update, Error> {
        match &self.list {
            ListProgress::Running(after) => {
                let size = PageSize::parse(LIST_BATCH)?;
                let page = read_page(ctx, &self.filter, *after, size).await?;
                self.list = match page.next {
                    Some(next) => ListProgress::Running(Some(next)),
                    None => ListProgress::Sent,
                };
                Ok(Update { items: page.items, cursor: None })
            }
            ListProgress::Sent => {
                self.list = ListProgress::Over;
                Ok(Update { items: Vec::new(), cursor: Some(self.events.cursor()) })
            }
            ListProgress::Over => self.changes(ctx).await,
        }
    }

    async fn changes(&mut self, ctx: &FleetCtx) -> Result<Update, Error> {
        let page = self.events.next(ctx).await?;
        let ids: BTreeSet<i64> =
            page.events.iter().filter_map(|event| approval_of(&event.payload_json)).collect();
        let mut conn = ctx.db().read().await?;
        let mut changed = Vec::with_capacity(ids.len());
        for id in ids {
            let round = rounds::store::by_id(&mut conn, ApprovalRoundId(id)).await?;
            changed.extend(round.filter(|round| self.selects(round)));
        }
        let now = ctx.db().now(&mut conn).await?;
        let mut items = view::items(&mut conn, ctx.app(), ctx.principal(), changed, now).await?;
        items.retain(|item| self.selects_people(item));
        Ok(Update { items, cursor: Some(page.next_after) })
    }

    fn selects(&self, round: &Round) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        is(&self.filter.workspace, round.place.workspace())
            && is(&self.filter.sandbox, round.place.sandbox())
            && self.filter.action.is_none_or(|action| action == round.action)
    }

    fn selects_people(&self, item: &Item) -> bool {
        let is_author = self.filter.author.as_ref().is_none_or(|name| item.authors.contains(name));
        is_author && (self.filter.owner.is_none() || self.filter.owner == item.owner)
    }
}

/// Returns the round that an event is about.
fn approval_of(payload: &str) -> Option<i64> {
    let payload: Value = serde_json::from_str(payload).ok()?;
    payload.get("approval")?.as_i64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_sent_after_each_of_its_events_but_the_reminders() {
        let of_rounds = event_types::ALL.iter().map(|(event_type, _)| event_type.name());
        for name in of_rounds.filter(|name| name.starts_with("approval.")) {
            let is_followed = FOLLOWED.iter().any(|followed| followed.name() == name);
            assert_eq!(is_followed, name != event_types::APPROVAL_REMINDER.name(), "{name}");
        }
    }

    #[test]
    fn an_event_names_its_round() {
        assert_eq!(approval_of(r#"{"approval": 7, "gateway": "edge"}"#), Some(7));
        for other in ["", "[]", "{}", r#"{"approval": "7"}"#] {
            assert_eq!(approval_of(other), None, "{other}");
        }
    }
}
