//! Stores what was found in the log of a sandbox, and announces it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::classify::{BypassLine, Technique};
use super::ocsf::Severity;
pub use super::store::{BypassEvent, BypassQuery, Notice, counts, due_notices, newest_uid, page};
use super::{refused, store};
use crate::clock::Timestamp;
use crate::ctx::{Ctx, Tx};
use crate::db::Conn;
use crate::db::rows_by_gateway::RowsByGateway;
use crate::db::types::{GatewayId, SandboxRef};
use crate::error::Error;
use crate::outbox::event_types;

/// Maximum number of stored lines of a sandbox. Older ones are dropped.
pub const STORED_MAX: usize = 1_000;
/// Maximum number of stored lines of a gateway, of its refused connections, and of its notices, of which each sandbox
/// and technique has one. Those that were stored first are deleted: a gateway can name any number of sandboxes (T20).
pub const STORED_OF_GATEWAY_MAX: usize = 100_000;
/// Rows of a table that are deleted per transaction.
pub const DELETED_AT_ONCE: usize = 1_000;
/// How long a line is stored.
pub const STORED_FOR: Duration = Duration::from_hours(30 * 24);
/// Minimum time between two events about a sandbox and technique.
pub const ANNOUNCE_EVERY: Duration = Duration::from_mins(1);

/// The tables of what logs show, and how long a row of each is stored. A notice is stored longer than the lines that it
/// announces.
pub(super) const TABLES: [(RowsByGateway, Duration); 3] = [
    (store::LINES, STORED_FOR),
    (store::NOTICES, STORED_FOR.saturating_add(ANNOUNCE_EVERY)),
    (refused::LINES, refused::STORED_FOR),
];

/// A sandbox and the gateway's id of it.
#[derive(Debug, Clone, Copy)]
pub struct SandboxOfLines<'a> {
    /// Its name.
    pub place: &'a SandboxRef,
    /// The gateway's id.
    pub uid: &'a str,
}

/// New lines of one technique.
struct Found<'a> {
    count: i64,
    severity: Severity,
    newest: &'a BypassLine,
}

/// Fields of an event about the newest line.
struct Shown<'a> {
    at: Timestamp,
    severity: Severity,
    binary: Option<&'a str>,
    summary: &'a str,
}

/// Stores lines of a sandbox, oldest first, with the events about those that are new. Returns how many lines were
/// dropped, because more than [`STORED_MAX`] are stored.
///
/// # Errors
/// Those of the database.
pub async fn record(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    sandbox: SandboxOfLines<'_>,
    lines: &[BypassLine],
    now: Timestamp,
) -> Result<usize, Error> {
    let SandboxOfLines { place, uid } = sandbox;
    let skipped = lines.len().saturating_sub(STORED_MAX);
    let mut found: BTreeMap<Technique, Found<'_>> = BTreeMap::new();
    for line in &lines[skipped..] {
        if !store::insert(tx, place, uid, line, now).await? {
            continue;
        }
        let new = Found { count: 0, severity: line.severity, newest: line };
        let of_technique = found.entry(line.technique).or_insert(new);
        of_technique.count += 1;
        of_technique.newest = line;
        of_technique.severity = of_technique.severity.max(line.severity);
    }
    for (technique, found) in &found {
        announce(ctx, tx, sandbox, *technique, found, now).await?;
    }
    if found.is_empty() {
        return Ok(skipped);
    }
    let limit = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let (keep, at_once) = (limit(STORED_MAX), limit(2 * STORED_MAX));
    let deleted = store::delete_beyond(tx, place.gateway.id, uid, keep, at_once).await?;
    Ok(skipped + deleted)
}

/// Announces new lines of a technique at once, unless the last event is less than a minute ago: then they are counted.
async fn announce(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    sandbox: SandboxOfLines<'_>,
    technique: Technique,
    found: &Found<'_>,
    now: Timestamp,
) -> Result<(), Error> {
    let SandboxOfLines { place, uid } = sandbox;
    let mut count = found.count;
    match store::notice(tx, place.gateway.id, uid, technique).await? {
        None => store::insert_notice(tx, place, uid, technique, now).await?,
        Some(notice) => {
            count = count.saturating_add(notice.waiting);
            if now.since(notice.announced_at) < ANNOUNCE_EVERY {
                return store::set_notice(tx, notice.id, notice.announced_at, count).await;
            }
            store::set_notice(tx, notice.id, now, 0).await?;
        }
    }
    let shown = Shown {
        at: found.newest.at,
        severity: found.severity,
        binary: found.newest.line.binary.as_deref(),
        summary: &found.newest.line.summary,
    };
    emit(ctx, tx, sandbox, technique, (count, Some(shown))).await
}

/// Announces lines that were counted since the last event. Call it when a minute has passed.
///
/// # Errors
/// Those of the database.
pub async fn announce_waiting(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    place: &SandboxRef,
    notice: &Notice,
    now: Timestamp,
) -> Result<(), Error> {
    let (uid, technique) = (notice.sandbox_uid.as_str(), notice.technique);
    // It may have been announced since it was read.
    let current = store::notice(tx, place.gateway.id, uid, technique).await?;
    let Some(current) = current.filter(|current| current.waiting > 0) else { return Ok(()) };
    if now.since(current.announced_at) < ANNOUNCE_EVERY {
        return Ok(());
    }
    store::set_notice(tx, current.id, now, 0).await?;
    let newest = store::newest(tx, place.gateway.id, uid, technique).await?;
    let shown = newest.as_ref().map(|newest| Shown {
        at: newest.at,
        severity: newest.severity,
        binary: newest.binary.as_deref(),
        summary: &newest.summary,
    });
    let sandbox = SandboxOfLines { place, uid };
    emit(ctx, tx, sandbox, technique, (current.waiting, shown)).await
}

async fn emit(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    sandbox: SandboxOfLines<'_>,
    technique: Technique,
    (count, shown): (i64, Option<Shown<'_>>),
) -> Result<(), Error> {
    let SandboxOfLines { place, uid } = sandbox;
    let mut payload = json!({
        "gateway": &*place.gateway.name,
        "workspace": place.workspace(),
        "sandbox": place.sandbox(),
        "sandbox_id": uid,
        "technique": technique.as_str(),
        "mitre_id": technique.mitre_id(),
        "count": count,
    });
    if let Some(shown) = shown {
        payload["severity"] = shown.severity.as_str().into();
        payload["binary"] = shown.binary.into();
        payload["summary"] = shown.summary.into();
        payload["log_time"] = shown.at.to_string().into();
    }
    let event = ctx.new_event(event_types::SANDBOX_BYPASS_DETECTED, payload);
    tx.emit(event.with_gateway(place.gateway.clone())).await
}

/// Returns whether a gateway has so many rows that they are deleted before it, with [`delete_some_of`].
///
/// # Errors
/// Those of the database.
pub async fn has_many(conn: &mut Conn, gateway: GatewayId) -> Result<bool, Error> {
    let many = i64::try_from(DELETED_AT_ONCE).unwrap_or(i64::MAX);
    for (rows, _) in TABLES {
        if (rows.newest_beyond)(conn, gateway, many).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Deletes rows of a gateway, at most [`DELETED_AT_ONCE`] of each table. Returns whether it may have more.
///
/// # Errors
/// Those of the database.
pub async fn delete_some_of(conn: &mut Conn, gateway: GatewayId) -> Result<bool, Error> {
    let limit = i64::try_from(DELETED_AT_ONCE).unwrap_or(i64::MAX);
    let mut deleted = 0;
    for (rows, _) in TABLES {
        deleted = deleted.max((rows.delete_up_to)(conn, gateway, i64::MAX, limit).await?);
    }
    Ok(deleted >= DELETED_AT_ONCE)
}
