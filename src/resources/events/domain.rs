//! Reading events.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::store::{self, EventQuery, RoleVisibility, SequenceRange, VisibleEvents};
use crate::ctx::{Ctx, FleetCtx, ListKey};
use crate::db::page::PageSize;
use crate::db::types::GatewayId;
use crate::db::{Conn, Db};
use crate::error::Error;
use crate::outbox::event_types::{self, EventType};
use crate::role::Role;

pub use super::store::Event;

/// Maximum number of names in a filter.
pub const NAMES_MAX: usize = 50;
/// Maximum length of a name in a filter, in characters.
pub const NAME_CHARS_MAX: usize = 100;
/// Maximum number of events that one query scans, including events that the caller cannot see: a long range of those
/// must not block a call.
pub const SCAN_MAX: i64 = 10_000;
/// Events that a stream reads per query.
const WATCH_BATCH: i32 = 200;
/// Interval of cursor-only messages of a stream while all new events are invisible to its reader.
const CURSOR_EVERY: Duration = Duration::from_secs(2);

/// Filter of a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    gateway: Option<String>,
    names: Vec<String>,
}

impl Filter {
    /// Parses the request's `gateway` and `names`; an empty one matches all.
    pub fn parse(gateway: String, names: Vec<String>) -> Result<Self, Error> {
        if names.len() > NAMES_MAX {
            let why = format!("must be at most {NAMES_MAX}, got {}", names.len());
            return Err(Error::invalid("names", why));
        }
        let fits = |name: &String| (1..=NAME_CHARS_MAX).contains(&name.chars().count());
        if !names.iter().all(fits) {
            let why = format!("must each have 1 to {NAME_CHARS_MAX} characters");
            return Err(Error::invalid("names", why));
        }
        Ok(Self { gateway: (!gateway.is_empty()).then_some(gateway), names })
    }
}

/// Where a reader starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPosition {
    /// At the oldest stored event.
    Oldest,
    /// After this sequence.
    After(i64),
    /// At the next new event.
    Now,
}

impl StartPosition {
    /// Parses a request's `after_sequence`; -1 means [`StartPosition::Now`] and is accepted only if `now` is set.
    pub fn parse(after: i64, now: bool) -> Result<Self, Error> {
        match after {
            0 => Ok(Self::Oldest),
            1.. => Ok(Self::After(after)),
            -1 if now => Ok(Self::Now),
            _ => {
                Err(Error::invalid("after_sequence", format!("must not be negative, got {after}")))
            }
        }
    }
}

/// A page of events and the cursor for the next one.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// Events, oldest first.
    pub events: Vec<Event>,
    /// Cursor: all events up to here are in the page or are not for this reader.
    pub next_after: i64,
    /// Whether more events are available now.
    pub more: bool,
}

/// Events that a reader can see now.
pub(super) struct Visibility {
    pub(super) visible: VisibleEvents,
    pub(super) gateway: Option<GatewayId>,
}

fn visibility(ctx: &FleetCtx, filter: &Filter) -> Result<Visibility, Error> {
    let gateway = filter.gateway.as_deref().map(|name| ctx.require_gateway(name)).transpose()?;
    let shown = if ctx.is_global_admin() {
        VisibleEvents::All
    } else {
        let of = |role| RoleVisibility {
            names: event_types::names_for(role),
            gateways: ctx.gateways_with_role(role),
        };
        VisibleEvents::OfRoles([Role::Viewer, Role::Operator, Role::Admin].map(of))
    };
    Ok(Visibility { visible: shown, gateway: gateway.map(|gateway| gateway.id) })
}

/// Returns the events after a cursor that the caller can see.
///
/// # Errors
/// `OutOfRange` if the cursor is older than the stored events.
pub async fn list(
    ctx: &FleetCtx,
    filter: &Filter,
    from: StartPosition,
    size: PageSize,
) -> Result<Page, Error> {
    let visibility = visibility(ctx, filter)?;
    read(ctx.db(), &visibility, &filter.names, from, size).await
}

/// Reads one page. Scans at most [`SCAN_MAX`] events.
pub(super) async fn read(
    db: &Db,
    visibility: &Visibility,
    names: &[String],
    from: StartPosition,
    size: PageSize,
) -> Result<Page, Error> {
    let wanted = EventQuery { visible: &visibility.visible, gateway: visibility.gateway, names };
    let mut conn = db.read().await?;
    let range = store::sequence_range(&mut conn).await?;
    let mut after = start_sequence(from, range)?;
    loop {
        let until = after.saturating_add(SCAN_MAX).min(range.head);
        let rows = store::list_between(&mut conn, &wanted, after, until, size.limit()).await?;
        // Read after the rows, to detect events that retention deleted before they were read.
        let oldest = store::sequence_range(&mut conn).await?.oldest;
        if after + 1 >= oldest {
            return Ok(page(size, rows, until, range.head));
        }
        if from != StartPosition::Oldest {
            return Err(cursor_expired(oldest));
        }
        after = oldest - 1;
    }
}

/// Returns the last assigned sequence number.
pub async fn head(conn: &mut Conn) -> Result<i64, Error> {
    Ok(store::sequence_range(conn).await?.head)
}

/// Returns the id of the newest event, even if it has no sequence number yet; 0 without events.
pub async fn newest_id(conn: &mut Conn) -> Result<i64, Error> {
    store::newest_id(conn).await
}

/// Returns all events with a sequence after `after` and up to `until`, at most `limit`, oldest first: for jobs, which
/// see every event.
pub async fn all_between(
    conn: &mut Conn,
    after: i64,
    until: i64,
    limit: i64,
) -> Result<Vec<Event>, Error> {
    let visible = VisibleEvents::All;
    let wanted = EventQuery { visible: &visible, gateway: None, names: &[] };
    store::list_between(conn, &wanted, after, until, limit).await
}

/// A type of events, and its description.
pub type DescribedType = (EventType, &'static str);

/// Returns a page of the types of events, by name, with their descriptions.
pub fn list_types(
    ctx: &Ctx,
    size: PageSize,
    token: &str,
) -> Result<(Vec<DescribedType>, String), Error> {
    let list = ListKey { method: "ListEventTypes", filter: b"", order: "name" };
    let page = ctx.page_request::<String>(list, size, token)?;
    let mut types: Vec<_> = event_types::ALL.to_vec();
    types.sort_unstable_by_key(|(event_type, _)| event_type.name());
    let after = page.after().map_or("", String::as_str);
    let rest = types.into_iter().filter(|(event_type, _)| event_type.name() > after);
    let rows: Vec<_> = rest.take(size.get() + 1).collect();
    page.finish(rows, |(last, _)| last.name().to_owned())
}

fn start_sequence(from: StartPosition, range: SequenceRange) -> Result<i64, Error> {
    match from {
        StartPosition::Oldest => Ok(range.oldest - 1),
        StartPosition::Now => Ok(range.head),
        StartPosition::After(after) if after > range.head => {
            let why = format!("must not be beyond the last event, {}, got {after}", range.head);
            Err(Error::invalid("after_sequence", why))
        }
        StartPosition::After(after) if after + 1 < range.oldest => {
            Err(cursor_expired(range.oldest))
        }
        StartPosition::After(after) => Ok(after),
    }
}

fn cursor_expired(oldest: i64) -> Error {
    Error::OutOfRange { why: format!("events before sequence {oldest} are no longer kept") }
}

fn page(size: PageSize, rows: Vec<Event>, until: i64, head: i64) -> Page {
    let (events, cut) = size.truncate(rows);
    let next_after = match events.last() {
        Some(last) if cut => last.sequence,
        Some(_) | None => until,
    };
    Page { events, next_after, more: next_after < head }
}

/// Reads events for a stream.
pub struct Follower {
    filter: Filter,
    from: StartPosition,
    head: watch::Receiver<i64>,
    reported: i64,
    reported_at: Instant,
}

impl Follower {
    /// Starts after a cursor.
    ///
    /// # Errors
    /// `OutOfRange` if the cursor is older than the stored events.
    pub async fn start(ctx: &FleetCtx, filter: Filter, from: StartPosition) -> Result<Self, Error> {
        visibility(ctx, &filter)?;
        let moved = ctx.app().feed.subscribe();
        let mut conn = ctx.db().read().await?;
        let after = start_sequence(from, store::sequence_range(&mut conn).await?)?;
        // `StartPosition::Oldest` is not resolved until the first read, since retention may delete events in between.
        let from = if from == StartPosition::Oldest { from } else { StartPosition::After(after) };
        Ok(Self { filter, from, head: moved, reported: after, reported_at: Instant::now() })
    }

    /// Returns the cursor that it continues from; 0 means the oldest event.
    #[must_use]
    pub fn cursor(&self) -> i64 {
        match self.from {
            StartPosition::After(at) => at,
            StartPosition::Oldest | StartPosition::Now => 0,
        }
    }

    /// Waits for the next events that the caller can see at that time. A page without events only advances the cursor,
    /// and is returned at most every `CURSOR_EVERY`.
    pub async fn next(&mut self, ctx: &FleetCtx) -> Result<Page, Error> {
        let size = PageSize::parse(WATCH_BATCH)?;
        loop {
            self.head.borrow_and_update();
            // In a box: a stream that waits for events does not hold the state of a read.
            let page = Box::pin(list(ctx, &self.filter, self.from, size)).await?;
            self.from = StartPosition::After(page.next_after);
            let report_at = self.reported_at + CURSOR_EVERY;
            let silent = page.next_after > self.reported;
            if !page.events.is_empty() || (silent && Instant::now() >= report_at) {
                self.reported = page.next_after;
                self.reported_at = Instant::now();
                return Ok(page);
            }
            if page.more {
                continue;
            }
            tokio::select! {
                // Cannot fail: the sender lives as long as the process.
                _ = self.head.changed() => {}
                () = tokio::time::sleep_until(report_at), if silent => {}
            }
        }
    }
}
