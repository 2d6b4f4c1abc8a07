//! Pages of the sandboxes of many gateways.
//!
//! Gateways are called in the order of their names, several at once, and only as many as a page needs. A page ends when
//! it is full or its time is up. Its token names the last finished gateway, or the gateway in progress and its last
//! returned sandbox.
//!
//! Invariants
//! - every gateway has its own timeout and a limit on the bytes that are read (T20): a gateway that is slow, silent or
//!   sends too much is reported, and does not affect the others;
//! - a gateway that a page reports as unreachable is not called again for the next page, except for the rest of the
//!   sandboxes that it returned;
//! - a gateway that did not answer its last probe is called, since it may be back, and is given little time;
//! - the caller's right to see a gateway is checked right before the gateway is called.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until, timeout};

use super::domain::SandboxWithMeta;
use super::lists::{SandboxPage, SandboxQuery, UnreachableGateway, select_for_page};
use crate::ctx::{FleetCtx, GatewayRef, ListKey};
use crate::db::page::PageSize;
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::labels::Selector;
use crate::openshell::Gateway;
use crate::openshell::sandbox::Sandbox;
use crate::seal::join_parts;
use crate::upstream::{probe, store as gateway_store};

/// Most concurrent gateway calls of one request.
const AT_ONCE: usize = 32;
/// Concurrent gateway calls at first, since the first gateway may fill the page. The number doubles with each response.
const AT_ONCE_FIRST: usize = 4;
/// Most bytes that are read from one gateway: about 10,000 sandboxes.
const GATEWAY_BYTES_MAX: usize = 8 << 20;
/// Time limit of a page. If many gateways do not respond, the rest is left for the next page, before the caller times
/// out.
const PAGE_TIME: Duration = Duration::from_secs(15);

/// Timeout of a gateway that did not answer its last probe.
const AWAY_TIMEOUT: Duration = Duration::from_millis(500);

/// Position of a page token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    /// Gateways before this one are done.
    gateway: String,
    /// Workspace and name of the last sandbox that was returned of this gateway. `None` if this gateway is done too.
    place: Option<(String, String)>,
}

/// Response of one gateway.
#[derive(Debug)]
struct GatewayResponse {
    gateway: Arc<str>,
    /// At most one sandbox more than fits on a page.
    sandboxes: Vec<SandboxWithMeta>,
    /// Why the list is incomplete.
    missing: Option<String>,
}

/// Returns a page of the sandboxes of every gateway that the caller may see and the selector matches.
pub(super) async fn page(
    ctx: &FleetCtx,
    gateways: &Selector,
    query: &SandboxQuery,
    size: PageSize,
    token: &str,
) -> Result<SandboxPage, Error> {
    let (which, selector) = (gateways.to_string(), query.selector.to_string());
    let workspace = query.workspace.as_deref().unwrap_or_default();
    let filter = join_parts(&[which.as_bytes(), workspace.as_bytes(), selector.as_bytes()]);
    let list =
        ListKey { method: "ListSandboxes", filter: &filter, order: "gateway, workspace, name" };
    let page = ctx.page_request::<Position>(list, size, token)?;
    let after = page.after();
    let (mut found, next) = fill_page(ctx, gateways, query, size, after).await?;
    if let Some(next) = next {
        found.next = page.next_token(next)?;
    }
    Ok(found)
}

/// Calls gateways until the page is full. Returns the position of the next page, if there is one.
async fn fill_page(
    ctx: &FleetCtx,
    gateways: &Selector,
    query: &SandboxQuery,
    size: PageSize,
    after: Option<&Position>,
) -> Result<(SandboxPage, Option<Position>), Error> {
    let away = gateway_store::ids_unreachable(&mut ctx.db().read().await?).await?;
    let mut ahead = ctx.matching_gateways(gateways, first_gateway(after)).into_iter();
    let mut builder = PageBuilder { page: SandboxPage::default(), size, done: None };
    let mut asking = FuturesOrdered::new();
    let (mut at_once, until) = (AT_ONCE_FIRST, Instant::now() + PAGE_TIME);
    loop {
        while asking.len() < at_once {
            let Some(on) = ahead.next() else { break };
            if ctx.require_gateway(&on.name).is_err() {
                // The caller lost its role while other gateways were called.
                continue;
            }
            let shown =
                after.filter(|after| *after.gateway == *on.name).and_then(|a| a.place.clone());
            let within = ctx.app().config.sandboxes.list_timeout();
            let within = if away.contains(&on.id) { within.min(AWAY_TIMEOUT) } else { within };
            asking.push_back(list_gateway(ctx, on, query, shown, size, within));
        }
        let response = tokio::select! {
            biased;
            response = asking.next() => response,
            // The time limit applies once one gateway is done. The first gateway has its own timeout, so every page
            // makes progress.
            () = sleep_until(until), if builder.done.is_some() => {
                let done = builder.done.take();
                return Ok((builder.page, done.map(|gateway| Position { gateway, place: None })));
            }
        };
        let Some(response) = response else { return Ok((builder.page, None)) };
        if let Some(next) = builder.add(response?) {
            return Ok((builder.page, Some(next)));
        }
        at_once = (at_once * 2).min(AT_ONCE);
    }
}

/// Returns the first gateway name of a page that continues at `position`.
fn first_gateway(position: Option<&Position>) -> Bound<&str> {
    match position {
        None => Bound::Unbounded,
        Some(Position { gateway, place: None }) => Bound::Excluded(gateway),
        Some(Position { gateway, place: Some(_) }) => Bound::Included(gateway),
    }
}

/// Lists the sandboxes of one gateway that follow `shown`, the last one already returned.
async fn list_gateway(
    ctx: &FleetCtx,
    on: GatewayRef,
    query: &SandboxQuery,
    shown: Option<(String, String)>,
    size: PageSize,
    within: Duration,
) -> Result<GatewayResponse, Error> {
    let listed = async {
        let reached = Gateway::connect(ctx.app(), &on).await?;
        reached.list_sandboxes_within(query.workspace.as_deref(), GATEWAY_BYTES_MAX).await
    };
    let listed = timeout(within, listed).await;
    let gateway = on.name;
    let (live, missing) = listed_or_reason(&gateway, listed.ok());
    let after = shown.map(|(workspace, name)| SandboxName { workspace, name });
    let sandboxes = select_for_page(ctx, &gateway, query, live, after.as_ref(), size).await?;
    Ok(GatewayResponse { gateway, sandboxes, missing })
}

/// Returns the sandboxes that a gateway has listed in time, and why the list is incomplete.
fn listed_or_reason(
    gateway: &str,
    listed: Option<Result<(Vec<Sandbox>, bool), Error>>,
) -> (Vec<Sandbox>, Option<String>) {
    match listed {
        Some(Ok((live, true))) => (live, None),
        Some(Ok((live, false))) => {
            let why = format!("gateway `{gateway}` lists more sandboxes than are read");
            (live, Some(why))
        }
        Some(Err(error)) => (Vec::new(), Some(probe::display_error(&error))),
        None => {
            (Vec::new(), Some(format!("gateway `{gateway}` has not listed its sandboxes in time")))
        }
    }
}

/// A page that is being filled.
struct PageBuilder {
    page: SandboxPage,
    size: PageSize,
    /// The last gateway that is done.
    done: Option<String>,
}

impl PageBuilder {
    /// Adds the response of the next gateway. Returns the position of the next page if this one is full.
    fn add(&mut self, response: GatewayResponse) -> Option<Position> {
        let GatewayResponse { gateway, mut sandboxes, missing } = response;
        let room = self.size.get() - self.page.sandboxes.len();
        let has_more = sandboxes.len() > room;
        if has_more && room == 0 {
            // The page was already full. This gateway belongs to the next page, and its response only showed that there
            // is one.
            return self.done.take().map(|gateway| Position { gateway, place: None });
        }
        sandboxes.truncate(room);
        let last = sandboxes.last().map(|last| last.sandbox.full_name.clone());
        self.page.sandboxes.append(&mut sandboxes);
        let gateway = gateway.to_string();
        if let Some(why) = missing {
            self.page
                .unreachable
                .push(UnreachableGateway { gateway: gateway.clone(), reason: why });
        }
        if has_more {
            let place = last.map(|place| (place.workspace, place.name));
            return Some(Position { gateway, place });
        }
        self.done = Some(gateway);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openshell::samples;

    fn sandbox(gateway: &str, name: &str) -> SandboxWithMeta {
        let sandbox = samples::sandbox(name);
        SandboxWithMeta { gateway: gateway.to_owned(), sandbox, meta: None }
    }

    fn response(gateway: &str, names: &[&str], missing: Option<&str>) -> GatewayResponse {
        let sandboxes = names.iter().map(|name| sandbox(gateway, name)).collect();
        GatewayResponse { gateway: gateway.into(), sandboxes, missing: missing.map(str::to_owned) }
    }

    fn filling() -> PageBuilder {
        PageBuilder { page: SandboxPage::default(), size: PageSize::parse(2).unwrap(), done: None }
    }

    fn position(gateway: &str, name: Option<&str>) -> Position {
        let place = name.map(|name| ("default".to_owned(), name.to_owned()));
        Position { gateway: gateway.to_owned(), place }
    }

    #[test]
    fn a_page_can_end_within_a_gateway_or_after_one() {
        let mut within = filling();
        assert_eq!(within.add(response("a", &["1"], None)), None);
        assert_eq!(within.add(response("b", &["1", "2"], None)), Some(position("b", Some("1"))));
        assert_eq!(within.page.sandboxes.len(), 2);

        // There is a next page only if another sandbox is known. A gateway that failed before that sandbox is reported
        // on this page.
        let mut behind = filling();
        assert_eq!(behind.add(response("a", &["1", "2"], None)), None);
        assert_eq!(behind.add(response("b", &[], Some("silent"))), None);
        assert_eq!(behind.add(response("c", &[], None)), None);
        assert_eq!(behind.add(response("d", &["1"], Some("endless"))), Some(position("c", None)));
        assert_eq!((behind.page.sandboxes.len(), behind.page.unreachable.len()), (2, 1));
    }

    #[test]
    fn t20_a_gateway_that_times_out_or_returns_too_much_is_named() {
        let one = || vec![sandbox("a", "1").sandbox];
        assert_eq!(listed_or_reason("a", Some(Ok((one(), true)))), (one(), None));
        let (shown, why) = listed_or_reason("a", Some(Ok((one(), false))));
        assert_eq!((shown.len(), why.is_some()), (1, true));
        let (shown, why) = listed_or_reason("a", None);
        assert_eq!((shown.len(), why.is_some()), (0, true));
    }
}
