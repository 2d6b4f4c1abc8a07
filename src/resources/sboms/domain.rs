//! Uploads, downloads, compares and deletes SBOMs.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::cyclonedx::{BOM_FORMAT, SBOM_BYTES_MAX, Severity};
use super::diff::{self, Content, Difference};
use super::ingest::Taken;
use super::lists::{fit, snapshot, stands};
use super::place::Place;
use super::rows::{NewSnapshot, Snapshot};
use super::store::{self, SnapshotOf};
use crate::ctx::{Ctx, List};
use crate::db::Conn;
use crate::db::page::PageSize;
use crate::error::{Error, Kind, Reason};
use crate::etag;
use crate::outbox::event_types;
use crate::resources::sboms::intake::Intake;

/// Most SBOMs of one gateway. The sandboxes need not exist, so names alone must not fill the database. Concurrent
/// uploads may exceed the limit by the number of documents that are received at once.
pub const SBOMS_MAX: i64 = 5_000;
/// Most differences in the response to an upload.
pub const CHANGES_SHOWN_MAX: usize = 200;
/// Bytes of a document that one query reads.
const PIECE_BYTES: i32 = 1024 * 1024;
/// SBOMs that one statement deletes.
const AT_ONCE: i64 = 20;
/// Attempts of an upload that conflicts with concurrent uploads.
const TRIES_MAX: usize = 3;
const UPLOADED_BY_CHARACTERS_MAX: usize = 254;

/// A document that is being uploaded.
#[derive(Debug, Default)]
pub struct Incoming(Vec<u8>);

impl Incoming {
    /// Returns the number of bytes received so far.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// Appends a chunk.
    pub fn take(&mut self, chunk: &[u8]) -> Result<(), Error> {
        if chunk.is_empty() {
            return Err(Error::invalid("chunk", "must not be empty in a message after the first"));
        }
        if self.0.len() + chunk.len() > SBOM_BYTES_MAX {
            let why = format!("must be at most {SBOM_BYTES_MAX} bytes in all");
            return Err(Error::invalid("chunk", why));
        }
        self.0.extend_from_slice(chunk);
        Ok(())
    }
}

/// Rejects a message with a field that belongs in another message. Each field comes with a flag that is set if it is
/// empty.
pub fn only(others: &[(&str, bool)], what: &str) -> Result<(), Error> {
    match others.iter().find(|(_, empty)| !empty) {
        None => Ok(()),
        Some((field, _)) => Err(Error::invalid(*field, format!("must be empty in {what}"))),
    }
}

/// Parses the SHA-256 of a request. `None` if it is empty.
pub fn given_sha256(text: &str) -> Result<Option<String>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Error::invalid("sha256", "must be 64 hexadecimal digits"));
    }
    Ok(Some(text.to_lowercase()))
}

/// Result of an upload.
#[derive(Debug)]
pub struct Uploaded {
    /// The stored SBOM.
    pub snapshot: Snapshot,
    /// Whether it replaced an older one.
    pub replaced: bool,
    /// Differences from the older SBOM.
    pub difference: Difference,
    /// Number of entries that were skipped.
    pub skipped: usize,
    /// Number of texts that were cut.
    pub cut: usize,
    /// Paths of the first cut texts.
    pub cut_paths: Vec<String>,
}

/// Stores a document as the SBOM of a sandbox and replaces the older one.
pub async fn upload(
    ctx: &Ctx,
    place: &Place,
    incoming: Incoming,
    sha256: Option<String>,
) -> Result<Uploaded, Error> {
    let intake = &ctx.app().part::<Intake>();
    let taken = intake.work(move || Taken::of(incoming.0, sha256.as_deref())).await??;
    let taken = Arc::new(taken);
    ctx.detail("workspace", place.name.workspace.as_str());
    ctx.detail("components", taken.rows.components.len());
    ctx.detail("vulnerabilities", taken.rows.vulnerabilities.len());
    ctx.detail("max_severity", taken.max_severity.map(Severity::as_str));
    ctx.detail("sha256", taken.sha256.as_str());
    for _ in 0..TRIES_MAX {
        let before = content(ctx, place).await?;
        let compared = Arc::clone(&taken);
        let (before, difference) = intake
            .work(move || {
                let (before, content) = before.unzip();
                let content = content.unwrap_or_default();
                (before, diff::between(&content, &compared.content))
            })
            .await?;
        if let Some(snapshot) = replace(ctx, place, &taken, before, &difference).await? {
            let (skipped, cut) = (taken.skipped, taken.cut);
            let cut_paths = taken.cut_paths.clone();
            let replaced = before.is_some();
            return Ok(Uploaded { snapshot, replaced, difference, skipped, cut, cut_paths });
        }
    }
    Err(Error::conflict(Kind::Sbom, place))
}

/// Returns id and content of the SBOM of a sandbox for a comparison. `None` if it has no SBOM.
async fn content(ctx: &Ctx, place: &Place) -> Result<Option<(i64, Content)>, Error> {
    let mut conn = ctx.db().read().await?;
    for _ in 0..TRIES_MAX {
        let Some(Snapshot { id, .. }) = store::snapshot(&mut conn, place).await? else {
            return Ok(None);
        };
        let of = SnapshotOf { place, id };
        let parts = store::parts(&mut conn, of).await?;
        let rated = store::rated(&mut conn, of).await?;
        if stands(&mut conn, place, id).await? {
            return Ok(Some((id, Content { parts, rated })));
        }
    }
    Err(Error::conflict(Kind::Sbom, place))
}

/// Replaces the SBOM with id `before`. Returns `None` if that is no longer the current one.
async fn replace(
    ctx: &Ctx,
    place: &Place,
    taken: &Taken,
    before: Option<i64>,
    difference: &Difference,
) -> Result<Option<Snapshot>, Error> {
    let actor: String = ctx.actor().chars().take(UPLOADED_BY_CHARACTERS_MAX).collect();
    ctx.transaction(async |tx| {
        store::lock(tx, place).await?;
        let now = store::snapshot(tx, place).await?;
        if now.map(|now| now.id) != before {
            return Ok(None);
        }
        store::delete_of(tx, &place.gateway, &place.name, None).await?;
        if before.is_none() && store::count_on(tx, &place.gateway).await? >= SBOMS_MAX {
            let why = format!("there may be at most {SBOMS_MAX} SBOMs of a gateway's sandboxes");
            return Err(Error::refused(Reason::LimitReached, why));
        }
        let id = store::insert(tx, &new(ctx, place, taken, &actor)).await?;
        store::insert_content(tx, id, &taken.rows).await?;
        let stored = store::snapshot(tx, place).await?;
        let stored = stored.ok_or_else(|| Error::internal("an SBOM that was just stored"))?;
        let payload = json!({
            "gateway": place.gateway,
            "workspace": place.name.workspace,
            "sandbox": place.name.name,
            "components": stored.component_count,
            "vulnerabilities": stored.vulnerability_count,
            "max_severity": stored.max_severity.map(Severity::as_str),
            "vulnerabilities_added": difference.vulnerabilities.added,
            "vulnerabilities_removed": difference.vulnerabilities.removed,
            "sha256": stored.sha256,
        });
        tx.emit(ctx.event(event_types::SBOM_UPLOADED, payload)).await?;
        Ok(Some(stored))
    })
    .await
}

fn new<'a>(ctx: &Ctx, place: &'a Place, taken: &'a Taken, actor: &'a str) -> NewSnapshot<'a> {
    NewSnapshot {
        gateway_name: &place.gateway,
        workspace: &place.name.workspace,
        sandbox_name: &place.name.name,
        bom_format: BOM_FORMAT,
        spec_version: &taken.spec_version,
        serial_number: taken.serial_number.clone(),
        uploaded_by: actor,
        uploaded_at: ctx.now(),
        component_count: signed(taken.rows.components.len()),
        vulnerability_count: signed(taken.rows.vulnerabilities.len()),
        max_severity: taken.max_severity,
        sha256: &taken.sha256,
        size_bytes: signed(taken.bytes.len()),
        raw_json: &taken.bytes,
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Returns the SBOM of a sandbox without its content.
pub async fn get(ctx: &Ctx, place: &Place) -> Result<Snapshot, Error> {
    snapshot(&mut ctx.db().read().await?, place).await
}

/// Deletes the SBOM of a sandbox.
pub async fn delete(ctx: &Ctx, place: &Place, given_etag: &str) -> Result<(), Error> {
    ctx.detail("workspace", place.name.workspace.as_str());
    ctx.transaction(async |tx| {
        store::lock(tx, place).await?;
        let found = snapshot(tx, place).await?;
        etag::check(given_etag, found.id, Kind::Sbom, place)?;
        store::delete_of(tx, &place.gateway, &place.name, None).await?;
        let payload = json!({
            "gateway": place.gateway,
            "workspace": place.name.workspace,
            "sandbox": place.name.name,
        });
        tx.emit(ctx.event(event_types::SBOM_DELETED, payload)).await
    })
    .await?;
    Ok(())
}

/// Counts the SBOMs that are deleted with a gateway.
pub async fn count_on(conn: &mut Conn, gateway: &str) -> Result<i64, Error> {
    store::count_on(conn, gateway).await
}

/// Deletes the SBOMs of a gateway, a few per statement: each may have a hundred thousand rows, and statements have a
/// timeout.
pub async fn delete_on(conn: &mut Conn, gateway: &str) -> Result<(), Error> {
    while store::delete_on(conn, gateway, AT_ONCE).await? > 0 {}
    Ok(())
}

/// A document that is being downloaded.
#[derive(Debug)]
pub struct Outgoing {
    place: Place,
    snapshot: i64,
    next: i32,
    size: i64,
}

impl Outgoing {
    /// Starts with the current SBOM.
    pub async fn begin(ctx: &Ctx, place: Place) -> Result<Self, Error> {
        let Snapshot { id, size_bytes, .. } = get(ctx, &place).await?;
        Ok(Self { place, snapshot: id, next: 0, size: size_bytes })
    }

    /// Returns the next piece. `None` at the end.
    ///
    /// # Errors
    /// `Conflict` if the SBOM was replaced: pieces of two documents must not be mixed.
    pub async fn piece(&mut self, ctx: &Ctx) -> Result<Option<Vec<u8>>, Error> {
        if i64::from(self.next) >= self.size {
            return Ok(None);
        }
        let of = SnapshotOf { place: &self.place, id: self.snapshot };
        let mut conn = ctx.db().read().await?;
        let piece = store::piece(&mut conn, of, self.next + 1, PIECE_BYTES).await?;
        self.next += PIECE_BYTES;
        piece.map(Some).ok_or_else(|| Error::conflict(Kind::Sbom, &self.place))
    }
}

/// Position of a page token.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Position {
    /// The two uploads that are compared. The differences between them never change.
    snapshots: (i64, i64),
    /// Number of differences on the earlier pages.
    shown: usize,
}

/// Returns a page of the differences of `other` from `place`, with the total counts and the token of the next page.
pub async fn diff(
    ctx: &Ctx,
    place: &Place,
    other: &Place,
    size: PageSize,
    token: &str,
) -> Result<(Difference, String), Error> {
    let filter = format!("{place} {other}");
    let list =
        List { method: "DiffSboms", filter: filter.as_bytes(), order: "kind, severity, name" };
    let page = ctx.page::<Position>(list, size, token)?;
    let missing = |place: &Place| Error::missing(Kind::Sbom, place);
    let _turn = ctx.app().part::<Intake>().turn_to_compare().await?;
    let before = content(ctx, place).await?.ok_or_else(|| missing(place))?;
    let after = content(ctx, other).await?.ok_or_else(|| missing(other))?;
    let snapshots = (before.0, after.0);
    let position = page.after().copied();
    if position.is_some_and(|position| position.snapshots != snapshots) {
        let gone = |now: i64, then: i64, place| (now != then).then_some(place);
        let then = position.map_or(snapshots, |position| position.snapshots);
        let changed = gone(snapshots.0, then.0, place).unwrap_or(other);
        return Err(Error::conflict(Kind::Sbom, changed));
    }
    let shown = position.map_or(0, |position| position.shown);
    let work = move || diff::between(&before.1, &after.1);
    let mut found = ctx.app().part::<Intake>().work(work).await?;
    let limit = usize::try_from(page.limit()).unwrap_or(usize::MAX);
    let rest = found.changes.into_iter().skip(shown).take(limit).collect();
    let (changes, more) = fit(size, rest, diff::Change::bytes);
    let position = Position { snapshots, shown: shown + changes.len() };
    let (changes, next) = page.end((changes, more), |_| position)?;
    found.changes = changes;
    Ok((found, next))
}
