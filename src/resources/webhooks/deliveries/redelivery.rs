//! Sends finished messages again.
//!
//! Invariants
//! - e12: sending a message again keeps its id and its payload;
//! - requests that continue each other send each message of a span again at most once, since each begins after the last
//!   id of the one before.

use super::store::{self, Delivery, Written, sql_time};
use super::{BATCH, DeliveryStatus, earlier_as_json};
use crate::clock::Timestamp;
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::db::types::WebhookId;
use crate::error::{Error, ResourceKind};
use crate::resources::webhooks::delivery::DeliveryState;
use crate::resources::webhooks::domain;

/// Maximum number of ids in one request.
pub const IDS_MAX: usize = 1_000;
/// Maximum number of messages that one request sends again: half of the pending ones with which a webhook is disabled.
pub const REDELIVERED_MAX: usize = 50_000;

/// Which messages are sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chosen {
    /// These.
    Ids(Vec<i64>),
    /// Those of a span of time.
    Span(Span),
}

/// Messages that were queued in a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Those that were queued at or after this time.
    pub from: Timestamp,
    /// Those that were queued before this time.
    pub until: Timestamp,
    /// Those with a higher id.
    pub after: i64,
    /// Maximum number of messages that are sent again.
    pub limit: usize,
}

/// What a request has sent again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Redelivered {
    /// Number of messages.
    pub count: usize,
    /// The id after which the next request continues; `None` if no more messages match.
    pub next_after: Option<i64>,
}

impl Chosen {
    /// Parses a request: either ids or a span. `after` and `max` select a part of the span.
    ///
    /// # Errors
    /// `Invalid` for more than 1000 ids, both, neither, a span that ends before it begins, a part of ids, or a part
    /// that is negative or has more than 50000 messages.
    pub fn parse(
        ids: Vec<i64>,
        (start, end): (Option<Timestamp>, Option<Timestamp>),
        (after, max): (i64, i32),
    ) -> Result<Self, Error> {
        if ids.len() > IDS_MAX {
            let why = format!("must have at most {IDS_MAX} ids, got {}", ids.len());
            return Err(Error::invalid("delivery_ids", why));
        }
        match (ids.is_empty(), start, end) {
            (false, None, None) => Self::of_ids(ids, after, max),
            (true, Some(from), Some(until)) if from < until => {
                if after < 0 {
                    return Err(Error::invalid("after_delivery_id", "must not be negative"));
                }
                Ok(Self::Span(Span { from, until, after, limit: parse_limit(max)? }))
            }
            (true, Some(_), Some(_)) => {
                Err(Error::invalid("end_time", "must be after `start_time`"))
            }
            (true, Some(_), None) => {
                Err(Error::invalid("end_time", "is required with `start_time`"))
            }
            (true, None, Some(_)) => {
                Err(Error::invalid("start_time", "is required with `end_time`"))
            }
            (true, None, None) => Err(Error::invalid("delivery_ids", "or a span is required")),
            (false, _, _) => Err(Error::invalid("delivery_ids", "must be empty with a span")),
        }
    }

    fn of_ids(mut ids: Vec<i64>, after: i64, max: i32) -> Result<Self, Error> {
        let why = "must be 0 with `delivery_ids`";
        if after != 0 {
            return Err(Error::invalid("after_delivery_id", why));
        }
        if max != 0 {
            return Err(Error::invalid("max_deliveries", why));
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(Self::Ids(ids))
    }

    /// Returns the id after which the messages begin.
    fn after(&self) -> i64 {
        match self {
            Self::Ids(_) => 0,
            Self::Span(span) => span.after,
        }
    }

    /// Returns the maximum number of messages.
    fn limit(&self) -> usize {
        match self {
            Self::Ids(_) => IDS_MAX,
            Self::Span(span) => span.limit,
        }
    }
}

fn parse_limit(max: i32) -> Result<usize, Error> {
    match usize::try_from(max) {
        Ok(0) => Ok(REDELIVERED_MAX),
        Ok(max) if max <= REDELIVERED_MAX => Ok(max),
        Ok(_) | Err(_) => {
            let why = format!("must be 0 to {REDELIVERED_MAX}, got {max}");
            Err(Error::invalid("max_deliveries", why))
        }
    }
}

/// Makes finished messages pending again, those of a span by id. Returns their number, and where the next request
/// continues if more messages match.
///
/// # Errors
/// `WEBHOOK_INACTIVE`, `WEBHOOK_UNREADABLE`; `NotFound` if the webhook has no message of an id.
pub async fn redeliver(
    ctx: &Ctx,
    webhook: WebhookId,
    chosen: &Chosen,
    only_failed: bool,
) -> Result<Redelivered, Error> {
    ctx.set_audit_target(webhook.to_string());
    domain::find_active(ctx, webhook).await?;
    let (mut done, mut after) = (Redelivered::default(), chosen.after());
    loop {
        let part = (after, BATCH.min(chosen.limit().saturating_sub(done.count)));
        let (count, last, more) = ctx
            .transaction(async |tx| {
                let (rows, more) = read_part(tx, webhook, chosen, only_failed, part).await?;
                let last = rows.iter().map(|row| row.id.get()).max();
                let now = ctx.db().now(tx).await?;
                let again: Vec<Written> = rows
                    .into_iter()
                    .filter(|row| is_chosen(row.status, only_failed))
                    .map(|row| pending_again(row, now))
                    .collect::<Result<_, _>>()?;
                store::write(tx, &again).await?;
                Ok((again.len(), last, more))
            })
            .await?;
        if count > 0 {
            ctx.app().part::<DeliveryState>().notify_queued([webhook]);
        }
        done.count += count;
        let Some(last) = last.filter(|_| more) else { break };
        if done.count >= chosen.limit() {
            done.next_after = Some(last);
            break;
        }
        after = last;
    }
    ctx.add_audit_detail("count", done.count);
    Ok(done)
}

/// Reads up to `count` messages: the chosen ids, or those of the span after an id, of which each is sent again. The
/// flag says whether more match.
async fn read_part(
    conn: &mut Conn,
    webhook: WebhookId,
    chosen: &Chosen,
    only_failed: bool,
    (after, count): (i64, usize),
) -> Result<(Vec<Delivery>, bool), Error> {
    match chosen {
        Chosen::Ids(ids) => {
            let rows = store::by_ids(conn, webhook, ids).await?;
            check_all_found(ids, &rows)?;
            Ok((rows, false))
        }
        Chosen::Span(Span { from, until, .. }) => {
            let (span, limit) = ((*from, *until), i64::try_from(count + 1).unwrap_or(i64::MAX));
            let mut rows =
                store::finished_between(conn, webhook, span, only_failed, after, limit).await?;
            let more = rows.len() > count;
            rows.truncate(count);
            Ok((rows, more))
        }
    }
}

fn is_chosen(status: DeliveryStatus, only_failed: bool) -> bool {
    match status {
        DeliveryStatus::Pending => false,
        DeliveryStatus::Success => !only_failed,
        DeliveryStatus::Failed => true,
    }
}

fn check_all_found(ids: &[i64], rows: &[Delivery]) -> Result<(), Error> {
    match ids.iter().find(|id| rows.iter().all(|row| row.id.get() != **id)) {
        Some(missing) => Err(Error::not_found(ResourceKind::WebhookDelivery, missing)),
        None => Ok(()),
    }
}

/// Returns the state of a finished message that is sent again: with all of its attempts, and due now.
fn pending_again(row: Delivery, now: Timestamp) -> Result<Written, Error> {
    Ok(Written {
        id: row.id.get(),
        status: DeliveryStatus::Pending.as_str(),
        attempt: 1,
        attempts: earlier_as_json(row.attempts_json.0)?,
        code: row.response_code,
        error: row.error_message,
        delivered: None,
        next_at: Some(sql_time(now)),
        last_at: row.last_attempt_at.map(sql_time),
        duration: row.duration_ms,
        snippet: row.response_snippet,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_chooses_ids_or_a_span() {
        let at = |seconds| Some(Timestamp::from_unix_seconds(seconds));
        let parse = |ids, start, end| Chosen::parse(ids, (start, end), (0, 0));
        assert_eq!(parse(vec![2, 1, 2], None, None).unwrap(), Chosen::Ids(vec![1, 2]));
        assert!(parse(Vec::new(), at(1), at(2)).is_ok());
        assert!(parse((0..1_000).collect(), None, None).is_ok());
        for (ids, start, end) in [
            (Vec::new(), None, None),
            (Vec::new(), at(2), at(1)),
            (Vec::new(), at(1), at(1)),
            (Vec::new(), at(1), None),
            (Vec::new(), None, at(1)),
            (vec![1], at(1), at(2)),
            ((0..1_001).collect(), None, None),
        ] {
            assert!(parse(ids.clone(), start, end).is_err(), "{ids:?} {start:?} {end:?}");
        }
    }

    #[test]
    fn a_request_can_choose_a_part_of_a_span() {
        let [from, until] = [1, 2].map(Timestamp::from_unix_seconds);
        let most = i32::try_from(REDELIVERED_MAX).unwrap();
        let of_span =
            |after, max| Chosen::parse(Vec::new(), (Some(from), Some(until)), (after, max));
        for (after, max, limit) in [(0, 0, REDELIVERED_MAX), (7, 1, 1), (7, most, REDELIVERED_MAX)]
        {
            let expected = Chosen::Span(Span { from, until, after, limit });
            assert_eq!(of_span(after, max).unwrap(), expected, "{after} {max}");
        }
        for (after, max) in [(-1, 0), (0, -1), (0, most + 1)] {
            assert!(of_span(after, max).is_err(), "{after} {max}");
        }
        for (after, max) in [(1, 0), (0, 1)] {
            assert!(Chosen::parse(vec![1], (None, None), (after, max)).is_err(), "{after} {max}");
        }
    }

    #[test]
    fn sending_messages_again_does_not_disable_their_webhook() {
        let pending = i64::try_from(REDELIVERED_MAX + BATCH).unwrap();
        assert!(pending < crate::resources::webhooks::delivery::schedule::PENDING_MAX);
    }
}
