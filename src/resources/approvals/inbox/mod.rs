//! Rounds as callers see them: the inbox of the fleet, the history of a sandbox, one round with everything that its
//! voters need.
//!
//! Invariants
//! - what is shown is what decides: all numbers are those of [`tally`](crate::governance::tally);
//! - a round whose time is over is shown as expired, even before a worker ran;
//! - text of a gateway or an agent is in fields of its own, and never part of a sentence (T20).

pub mod blockers;
pub mod connections;
pub mod detail;
pub(super) mod messages;
pub mod store;
pub mod view;
pub mod waiting;
pub mod watch;

use serde::{Deserialize, Serialize};

use self::store::{InboxPosition, InboxQuery};
use self::view::Item;
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, FleetCtx, ListKey};
use crate::db::page::PageSize;
use crate::db::types::{ApprovalRoundId, SandboxRef};
use crate::error::Error;
use crate::governance::Action;
use crate::resources::approvals::rounds::{Round, RoundState, store as rounds};
use crate::seal::join_parts;

/// Maximum number of rounds that a page of those that await the caller scans.
pub const SCAN_MAX: i64 = 2_000;

/// Which rounds are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InboxFilter {
    /// Name of the gateway.
    pub gateway: Option<String>,
    /// Workspace.
    pub workspace: Option<String>,
    /// Name of the sandbox.
    pub sandbox: Option<String>,
    /// Action.
    pub action: Option<Action>,
    /// State.
    pub state: Option<RoundState>,
    /// Name of an author.
    pub author: Option<String>,
    /// Name of the owner.
    pub owner: Option<String>,
    /// Only those whose escalation time has passed.
    pub is_overdue: bool,
    /// Only those for which an approving vote of the caller would count.
    pub awaits_caller: bool,
}

/// Position of a page token.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Position {
    at_us: i64,
    id: i64,
}

impl Position {
    fn to_inbox(self) -> InboxPosition {
        (Timestamp::from_unix_micros(self.at_us), ApprovalRoundId(self.id))
    }

    fn by_expiry(round: &Round) -> Self {
        let at_us = round.expires_at.unwrap_or(rounds::NEVER).unix_micros();
        Self { at_us, id: round.id.get() }
    }

    fn by_opening(round: &Round) -> Self {
        Self { at_us: round.opened_at.unix_micros(), id: round.id.get() }
    }
}

impl InboxFilter {
    /// Returns all parts, to which page tokens are bound.
    fn key(&self) -> Vec<u8> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let flags = [u8::from(self.is_overdue), u8::from(self.awaits_caller)];
        join_parts(&[
            text(&self.gateway).as_bytes(),
            text(&self.workspace).as_bytes(),
            text(&self.sandbox).as_bytes(),
            self.action.map_or("", Action::as_str).as_bytes(),
            self.state.map_or("", RoundState::as_str).as_bytes(),
            text(&self.author).as_bytes(),
            text(&self.owner).as_bytes(),
            &flags,
        ])
    }
}

/// Returns the id of the principal with a name: an e-mail address, or `sp:` and a name. `None` if no principal has it.
fn principal_named(ctx: &Ctx, name: &str) -> Option<PrincipalId> {
    let snapshot = &ctx.app().snapshot;
    match name.strip_prefix("sp:") {
        Some(name) => snapshot.service_principal_by_name(name).map(PrincipalId::ServicePrincipal),
        None => snapshot.user_by_email(name).map(PrincipalId::User),
    }
}

/// A page of rounds.
#[derive(Debug)]
pub struct InboxPage {
    /// The rounds, in order.
    pub items: Vec<Item>,
    /// The position of the last round that was read, if more follow.
    next: Option<Position>,
}

async fn read_page(
    ctx: &FleetCtx,
    filter: &InboxFilter,
    after: Option<Position>,
    size: PageSize,
) -> Result<InboxPage, Error> {
    let none = InboxPage { items: Vec::new(), next: None };
    let gateway = filter.gateway.as_deref().map(|name| ctx.require_gateway(name)).transpose()?;
    let find = |name: &Option<String>| match name {
        None => Ok(None),
        Some(name) => principal_named(ctx, name).map(|id| Some(id.to_string())).ok_or(()),
    };
    // Without such a principal, the list is empty.
    let (Ok(author), Ok(owner)) = (find(&filter.author), find(&filter.owner)) else {
        return Ok(none);
    };
    let visible = ctx.visible_gateways();
    let mut conn = ctx.db().read().await?;
    let now = ctx.db().now(&mut conn).await?;
    let wanted = InboxQuery {
        visible: &visible,
        gateway: gateway.map(|gateway| gateway.id),
        workspace: filter.workspace.as_deref(),
        sandbox: filter.sandbox.as_deref(),
        action: filter.action,
        state: filter.state,
        author: author.as_deref(),
        owner: owner.as_deref(),
        is_overdue: filter.is_overdue,
        now,
    };
    let limit = if filter.awaits_caller { SCAN_MAX + 1 } else { size.limit() };
    let after = after.map(Position::to_inbox);
    let mut rounds = store::page(&mut conn, &wanted, after, limit).await?;
    let mut more = i64::try_from(rounds.len()).is_ok_and(|count| count >= limit);
    rounds.truncate(usize::try_from(limit - 1).unwrap_or(usize::MAX));
    let scanned = rounds.last().map(Position::by_expiry);
    let mut items = view::items(&mut conn, ctx.app(), ctx.principal(), rounds, now).await?;
    let mut last = scanned;
    if filter.awaits_caller {
        items.retain(|item| item.awaits_caller);
        if items.len() > size.get() {
            items.truncate(size.get());
            last = items.last().map(|item| Position::by_expiry(&item.round));
            more = true;
        }
    }
    Ok(InboxPage { items, next: last.filter(|_| more) })
}

/// Returns a page of the rounds that have not ended, on the gateways that the caller can see, nearest end of voting
/// first.
///
/// # Errors
/// `NOT_FOUND` if the caller does not see the gateway of the filter.
pub async fn list(
    ctx: &FleetCtx,
    filter: &InboxFilter,
    size: PageSize,
    token: &str,
) -> Result<(Vec<Item>, String), Error> {
    let key = filter.key();
    let list = ListKey { method: "ListApprovals", filter: &key, order: "expires_at, id" };
    let page = ctx.page_request::<Position>(list, size, token)?;
    let found = read_page(ctx, filter, page.after().copied(), size).await?;
    let next = found.next.map(|position| page.next_token(position)).transpose()?;
    Ok((found.items, next.unwrap_or_default()))
}

/// Returns a page of all rounds of a sandbox, newest first.
///
/// # Errors
/// Those of the database.
pub async fn history(
    ctx: &Ctx,
    place: &SandboxRef,
    size: PageSize,
    token: &str,
) -> Result<(Vec<Item>, String), Error> {
    let gateway = place.gateway.id.get().to_be_bytes();
    let key = join_parts(&[&gateway, place.workspace().as_bytes(), place.sandbox().as_bytes()]);
    let list = ListKey { method: "GetApprovalHistory", filter: &key, order: "opened_at desc" };
    let page = ctx.page_request::<Position>(list, size, token)?;
    let mut conn = ctx.db().read().await?;
    let now = ctx.db().now(&mut conn).await?;
    let before = page.after().copied().map(Position::to_inbox);
    let rounds = store::history(&mut conn, place, before, page.limit()).await?;
    let (rounds, next) = page.finish(rounds, Position::by_opening)?;
    let items = view::items(&mut conn, ctx.app(), ctx.principal(), rounds, now).await?;
    Ok((items, next))
}
