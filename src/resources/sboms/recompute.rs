//! Computes the rows of stored SBOMs again, from their documents, after the rules have changed.
//!
//! Invariants
//! - rows of older rules are never read: what reads one SBOM computes it again first, and a search of the fleet is
//!   refused until a worker has done so with all. An SBOM that a replica of an older version stores during an upgrade
//!   can be missing from searches for ten seconds;
//! - an SBOM that is computed again gets a new id, so that page tokens and etags of the old rows are conflicts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::warn;

use super::cyclonedx::BOM_FORMAT;
use super::ingest::ParsedDocument;
use super::intake::SbomLimits;
use super::place::SandboxPlace;
use super::rows::{NewSnapshot, Snapshot};
use super::store::{self, SnapshotRef};
use crate::app::App;
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::db::leases::{self, Lease};
use crate::error::{Error, Reason};

/// Number of the rules by which rows are computed from a document. Increase it with every change of what is read from a
/// document, of the search keys, or of what counts as a vulnerability.
pub(super) const RULES: i32 = 2;

/// How long a search relies on an earlier finding that all rows are of the current rules. Only a replica of an older
/// version can change that.
const CONFIRMED_FOR: Duration = Duration::from_secs(10);

/// When all rows were last found to be of the current rules, as this replica knows.
#[derive(Debug, Default)]
pub struct RulesCheck {
    /// Milliseconds since boot; 0 if they were not, or if that is not known.
    confirmed_ms: AtomicU64,
}

impl RulesCheck {
    /// Returns whether the last finding still counts.
    fn is_confirmed(&self, now: Duration) -> bool {
        let confirmed = self.confirmed_ms.load(Ordering::Relaxed);
        confirmed > 0 && now.saturating_sub(Duration::from_millis(confirmed)) < CONFIRMED_FOR
    }

    /// Notes what was found at a time since boot.
    pub(super) fn record(&self, current: bool, found_at: Duration) {
        let ms = u64::try_from(found_at.as_millis()).unwrap_or(u64::MAX);
        self.confirmed_ms.store(if current { ms } else { 0 }, Ordering::Relaxed);
    }
}

/// Returns the SBOM of a sandbox, whose rows are first computed again if they are of older rules. `None` if it has no
/// SBOM.
///
/// # Errors
/// `BUSY` if others are computed again and no slot is free in time.
pub(super) async fn current_snapshot(
    ctx: &Ctx,
    place: &SandboxPlace,
) -> Result<Option<Snapshot>, Error> {
    match store::snapshot_and_rules(&mut ctx.db().read().await?, place).await? {
        None => return Ok(None),
        Some((snapshot, Some(RULES))) => return Ok(Some(snapshot)),
        Some(_) => {}
    }
    let turn = ctx.app().part::<SbomLimits>().acquire_recompute().await?;
    recompute(ctx, None, place).await?;
    drop(turn);
    store::snapshot(&mut ctx.db().read().await?, place).await
}

/// Refuses a search while any rows are of older rules: it could miss components.
pub(super) async fn check_all_current(app: &App, conn: &mut Conn) -> Result<(), Error> {
    let (check, now) = (app.part::<RulesCheck>(), app.clock.since_boot());
    if check.is_confirmed(now) {
        return Ok(());
    }
    let current = store::outdated(conn, RULES, 1).await?.is_empty();
    check.record(current, now);
    if current {
        return Ok(());
    }
    let why = "SBOMs that an older version of Shoreguard stored are being read again: retry after a minute";
    Err(Error::unavailable(Reason::SbomsOutdated, why))
}

/// Computes the rows of a sandbox's SBOM again, unless that was done or the SBOM was replaced in the meantime.
pub(super) async fn recompute(
    ctx: &Ctx,
    lease: Option<&Lease>,
    place: &SandboxPlace,
) -> Result<(), Error> {
    if !is_outdated(ctx, place).await? {
        return Ok(());
    }
    let Some((old, document)) = read(ctx, place).await? else { return Ok(()) };
    let limits = ctx.app().part::<SbomLimits>();
    let parsed = limits.run_blocking(move || ParsedDocument::parse(document, None)).await?;
    if let Err(error) = &parsed {
        let error = error as &dyn std::error::Error;
        warn!(%place, error, "a stored SBOM cannot be read again: its rows stay as they are");
    }
    ctx.long_transaction(async |tx| {
        if let Some(lease) = lease {
            leases::check_held(tx, lease).await?;
        }
        store::lock(tx, place).await?;
        let now = store::snapshot(tx, place).await?;
        if now.is_none_or(|now| now.id != old.id) {
            return Ok(());
        }
        let Ok(parsed) = &parsed else { return store::set_rules(tx, old.id, RULES).await };
        store::delete_of_sandbox(tx, &place.gateway, &place.name, None).await?;
        let id = store::insert(tx, &new_snapshot(&old, parsed)).await?;
        store::insert_content(tx, id, &parsed.rows).await?;
        store::set_rules(tx, id, RULES).await
    })
    .await
}

async fn is_outdated(ctx: &Ctx, place: &SandboxPlace) -> Result<bool, Error> {
    let found = store::snapshot_and_rules(&mut ctx.db().read().await?, place).await?;
    Ok(found.is_some_and(|(_, rules)| rules != Some(RULES)))
}

/// Reads an SBOM with its document. `None` if it was deleted or replaced meanwhile.
async fn read(ctx: &Ctx, place: &SandboxPlace) -> Result<Option<(Snapshot, Vec<u8>)>, Error> {
    let mut conn = ctx.db().read().await?;
    let Some(old) = store::snapshot(&mut conn, place).await? else { return Ok(None) };
    let of = SnapshotRef { place, id: old.id };
    let size = i32::try_from(old.size_bytes).map_err(Error::internal)?;
    let document = store::read_piece(&mut conn, of, 1, size).await?;
    Ok(document.map(|document| (old, document)))
}

/// Returns the row of the same upload with what the current rules read from the document.
fn new_snapshot<'a>(old: &'a Snapshot, parsed: &'a ParsedDocument) -> NewSnapshot<'a> {
    let count = |rows: usize| i64::try_from(rows).unwrap_or(i64::MAX);
    NewSnapshot {
        gateway_name: &old.gateway_name,
        workspace: &old.workspace,
        sandbox_name: &old.sandbox_name,
        bom_format: BOM_FORMAT,
        spec_version: &parsed.spec_version,
        serial_number: parsed.serial_number.clone(),
        uploaded_by: &old.uploaded_by,
        uploaded_at: old.uploaded_at,
        component_count: count(parsed.rows.components.len()),
        vulnerability_count: count(parsed.rows.vulnerabilities.len()),
        max_severity: parsed.max_severity,
        sha256: &old.sha256,
        size_bytes: old.size_bytes,
        raw_json: &parsed.bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_counts_for_a_while_and_only_if_all_rows_were_current() {
        let (check, at) = (RulesCheck::default(), Duration::from_hours(1));
        assert!(!check.is_confirmed(at));
        check.record(true, at);
        assert!(check.is_confirmed(at) && !check.is_confirmed(at + CONFIRMED_FOR));
        check.record(false, at);
        assert!(!check.is_confirmed(at));
    }
}
