//! The logs of sandboxes: attempts to bypass the policy, refused connections, and lines that could not be read.
//!
//! Invariants
//! - what was read is stored in the transaction of its events: a line is counted once, however often it is read;
//! - whether lines were missed is decided by the order in which they arrived, not by their times: the gateway no longer
//!   has the last lines of the previous read. Only the first read of a process compares times, with a position that is
//!   never later than the last read;
//! - a log, however long, costs a bounded number of calls and bytes, and other gateways nothing.

use std::time::Duration;

use futures_util::future::BoxFuture;
use metrics::counter;
use serde_json::json;
use tokio::time::Instant;

use super::log_ends::Ends;
use super::log_lines::{Shown, examine, per_minute};
use super::log_memory::LogMemory;
use super::pass::{Failures, Pass};
use super::settled::Positions;
use crate::clock::Timestamp;
use crate::db::types::{SandboxName, SandboxRef};
use crate::error::Error;
use crate::openshell::sandbox::{Phase, Sandbox};
use crate::openshell::watch::{LogQuery, LogTail};
use crate::outbox::event_types;
use crate::resources::bypass_events::domain::{self as bypass, ANNOUNCE_EVERY, SandboxOfLines};
use crate::resources::bypass_events::refused;
use crate::resources::sandboxes::positions::store::{self as positions, LogRead, Position};
use crate::telemetry::metrics::{BYPASS_EVENTS_DROPPED, SANDBOX_LOG_GAPS, SANDBOX_LOGS_POSTPONED};
use crate::upstream::budget::Quantity;

/// Lines of one read: a gateway keeps that many of each sandbox.
pub(super) const LINES: u32 = 2_000;
/// If the lines are larger than what is read at once, the next read is smaller by this factor.
const SMALLER_BY: u32 = 8;
/// Calls that read logs, for each second of the interval of a pass.
const CALLS_PER_SECOND: u64 = 10;
/// Bytes of logs that are read, for each second of the interval of a pass.
const BYTES_PER_SECOND: u64 = 1 << 20;
/// Lines of this time before the newest one are read again: those of several sources arrive in another order.
const OVERLAP: Duration = Duration::from_secs(30);
/// Minimum time between two events about missed lines of a sandbox.
const GAP_EVERY: Duration = Duration::from_mins(1);
/// Positions that one transaction stores.
const BATCH: usize = 50;
/// Notices that one pass sends.
const NOTICES_MAX: i64 = 100;

/// Budget that one pass has left.
struct Rest {
    calls: u64,
    bytes: u64,
}

/// A log that was read, and of which no line is stored.
type Moved<'s> = (&'s Sandbox, Option<Timestamp>);

/// Reads the logs of running sandboxes, the longest unread first.
///
/// # Errors
/// Those of the database, and that another replica follows the gateway.
pub(super) fn read<'a>(
    pass: &'a mut Pass<'_>,
    sandboxes: &'a [Sandbox],
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(async move {
        if pass.stamp.notices.number > 0 {
            announce_waiting(pass).await?;
        }
        if !pass.ctx.app().config.followers.logs {
            return Ok(());
        }
        let positions = read_positions(pass).await?;
        let due = due(pass, sandboxes);
        let seconds = pass.ctx.app().config.policies.follow_interval().as_secs().max(1);
        let mut rest =
            Rest { calls: seconds * CALLS_PER_SECOND, bytes: seconds * BYTES_PER_SECOND };
        let (mut moved, mut failures) = (Vec::new(), Failures::default());
        for (index, sandbox) in due.iter().enumerate() {
            if rest.calls == 0 || rest.bytes == 0 {
                let postponed = (due.len() - index) as u64;
                let gateway = pass.gateway_ref.name.to_string();
                counter!(SANDBOX_LOGS_POSTPONED, "gateway" => gateway).increment(postponed);
                break;
            }
            let position = positions.get(&sandbox.full_name);
            let Some(position) = position.filter(|known| known.sandbox_uid == sandbox.id) else {
                continue;
            };
            let read = read_one(pass, sandbox, position, &mut rest).await;
            let outcome = read.map(|read| moved.extend(read));
            if failures.add(outcome, &sandbox.full_name)? {
                break;
            }
        }
        for batch in moved.chunks(BATCH) {
            store_moved(pass, batch).await?;
        }
        check_rate(pass);
        pass.positions = Some(positions);
        Ok(())
    })
}

/// Returns the positions of the sandboxes. They are read only if they may have changed since the pass began.
async fn read_positions(pass: &mut Pass<'_>) -> Result<Positions, Error> {
    if let Some(known) = pass.positions.take() {
        return Ok(known);
    }
    let mut conn = pass.ctx.db().read().await?;
    let rows = positions::of_gateway(&mut conn, pass.gateway_ref.id).await?;
    Ok(rows.into_iter().map(|position| (position.full_name(), position)).collect())
}

/// Returns the sandboxes whose log is read, in this order.
fn due<'s>(pass: &Pass<'_>, sandboxes: &'s [Sandbox]) -> Vec<&'s Sandbox> {
    let log = |name: &SandboxName| {
        let memory = pass.memory.sandboxes.get(name);
        memory.map(|memory| (memory.logs.read_at, memory.logs.read_in))
    };
    let is_due = |sandbox: &&Sandbox| {
        let Some((Some(read_at), read_in)) = log(&sandbox.full_name) else { return true };
        let is_complete = has_ended(sandbox.phase) && read_in == Some(sandbox.phase);
        read_at.elapsed() >= pass.memory.logs_every && !is_complete
    };
    let mut due: Vec<&Sandbox> = sandboxes.iter().filter(is_due).collect();
    due.sort_by_cached_key(|sandbox| log(&sandbox.full_name).and_then(|(read_at, _)| read_at));
    due
}

/// Whether the log of a sandbox in a phase does not grow.
fn has_ended(phase: Phase) -> bool {
    matches!(phase, Phase::Stopped | Phase::Completed | Phase::Error)
}

/// Reads the log of one sandbox, and stores what it shows. Returns the new time of its newest line if that is not stored
/// yet.
async fn read_one<'s>(
    pass: &mut Pass<'_>,
    sandbox: &'s Sandbox,
    position: &Position,
    rest: &mut Rest,
) -> Result<Option<Moved<'s>>, Error> {
    let lines = log_memory(pass, sandbox).lines;
    let since = position.log_time.filter(|at| *at > Timestamp::EPOCH);
    let since = since.map(|at| read_again_from(at, pass.ctx.now()));
    let tail = read_tail(pass, sandbox, (lines, since), rest).await;
    let interval = pass.ctx.app().config.policies.follow_interval();
    let now = pass.ctx.now();
    let log = log_memory(pass, sandbox);
    let before = log.read_at.replace(Instant::now());
    let tail = tail?;
    let known = log.ends.known(&sandbox.id, position.log_time);
    let (mut shown, ends) = match tail {
        LogTail::Lines(read) => {
            log.lines = lines.saturating_mul(2).min(LINES);
            let requested = usize::try_from(lines).unwrap_or(usize::MAX);
            let shown = examine(&read, requested, (position.log_time, &known), now);
            let from = shown.log_time.filter(|at| *at > Timestamp::EPOCH);
            let from = from.map(|at| read_again_from(at, now));
            let ends = Ends::of((sandbox.id.as_str(), shown.log_time), &read, from);
            (shown, ends)
        }
        LogTail::Overflowing => {
            log.lines = (lines / SMALLER_BY).max(1);
            (Shown::unreadable(position.log_time), known)
        }
    };
    if shown.is_cut_off {
        shown.has_gap = is_full(pass, sandbox, lines, rest).await?;
    }
    let log = log_memory(pass, sandbox);
    log.lines_per_minute = match before {
        _ if has_ended(sandbox.phase) => 0,
        // Twice in succession, so that it was not a single burst.
        Some(_) if shown.has_gap && log.had_gap => per_minute(shown.new, shown.span),
        Some(before) => per_minute(shown.new, before.elapsed().max(interval)),
        None => 0,
    };
    log.had_gap = shown.has_gap;
    shown.bypasses.retain(|found| !log.bypasses.has(found.at, &found.line_hash));
    shown.refused.retain(|found| !log.refused.has(found.at, &found.line_hash));
    if !shown.has_gap && shown.bypasses.is_empty() && shown.refused.is_empty() {
        (log.read_in, log.ends) = (Some(sandbox.phase), ends);
        let has_moved = shown.log_time != position.log_time;
        return Ok(has_moved.then_some((sandbox, shown.log_time)));
    }
    store(pass, sandbox, position, &shown).await?;
    // Not before: a gap that could not be stored is found again, and a sandbox that has ended is read again.
    let log = log_memory(pass, sandbox);
    (log.read_in, log.ends) = (Some(sandbox.phase), ends);
    Ok(None)
}

fn log_memory<'m>(pass: &'m mut Pass<'_>, sandbox: &Sandbox) -> &'m mut LogMemory {
    &mut pass.memory.sandboxes.entry(sandbox.full_name.clone()).or_default().logs
}

/// Reads up to `lines` of the newest lines of a sandbox, those since a time.
async fn read_tail(
    pass: &Pass<'_>,
    sandbox: &Sandbox,
    (lines, since): (u32, Option<Timestamp>),
    rest: &mut Rest,
) -> Result<LogTail, Error> {
    let query = LogQuery { lines, since, sources: Vec::new() };
    pass.wait().await;
    let tail = pass.gateway.log_tail(sandbox, &query).await;
    let bytes = pass.spend() as u64;
    rest.calls = rest.calls.saturating_sub(1);
    rest.bytes = rest.bytes.saturating_sub(bytes);
    tail
}

/// Whether a gateway has at least `lines` lines of a sandbox, of any time. If not, it has dropped none, but has
/// restarted.
async fn is_full(
    pass: &Pass<'_>,
    sandbox: &Sandbox,
    lines: u32,
    rest: &mut Rest,
) -> Result<bool, Error> {
    Ok(match read_tail(pass, sandbox, (lines, None), rest).await? {
        LogTail::Lines(read) => read.len() >= usize::try_from(lines).unwrap_or(usize::MAX),
        LogTail::Overflowing => true,
    })
}

/// Returns from when on lines are read again, after those up to `log_time` were read. A single line whose time is ahead
/// does not hide the lines that follow.
fn read_again_from(log_time: Timestamp, now: Timestamp) -> Timestamp {
    log_time.min(now).minus(OVERLAP)
}

/// Stores bypasses, refused connections and a gap of one sandbox, with their events.
async fn store(
    pass: &mut Pass<'_>,
    sandbox: &Sandbox,
    position: &Position,
    shown: &Shown,
) -> Result<(), Error> {
    let (ctx, place) = (pass.ctx, pass.place(&sandbox.full_name));
    let announced_at = pass.memory.sandboxes.get(&sandbox.full_name);
    let announced_at = announced_at.and_then(|memory| memory.logs.gap_announced_at);
    let is_announced = announced_at.is_some_and(|at| at.elapsed() < GAP_EVERY);
    let of_lines = SandboxOfLines { place: &place, uid: &sandbox.id };
    let dropped = ctx
        .transaction(async |tx| {
            pass.check_held(tx).await?;
            let now = ctx.db().now(tx).await?;
            let dropped = bypass::record(ctx, tx, of_lines, &shown.bypasses, now).await?;
            refused::record(tx, of_lines, &shown.refused, now).await?;
            let read = LogRead {
                place: &sandbox.full_name,
                uid: &sandbox.id,
                log_time: shown.log_time,
                has_gap: shown.has_gap,
                dropped: i64::try_from(dropped).unwrap_or(i64::MAX),
            };
            let is_known = positions::set_log(tx, place.gateway.id, read).await?;
            if shown.has_gap && is_known && !is_announced {
                let payload = gap_payload(&place, position, shown);
                let event = ctx.new_event(event_types::SANDBOX_LOG_GAP, payload);
                tx.emit(event.with_gateway(place.gateway.clone())).await?;
            }
            Ok(dropped)
        })
        .await?;
    let gateway = || place.gateway.name.to_string();
    if dropped > 0 {
        counter!(BYPASS_EVENTS_DROPPED, "gateway" => gateway()).increment(dropped as u64);
    }
    let log = log_memory(pass, sandbox);
    if shown.has_gap {
        counter!(SANDBOX_LOG_GAPS, "gateway" => gateway()).increment(1);
        if !is_announced {
            log.gap_announced_at = Some(Instant::now());
        }
    }
    let from = shown.log_time.map(|at| read_again_from(at, ctx.now()));
    let bypasses = shown.bypasses.iter().map(|found| (found.at, found.line_hash.clone()));
    log.bypasses.add(from, bypasses);
    let connections = shown.refused.iter().map(|found| (found.at, found.line_hash.clone()));
    log.refused.add(from, connections);
    Ok(())
}

fn gap_payload(place: &SandboxRef, position: &Position, shown: &Shown) -> serde_json::Value {
    json!({
        "gateway": &*place.gateway.name,
        "workspace": place.workspace(),
        "sandbox": place.sandbox(),
        "sandbox_id": position.sandbox_uid,
        "log_gaps": position.log_gaps + 1,
        "lines_read": shown.new,
    })
}

async fn store_moved(pass: &Pass<'_>, batch: &[Moved<'_>]) -> Result<(), Error> {
    let ctx = pass.ctx;
    ctx.transaction(async |tx| {
        pass.check_held(tx).await?;
        for (sandbox, log_time) in batch {
            let read = LogRead {
                place: &sandbox.full_name,
                uid: &sandbox.id,
                log_time: *log_time,
                has_gap: false,
                dropped: 0,
            };
            positions::set_log(tx, pass.gateway_ref.id, read).await?;
        }
        Ok(())
    })
    .await
}

/// Announces bypasses that were counted since their last event, more than a minute ago.
async fn announce_waiting(pass: &Pass<'_>) -> Result<(), Error> {
    let (ctx, on) = (pass.ctx, &pass.gateway_ref);
    let due = {
        let mut conn = ctx.db().read().await?;
        let by = ctx.db().now(&mut conn).await?.minus(ANNOUNCE_EVERY);
        bypass::due_notices(&mut conn, on.id, by, NOTICES_MAX).await?
    };
    for notice in &due {
        let place = pass.place(&notice.sandbox());
        ctx.transaction(async |tx| {
            pass.check_held(tx).await?;
            let now = ctx.db().now(tx).await?;
            bypass::announce_waiting(ctx, tx, &place, notice, now).await
        })
        .await?;
    }
    Ok(())
}

/// Reports a gateway whose sandboxes write more lines than its budget allows (T20).
fn check_rate(pass: &Pass<'_>) {
    let rates = pass.memory.sandboxes.values().map(|memory| memory.logs.lines_per_minute);
    let lines = rates.fold(0, u64::saturating_add);
    let Some(target) = pass.ctx.app().fleet.targets.get(pass.gateway_ref.id) else { return };
    if lines > target.budget.limit(Quantity::Messages) {
        target.budget.record_too_many_lines();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

    #[test]
    fn a_line_with_a_time_ahead_does_not_hide_those_that_follow() {
        assert_eq!(read_again_from(NOW, NOW), NOW.minus(OVERLAP));
        assert_eq!(read_again_from(NOW.minus(OVERLAP), NOW), NOW.minus(OVERLAP * 2));
        assert_eq!(read_again_from(NOW.plus(Duration::from_hours(23)), NOW), NOW.minus(OVERLAP));
    }
}
