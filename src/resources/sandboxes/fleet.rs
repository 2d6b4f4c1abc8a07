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
//! - the caller's right to see a gateway is checked right before the gateway is called.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until, timeout};

use super::domain::Described;
use super::lists::{Page, Query, Unreachable, picked};
use crate::ctx::{FleetCtx, GatewayRef, List};
use crate::db::page::PageSize;
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::labels::Selector;
use crate::openshell::Gateway;
use crate::openshell::sandbox::Sandbox;
use crate::seal::joined;
use crate::upstream::probe;

/// Most concurrent gateway calls of one request.
const AT_ONCE: usize = 32;
/// Concurrent gateway calls at first, since the first gateway may fill the page. The number doubles with each response.
const AT_ONCE_FIRST: usize = 4;
/// Most bytes that are read from one gateway: about 10,000 sandboxes.
const GATEWAY_BYTES_MAX: usize = 8 << 20;
/// Time limit of a page. If many gateways do not respond, the rest is left for the next page, before the caller times
/// out.
const PAGE_TIME: Duration = Duration::from_secs(15);

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
struct Told {
    gateway: Arc<str>,
    /// At most one sandbox more than fits on a page.
    sandboxes: Vec<Described>,
    /// Why the list is incomplete.
    missing: Option<String>,
}

/// Returns a page of the sandboxes of every gateway that the caller may see and the selector matches.
pub(super) async fn page(
    ctx: &FleetCtx,
    gateways: &Selector,
    query: &Query,
    size: PageSize,
    token: &str,
) -> Result<Page, Error> {
    let (which, selector) = (gateways.to_string(), query.selector.to_string());
    let workspace = query.workspace.as_deref().unwrap_or_default();
    let filter = joined(&[which.as_bytes(), workspace.as_bytes(), selector.as_bytes()]);
    let list = List { method: "ListSandboxes", filter: &filter, order: "gateway, workspace, name" };
    let page = ctx.page::<Position>(list, size, token)?;
    let after = page.after();
    let (mut found, next) = fill(ctx, gateways, query, size, after).await?;
    if let Some(next) = next {
        found.next = page.next(next)?;
    }
    Ok(found)
}

/// Calls gateways until the page is full. Returns the position of the next page, if there is one.
async fn fill(
    ctx: &FleetCtx,
    gateways: &Selector,
    query: &Query,
    size: PageSize,
    after: Option<&Position>,
) -> Result<(Page, Option<Position>), Error> {
    let mut ahead = ctx.matching(gateways, begin(after)).into_iter();
    let mut filling = Filling { page: Page::default(), size, done: None };
    let mut asking = FuturesOrdered::new();
    let (mut at_once, until) = (AT_ONCE_FIRST, Instant::now() + PAGE_TIME);
    loop {
        while asking.len() < at_once {
            let Some(on) = ahead.next() else { break };
            if ctx.only(&on.name).is_err() {
                // The caller lost its role while other gateways were called.
                continue;
            }
            let shown =
                after.filter(|after| *after.gateway == *on.name).and_then(|a| a.place.clone());
            asking.push_back(ask(ctx, on, query, shown, size));
        }
        let told = tokio::select! {
            biased;
            told = asking.next() => told,
            // The time limit applies once one gateway is done. The first gateway has its own timeout, so every page
            // makes progress.
            () = sleep_until(until), if filling.done.is_some() => {
                let done = filling.done.take();
                return Ok((filling.page, done.map(|gateway| Position { gateway, place: None })));
            }
        };
        let Some(told) = told else { return Ok((filling.page, None)) };
        if let Some(next) = filling.take(told?) {
            return Ok((filling.page, Some(next)));
        }
        at_once = (at_once * 2).min(AT_ONCE);
    }
}

/// Returns the first gateway name of a page that continues at `position`.
fn begin(position: Option<&Position>) -> Bound<&str> {
    match position {
        None => Bound::Unbounded,
        Some(Position { gateway, place: None }) => Bound::Excluded(gateway),
        Some(Position { gateway, place: Some(_) }) => Bound::Included(gateway),
    }
}

/// Lists the sandboxes of one gateway that follow `shown`, the last one already returned.
async fn ask(
    ctx: &FleetCtx,
    GatewayRef { id, name: gateway }: GatewayRef,
    query: &Query,
    shown: Option<(String, String)>,
    size: PageSize,
) -> Result<Told, Error> {
    let listed = async {
        let reached = Gateway::reach(ctx.app(), id).await?;
        reached.list_sandboxes_within(query.workspace.as_deref(), GATEWAY_BYTES_MAX).await
    };
    let listed = timeout(ctx.app().config.sandboxes.list_timeout(), listed).await;
    let (live, missing) = live(&gateway, listed.ok());
    let after = shown.map(|(workspace, name)| SandboxName { workspace, name });
    let sandboxes = picked(ctx, &gateway, query, live, after.as_ref(), size).await?;
    Ok(Told { gateway, sandboxes, missing })
}

/// Returns the sandboxes that a gateway has listed in time, and why the list is incomplete.
fn live(
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
struct Filling {
    page: Page,
    size: PageSize,
    /// The last gateway that is done.
    done: Option<String>,
}

impl Filling {
    /// Adds the response of the next gateway. Returns the position of the next page if this one is full.
    fn take(&mut self, told: Told) -> Option<Position> {
        let Told { gateway, mut sandboxes, missing } = told;
        let room = self.size.get() - self.page.sandboxes.len();
        let has_more = sandboxes.len() > room;
        if has_more && room == 0 {
            // The page was already full. This gateway belongs to the next page, and its response only showed that there
            // is one.
            return self.done.take().map(|gateway| Position { gateway, place: None });
        }
        sandboxes.truncate(room);
        let last = sandboxes.last().map(|last| last.sandbox.place.clone());
        self.page.sandboxes.append(&mut sandboxes);
        let gateway = gateway.to_string();
        if let Some(why) = missing {
            self.page.unreachable.push(Unreachable { gateway: gateway.clone(), why });
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
    use crate::openshell::sandbox::Phase;

    fn sandbox(gateway: &str, name: &str) -> Described {
        let place = SandboxName { workspace: "default".to_owned(), name: name.to_owned() };
        let sandbox = Sandbox {
            id: String::new(),
            place,
            phase: Phase::Ready,
            created_at: None,
            image: String::new(),
            gpu: false,
            providers: Vec::new(),
            policy_version: 0,
            labels: std::collections::BTreeMap::new(),
            annotations: std::collections::BTreeMap::new(),
            conditions: Vec::new(),
            exit_code: None,
        };
        Described { gateway: gateway.to_owned(), sandbox, meta: None }
    }

    fn told(gateway: &str, names: &[&str], missing: Option<&str>) -> Told {
        let sandboxes = names.iter().map(|name| sandbox(gateway, name)).collect();
        Told { gateway: gateway.into(), sandboxes, missing: missing.map(str::to_owned) }
    }

    fn filling() -> Filling {
        Filling { page: Page::default(), size: PageSize::parse(2).unwrap(), done: None }
    }

    fn at(gateway: &str, name: Option<&str>) -> Position {
        let place = name.map(|name| ("default".to_owned(), name.to_owned()));
        Position { gateway: gateway.to_owned(), place }
    }

    #[test]
    fn a_page_can_end_within_a_gateway_or_after_one() {
        let mut within = filling();
        assert_eq!(within.take(told("a", &["1"], None)), None);
        assert_eq!(within.take(told("b", &["1", "2"], None)), Some(at("b", Some("1"))));
        assert_eq!(within.page.sandboxes.len(), 2);

        // There is a next page only if another sandbox is known. A gateway that failed before that sandbox is reported
        // on this page.
        let mut behind = filling();
        assert_eq!(behind.take(told("a", &["1", "2"], None)), None);
        assert_eq!(behind.take(told("b", &[], Some("silent"))), None);
        assert_eq!(behind.take(told("c", &[], None)), None);
        assert_eq!(behind.take(told("d", &["1"], Some("endless"))), Some(at("c", None)));
        assert_eq!((behind.page.sandboxes.len(), behind.page.unreachable.len()), (2, 1));
    }

    #[test]
    fn t20_a_gateway_that_times_out_or_returns_too_much_is_named() {
        let one = || vec![sandbox("a", "1").sandbox];
        assert_eq!(live("a", Some(Ok((one(), true)))), (one(), None));
        let (shown, why) = live("a", Some(Ok((one(), false))));
        assert_eq!((shown.len(), why.is_some()), (1, true));
        let (shown, why) = live("a", None);
        assert_eq!((shown.len(), why.is_some()), (0, true));
    }
}
