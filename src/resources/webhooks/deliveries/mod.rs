//! Messages of webhooks: their states, lists, and sending them again.
//!
//! Invariants
//! - e11: a message is pending until its receiver has accepted it or it has failed;
//! - e12: sending a message again keeps its id and its payload;
//! - the earlier attempts are kept, at most 10.

pub mod store;

use crate::clock::Timestamp;
use crate::ctx::{Ctx, ListKey};
use crate::db::page::PageSize;
use crate::db::types::WebhookId;
use crate::error::{Error, ResourceKind};
use crate::words;

use self::store::{Delivery, PastAttempt, Written, sql_time};
use super::delivery::DeliveryState;
use super::domain;

/// Maximum number of ids in one request.
pub const IDS_MAX: usize = 1_000;
/// Maximum number of messages that one request sends again: half of the pending ones with which a webhook is disabled.
pub const REDELIVERED_MAX: usize = 50_000;
/// Messages per transaction.
const BATCH: usize = 1_000;
/// Maximum size of the attempts of a page, in bytes: clients accept 4 MiB by default.
const PAGE_BYTES_MAX: usize = 2 << 20;
/// Earlier attempts that are kept.
const EARLIER_MAX: usize = 10;

words! {
    /// State of a message.
    pub enum DeliveryStatus {
        /// It will be sent, or sent again.
        Pending = "pending",
        /// The receiver has accepted it.
        Success = "success",
        /// It is not sent again.
        Failed = "failed",
    }
}

/// Which messages are sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chosen {
    /// These.
    Ids(Vec<i64>),
    /// Those that were queued from the first time until before the second one.
    Span(Timestamp, Timestamp),
}

impl Chosen {
    /// Parses a request: either ids or a span.
    ///
    /// # Errors
    /// `Invalid` for more than 1000 ids, both, neither, or a span that ends before it begins.
    pub fn parse(
        ids: Vec<i64>,
        start: Option<Timestamp>,
        end: Option<Timestamp>,
    ) -> Result<Self, Error> {
        if ids.len() > IDS_MAX {
            let why = format!("must have at most {IDS_MAX} ids, got {}", ids.len());
            return Err(Error::invalid("delivery_ids", why));
        }
        match (ids.is_empty(), start, end) {
            (false, None, None) => {
                let mut ids = ids;
                ids.sort_unstable();
                ids.dedup();
                Ok(Self::Ids(ids))
            }
            (true, Some(start), Some(end)) if start < end => Ok(Self::Span(start, end)),
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
}

/// Returns a page of the messages of a webhook, newest first. It has fewer than requested if their attempts are long.
pub async fn list(
    ctx: &Ctx,
    webhook: WebhookId,
    status: Option<DeliveryStatus>,
    size: PageSize,
    token: &str,
) -> Result<(Vec<Delivery>, String), Error> {
    domain::check_exists(ctx, webhook).await?;
    let filter = format!("{webhook} {}", status.map_or("", DeliveryStatus::as_str));
    let list =
        ListKey { method: "ListWebhookDeliveries", filter: filter.as_bytes(), order: "id desc" };
    let page = ctx.page_request::<i64>(list, size, token)?;
    let mut conn = ctx.db().read().await?;
    let after = page.after().copied();
    let rows = store::page(&mut conn, webhook, status, after, page.limit()).await?;
    let (mut rows, more) = size.truncate(rows);
    let fits = fitting(rows.iter().map(attempt_bytes));
    let is_cut = fits < rows.len();
    rows.truncate(fits);
    page.finish_truncated((rows, more || is_cut), |last| last.id.get())
}

/// Returns how many rows of these sizes fit a page: at least one, since the list would not get past it.
fn fitting(sizes: impl Iterator<Item = usize>) -> usize {
    let mut total = 0;
    let fits = sizes.take_while(|size| {
        total += size;
        total <= PAGE_BYTES_MAX
    });
    fits.count().max(1)
}

/// Returns about how many bytes the attempts of a message have.
#[must_use]
pub(super) fn attempt_bytes(row: &Delivery) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let earlier = row.attempts_json.0.iter().map(|one| text(&one.error) + text(&one.snippet));
    earlier.sum::<usize>() + text(&row.error_message) + text(&row.response_snippet)
}

/// Makes finished messages pending again. Returns their number, and whether more messages match.
///
/// # Errors
/// `WEBHOOK_INACTIVE`, `WEBHOOK_UNREADABLE`; `NotFound` if the webhook has no message of an id.
pub async fn redeliver(
    ctx: &Ctx,
    webhook: WebhookId,
    chosen: &Chosen,
    only_failed: bool,
) -> Result<(usize, bool), Error> {
    ctx.set_audit_target(webhook.to_string());
    domain::find_active(ctx, webhook).await?;
    let (mut done, mut after) = (0, 0);
    loop {
        let (count, last) = ctx
            .transaction(async |tx| {
                let rows = match chosen {
                    Chosen::Ids(ids) => {
                        let rows = store::by_ids(tx, webhook, ids).await?;
                        check_all_found(ids, &rows)?;
                        rows
                    }
                    Chosen::Span(from, until) => {
                        let (span, limit) = ((*from, *until), batch_limit());
                        store::finished_between(tx, webhook, span, only_failed, after, limit)
                            .await?
                    }
                };
                let last = rows.iter().map(|row| row.id.get()).max();
                let now = ctx.db().now(tx).await?;
                let again: Vec<Written> = rows
                    .into_iter()
                    .filter(|row| is_chosen(row.status, only_failed))
                    .map(|row| pending_again(row, now))
                    .collect::<Result<_, _>>()?;
                store::write(tx, &again).await?;
                Ok((again.len(), last))
            })
            .await?;
        if count > 0 {
            ctx.app().part::<DeliveryState>().notify_queued([webhook]);
        }
        done += count;
        let Some(last) = last.filter(|_| matches!(chosen, Chosen::Span(..))) else { break };
        after = last;
        if done >= REDELIVERED_MAX {
            ctx.add_audit_detail("count", done);
            return Ok((done, true));
        }
    }
    ctx.add_audit_detail("count", done);
    Ok((done, false))
}

/// Deletes the finished messages of a webhook that is deleted next, in batches: there can be millions of them, and
/// deleting all at once would block other writers or take too long. Pending ones, whose number is limited, are deleted
/// with the webhook: if that fails, none is lost (e11).
///
/// # Errors
/// Those of the database.
pub(super) async fn delete_finished_of(ctx: &Ctx, webhook: WebhookId) -> Result<(), Error> {
    for status in [DeliveryStatus::Success, DeliveryStatus::Failed] {
        while delete_some(ctx, webhook, status).await? >= BATCH {}
    }
    Ok(())
}

async fn delete_some(
    ctx: &Ctx,
    webhook: WebhookId,
    status: DeliveryStatus,
) -> Result<usize, Error> {
    ctx.long_transaction(async |tx| {
        store::delete_in_state(tx, webhook, status, batch_limit()).await
    })
    .await
}

fn batch_limit() -> i64 {
    i64::try_from(BATCH).unwrap_or(i64::MAX)
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

/// Returns the last attempt of a message; `None` before its first one.
#[must_use]
pub fn last_attempt(row: &Delivery) -> Option<PastAttempt> {
    let at = row.last_attempt_at?;
    Some(PastAttempt {
        at_us: at.unix_micros(),
        duration_ms: row.duration_ms.unwrap_or_default(),
        code: row.response_code,
        error: row.error_message.clone(),
        snippet: row.response_snippet.clone(),
    })
}

/// Returns the attempts before the present one as JSON: the earlier ones of the row, and its last one.
pub(super) fn earlier_attempts(row: &Delivery) -> Result<String, Error> {
    let mut attempts = row.attempts_json.0.clone();
    attempts.extend(last_attempt(row));
    earlier_as_json(attempts)
}

fn earlier_as_json(mut attempts: Vec<PastAttempt>) -> Result<String, Error> {
    let surplus = attempts.len().saturating_sub(EARLIER_MAX);
    attempts.drain(..surplus);
    serde_json::to_string(&attempts).map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_chooses_ids_or_a_span() {
        let at = |seconds| Some(Timestamp::from_unix_seconds(seconds));
        assert_eq!(Chosen::parse(vec![2, 1, 2], None, None).unwrap(), Chosen::Ids(vec![1, 2]));
        assert!(Chosen::parse(Vec::new(), at(1), at(2)).is_ok());
        assert!(Chosen::parse((0..1_000).collect(), None, None).is_ok());
        for (ids, start, end) in [
            (Vec::new(), None, None),
            (Vec::new(), at(2), at(1)),
            (Vec::new(), at(1), at(1)),
            (Vec::new(), at(1), None),
            (Vec::new(), None, at(1)),
            (vec![1], at(1), at(2)),
            ((0..1_001).collect(), None, None),
        ] {
            assert!(Chosen::parse(ids.clone(), start, end).is_err(), "{ids:?} {start:?} {end:?}");
        }
    }

    #[test]
    fn sending_messages_again_does_not_disable_their_webhook() {
        let pending = i64::try_from(REDELIVERED_MAX + BATCH).unwrap();
        assert!(pending < crate::resources::webhooks::delivery::schedule::PENDING_MAX);
    }

    #[test]
    fn a_page_with_long_attempts_is_cut() {
        assert_eq!(fitting([PAGE_BYTES_MAX / 2; 3].into_iter()), 2);
        assert_eq!(fitting([PAGE_BYTES_MAX + 1, 1].into_iter()), 1);
        assert_eq!(fitting([0; 1_000].into_iter()), 1_000);
    }

    #[test]
    fn at_most_10_earlier_attempts_are_kept() {
        let of =
            |at_us| PastAttempt { at_us, duration_ms: 1, code: None, error: None, snippet: None };
        let json = earlier_as_json((0..15).map(of).collect()).unwrap();
        let kept: Vec<PastAttempt> = serde_json::from_str(&json).unwrap();
        assert_eq!(
            kept.iter().map(|one| one.at_us).collect::<Vec<_>>(),
            (5..15).collect::<Vec<_>>()
        );
    }
}
