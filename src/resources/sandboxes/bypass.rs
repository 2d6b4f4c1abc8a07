//! Bypass events of one sandbox, and how completely its log was read.

use std::collections::BTreeMap;

use super::positions::store as positions;
use super::store as metas;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, ListKey};
use crate::db::page::PageSize;
use crate::db::types::{SandboxName, SandboxRef};
use crate::error::{Error, ResourceKind};
use crate::resources::bypass_events::domain::{self, BypassEvent, BypassQuery};
use crate::seal::join_parts;

/// Selects bypass events.
#[derive(Debug, Clone)]
pub struct BypassFilter {
    /// Name of the sandbox.
    pub sandbox: SandboxName,
    /// The gateway's id of the sandbox, possibly a former one of the name. `None` selects the current sandbox, or the
    /// last one with bypass events if the name has no sandbox.
    pub sandbox_id: Option<String>,
    /// Only lines that are not older.
    pub since: Timestamp,
}

/// A page of bypass events, with what is known about all of them.
#[derive(Debug, Default)]
pub struct BypassPage {
    /// The events, the last found first.
    pub events: Vec<BypassEvent>,
    /// Token of the next page. Empty on the last page.
    pub next: String,
    /// The gateway's id of the sandbox. Empty if it is not known.
    pub sandbox_id: String,
    /// Number of stored events by technique.
    pub by_technique: BTreeMap<&'static str, i64>,
    /// Number of stored events by severity.
    pub by_severity: BTreeMap<&'static str, i64>,
    /// Time of the newest line.
    pub latest: Option<Timestamp>,
    /// Number of events that are not stored.
    pub dropped: i64,
    /// Number of reads of the log that have missed lines.
    pub log_gaps: i64,
    /// Whether the log is read now.
    pub is_followed: bool,
}

/// Returns a page of the bypass events of a sandbox. No gateway is called.
///
/// # Errors
/// `NOT_FOUND` if nothing is known about a sandbox of this name.
pub async fn list(
    ctx: &Ctx,
    filter: &BypassFilter,
    size: PageSize,
    token: &str,
) -> Result<BypassPage, Error> {
    let on = ctx.required_gateway()?;
    let place = SandboxRef { gateway: on.clone(), name: filter.sandbox.clone() };
    let since = filter.since.unix_micros().to_be_bytes();
    let id = filter.sandbox_id.as_deref().unwrap_or_default();
    let texts = [&*on.name, place.workspace(), place.sandbox(), id];
    let [gateway, workspace, sandbox, id] = texts.map(str::as_bytes);
    let key = join_parts(&[gateway, workspace, sandbox, id, &since]);
    let list = ListKey { method: "ListBypassEvents", filter: &key, order: "id desc" };
    let page = ctx.page_request::<i64>(list, size, token)?;
    let before = page.after().copied().unwrap_or(i64::MAX);
    let mut conn = ctx.db().read().await?;
    let position = positions::get(&mut conn, on.id, &place.name).await?;
    let current = position.as_ref().map(|position| position.sandbox_uid.clone());
    let uid = match filter.sandbox_id.clone().or(current) {
        Some(uid) => Some(uid),
        None => domain::newest_uid(&mut conn, &place).await?,
    };
    let Some(uid) = uid else {
        // It exists, and was not followed yet.
        let known = metas::get(&mut conn, &on.name, &place.name).await?;
        let missing = || Error::not_found(ResourceKind::Sandbox, &place.name);
        return known.map(|_| BypassPage::default()).ok_or_else(missing);
    };
    let query = BypassQuery { place: &place, uid: &uid, since: filter.since };
    let rows = domain::page(&mut conn, query, before, page.limit()).await?;
    let counts = domain::counts(&mut conn, query).await?;
    drop(conn);
    let (events, next) = page.finish(rows, |last| last.id)?;
    let mut found = BypassPage { events, next, ..BypassPage::default() };
    for (technique, severity, count, latest) in counts {
        *found.by_technique.entry(technique.as_str()).or_default() += count;
        *found.by_severity.entry(severity.as_str()).or_default() += count;
        found.latest = found.latest.max(latest);
    }
    if let Some(position) = position.filter(|position| position.sandbox_uid == uid) {
        (found.dropped, found.log_gaps) = (position.bypass_dropped, position.log_gaps);
        found.is_followed = ctx.app().config.followers.logs;
    }
    found.sandbox_id = uid;
    Ok(found)
}
