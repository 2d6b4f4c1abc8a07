//! Uploads, downloads, compares and deletes SBOMs.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::cyclonedx::{BOM_FORMAT, SBOM_BYTES_MAX, Severity};
use super::diff::{self, Difference, SbomContent};
use super::ingest::ParsedDocument;
use super::lists::{cut_to_page, is_current, snapshot};
use super::place::SandboxPlace;
use super::recompute::{self, RULES};
use super::rows::{NewSnapshot, Snapshot};
use super::store::{self, SnapshotRef};
use crate::ctx::{Ctx, ListKey};
use crate::db::Conn;
use crate::db::page::PageSize;
use crate::error::{Error, Reason, ResourceKind};
use crate::etag;
use crate::outbox::event_types;
use crate::resources::sboms::intake::SbomLimits;
use crate::seal::is_sha256_hex;

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

/// A document that is being uploaded.
#[derive(Debug, Default)]
pub struct IncomingDocument(Vec<u8>);

impl IncomingDocument {
    /// Returns the number of bytes received so far.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// Appends a chunk.
    pub fn append(&mut self, chunk: &[u8]) -> Result<(), Error> {
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
pub fn check_only(others: &[(&str, bool)], what: &str) -> Result<(), Error> {
    match others.iter().find(|(_, empty)| !empty) {
        None => Ok(()),
        Some((field, _)) => Err(Error::invalid(*field, format!("must be empty in {what}"))),
    }
}

/// Parses the SHA-256 of a request. `None` if it is empty.
pub fn parse_sha256(text: &str) -> Result<Option<String>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    if !is_sha256_hex(text) {
        return Err(Error::invalid("sha256", "must be 64 hexadecimal digits"));
    }
    Ok(Some(text.to_lowercase()))
}

/// Result of an upload.
#[derive(Debug)]
pub struct UploadResult {
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
    place: &SandboxPlace,
    incoming: IncomingDocument,
    sha256: Option<String>,
) -> Result<UploadResult, Error> {
    let intake = &ctx.app().part::<SbomLimits>();
    let parsed =
        intake.run_blocking(move || ParsedDocument::parse(incoming.0, sha256.as_deref())).await??;
    let parsed = Arc::new(parsed);
    ctx.add_audit_detail("workspace", place.name.workspace.as_str());
    ctx.add_audit_detail("components", parsed.rows.components.len());
    ctx.add_audit_detail("vulnerabilities", parsed.rows.vulnerabilities.len());
    ctx.add_audit_detail("max_severity", parsed.max_severity.map(Severity::as_str));
    ctx.add_audit_detail("sha256", parsed.sha256.as_str());
    for _ in 0..TRIES_MAX {
        let before = content(ctx, place).await?;
        let compared = Arc::clone(&parsed);
        let (before, difference) = intake
            .run_blocking(move || {
                let (before, content) = before.unzip();
                let content = content.unwrap_or_default();
                (before, diff::compare(&content, &compared.content))
            })
            .await?;
        if let Some(snapshot) = replace(ctx, place, &parsed, before, &difference).await? {
            let (skipped, cut) = (parsed.skipped, parsed.cut);
            let cut_paths = parsed.cut_paths.clone();
            let replaced = before.is_some();
            return Ok(UploadResult { snapshot, replaced, difference, skipped, cut, cut_paths });
        }
    }
    Err(Error::conflict(ResourceKind::Sbom, place))
}

/// Returns id and content of the SBOM of a sandbox for a comparison. `None` if it has no SBOM.
async fn content(ctx: &Ctx, place: &SandboxPlace) -> Result<Option<(i64, SbomContent)>, Error> {
    for _ in 0..TRIES_MAX {
        let Some(Snapshot { id, .. }) = recompute::current_snapshot(ctx, place).await? else {
            return Ok(None);
        };
        let mut conn = ctx.db().read().await?;
        let of = SnapshotRef { place, id };
        let parts = store::component_identities(&mut conn, of).await?;
        let rated = store::severities(&mut conn, of).await?;
        if is_current(&mut conn, place, id).await? {
            return Ok(Some((id, SbomContent { components: parts, severities: rated })));
        }
    }
    Err(Error::conflict(ResourceKind::Sbom, place))
}

/// Replaces the SBOM with id `before`. Returns `None` if that is no longer the current one.
async fn replace(
    ctx: &Ctx,
    place: &SandboxPlace,
    parsed: &ParsedDocument,
    before: Option<i64>,
    difference: &Difference,
) -> Result<Option<Snapshot>, Error> {
    let actor = ctx.stored_actor();
    ctx.long_transaction(async |tx| {
        store::lock(tx, place).await?;
        let now = store::snapshot(tx, place).await?;
        if now.map(|now| now.id) != before {
            return Ok(None);
        }
        store::delete_of_sandbox(tx, &place.gateway, &place.name, None).await?;
        if before.is_none() && store::count_on_gateway(tx, &place.gateway).await? >= SBOMS_MAX {
            let why = format!("there may be at most {SBOMS_MAX} SBOMs of a gateway's sandboxes");
            return Err(Error::refused(Reason::LimitReached, why));
        }
        let id = store::insert(tx, &new_snapshot(ctx, place, parsed, &actor)).await?;
        store::insert_content(tx, id, &parsed.rows).await?;
        store::set_rules(tx, id, RULES).await?;
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
        tx.emit(ctx.new_event(event_types::SBOM_UPLOADED, payload)).await?;
        Ok(Some(stored))
    })
    .await
}

fn new_snapshot<'a>(
    ctx: &Ctx,
    place: &'a SandboxPlace,
    parsed: &'a ParsedDocument,
    actor: &'a str,
) -> NewSnapshot<'a> {
    NewSnapshot {
        gateway_name: &place.gateway,
        workspace: &place.name.workspace,
        sandbox_name: &place.name.name,
        bom_format: BOM_FORMAT,
        spec_version: &parsed.spec_version,
        serial_number: parsed.serial_number.clone(),
        uploaded_by: actor,
        uploaded_at: ctx.now(),
        component_count: to_i64(parsed.rows.components.len()),
        vulnerability_count: to_i64(parsed.rows.vulnerabilities.len()),
        max_severity: parsed.max_severity,
        sha256: &parsed.sha256,
        size_bytes: to_i64(parsed.bytes.len()),
        raw_json: &parsed.bytes,
    }
}

fn to_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Returns the SBOM of a sandbox without its content.
pub async fn get(ctx: &Ctx, place: &SandboxPlace) -> Result<Snapshot, Error> {
    let found = recompute::current_snapshot(ctx, place).await?;
    found.ok_or_else(|| Error::not_found(ResourceKind::Sbom, place))
}

/// Deletes the SBOM of a sandbox.
pub async fn delete(ctx: &Ctx, place: &SandboxPlace, given_etag: &str) -> Result<(), Error> {
    ctx.add_audit_detail("workspace", place.name.workspace.as_str());
    ctx.transaction(async |tx| {
        store::lock(tx, place).await?;
        let found = snapshot(tx, place).await?;
        etag::check(given_etag, found.id, ResourceKind::Sbom, place)?;
        store::delete_of_sandbox(tx, &place.gateway, &place.name, None).await?;
        let payload = json!({
            "gateway": place.gateway,
            "workspace": place.name.workspace,
            "sandbox": place.name.name,
        });
        tx.emit(ctx.new_event(event_types::SBOM_DELETED, payload)).await
    })
    .await?;
    Ok(())
}

/// Counts the SBOMs that are deleted with a gateway.
pub async fn count_on_gateway(conn: &mut Conn, gateway: &str) -> Result<i64, Error> {
    store::count_on_gateway(conn, gateway).await
}

/// Deletes the SBOMs of a gateway, a few per statement: each may have a hundred thousand rows, and statements have a
/// timeout.
pub async fn delete_on_gateway(conn: &mut Conn, gateway: &str) -> Result<(), Error> {
    while store::delete_on_gateway(conn, gateway, AT_ONCE).await? > 0 {}
    Ok(())
}

/// A document that is being downloaded.
#[derive(Debug)]
pub struct Download {
    place: SandboxPlace,
    snapshot: i64,
    next: i32,
    size: i64,
}

impl Download {
    /// Starts with the current SBOM.
    pub async fn begin(ctx: &Ctx, place: SandboxPlace) -> Result<Self, Error> {
        let Snapshot { id, size_bytes, .. } = get(ctx, &place).await?;
        Ok(Self { place, snapshot: id, next: 0, size: size_bytes })
    }

    /// Returns the next piece. `None` at the end.
    ///
    /// # Errors
    /// `Conflict` if the SBOM was replaced: pieces of two documents must not be mixed.
    pub async fn next_piece(&mut self, ctx: &Ctx) -> Result<Option<Vec<u8>>, Error> {
        if i64::from(self.next) >= self.size {
            return Ok(None);
        }
        let of = SnapshotRef { place: &self.place, id: self.snapshot };
        let mut conn = ctx.db().read().await?;
        let piece = store::read_piece(&mut conn, of, self.next + 1, PIECE_BYTES).await?;
        self.next += PIECE_BYTES;
        piece.map(Some).ok_or_else(|| Error::conflict(ResourceKind::Sbom, &self.place))
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
    place: &SandboxPlace,
    other: &SandboxPlace,
    size: PageSize,
    token: &str,
) -> Result<(Difference, String), Error> {
    let filter = format!("{place} {other}");
    let list =
        ListKey { method: "DiffSboms", filter: filter.as_bytes(), order: "kind, severity, name" };
    let page = ctx.page_request::<Position>(list, size, token)?;
    let missing = |place: &SandboxPlace| Error::not_found(ResourceKind::Sbom, place);
    let _turn = ctx.app().part::<SbomLimits>().acquire_compare().await?;
    let before = content(ctx, place).await?.ok_or_else(|| missing(place))?;
    let after = content(ctx, other).await?.ok_or_else(|| missing(other))?;
    let snapshots = (before.0, after.0);
    let position = page.after().copied();
    if position.is_some_and(|position| position.snapshots != snapshots) {
        let gone = |now: i64, then: i64, place| (now != then).then_some(place);
        let then = position.map_or(snapshots, |position| position.snapshots);
        let changed = gone(snapshots.0, then.0, place).unwrap_or(other);
        return Err(Error::conflict(ResourceKind::Sbom, changed));
    }
    let shown = position.map_or(0, |position| position.shown);
    let work = move || diff::compare(&before.1, &after.1);
    let mut found = ctx.app().part::<SbomLimits>().run_blocking(work).await?;
    let limit = usize::try_from(page.limit()).unwrap_or(usize::MAX);
    let rest = found.changes.into_iter().skip(shown).take(limit).collect();
    let (changes, more) = cut_to_page(size, rest, diff::SbomChange::bytes);
    let position = Position { snapshots, shown: shown + changes.len() };
    let (changes, next) = page.finish_truncated((changes, more), |_| position)?;
    found.changes = changes;
    Ok((found, next))
}
