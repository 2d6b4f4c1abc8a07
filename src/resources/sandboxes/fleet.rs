//! Pages of the sandboxes of many gateways.
//!
//! Gateways are asked in the order of their names, some at once, and no more of them than a page needs. A page ends where
//! it is full or has taken long; its token says which gateway is done with, or how far one was shown.
//!
//! Invariants
//! - every gateway has a deadline of its own, and how much of it is read has a bound (T20): one that is slow, silent or
//!   endless is named, and the others do not notice;
//! - a gateway that was named on a page is not asked again on the next one, but for the rest of what it has told;
//! - whether the caller may see a gateway is asked just before the gateway is.

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

/// Gateways that are asked at once by one call.
const AT_ONCE: usize = 32;
/// Gateways that are asked at once to begin with, since the first may fill the page: twice as many after each answer.
const AT_ONCE_FIRST: usize = 4;
/// Bytes that are read of one gateway: about 10,000 sandboxes.
const GATEWAY_BYTES_MAX: usize = 8 << 20;
/// How long a page goes on asking. With many gateways that don't answer the rest is for the next page, before the caller
/// gives up.
const PAGE_TIME: Duration = Duration::from_secs(15);

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    /// Gateways before this one are done with.
    gateway: String,
    /// How far it was shown, as workspace and name; none where it is done with too.
    place: Option<(String, String)>,
}

/// What a gateway has told.
#[derive(Debug)]
struct Told {
    gateway: Arc<str>,
    /// At most one more than a page has.
    sandboxes: Vec<Described>,
    /// Why that is not all.
    missing: Option<String>,
}

/// A page of the sandboxes of every gateway that the caller may see and the selector picks.
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

/// Asks gateways until the page is full; answers where the next begins, where there is one.
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
                // The role was lost while others were asked.
                continue;
            }
            let shown =
                after.filter(|after| *after.gateway == *on.name).and_then(|a| a.place.clone());
            asking.push_back(ask(ctx, on, query, shown, size));
        }
        let told = tokio::select! {
            biased;
            told = asking.next() => told,
            // The first is waited for, which has a deadline of its own: each page gets on.
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

/// Returns the first gateway name of a page that goes on at `position`.
fn begin(position: Option<&Position>) -> Bound<&str> {
    match position {
        None => Bound::Unbounded,
        Some(Position { gateway, place: None }) => Bound::Excluded(gateway),
        Some(Position { gateway, place: Some(_) }) => Bound::Included(gateway),
    }
}

/// Asks one gateway for what stands behind a place.
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

/// What a gateway has told, if anything in time, and why that is not all.
fn live(
    gateway: &str,
    listed: Option<Result<(Vec<Sandbox>, bool), Error>>,
) -> (Vec<Sandbox>, Option<String>) {
    match listed {
        Some(Ok((live, true))) => (live, None),
        Some(Ok((live, false))) => {
            let why = format!("gateway `{gateway}` tells of more sandboxes than are taken");
            (live, Some(why))
        }
        Some(Err(error)) => (Vec::new(), Some(probe::display_error(&error))),
        None => {
            (Vec::new(), Some(format!("gateway `{gateway}` has not told its sandboxes in time")))
        }
    }
}

/// A page that fills.
struct Filling {
    page: Page,
    size: PageSize,
    /// The last gateway that is done with.
    done: Option<String>,
}

impl Filling {
    /// Takes what the next gateway has told; answers where the next page begins, once this one is full.
    fn take(&mut self, told: Told) -> Option<Position> {
        let Told { gateway, mut sandboxes, missing } = told;
        let room = self.size.get() - self.page.sandboxes.len();
        let has_more = sandboxes.len() > room;
        if has_more && room == 0 {
            // It is the next page's: all that was found out of it here is that there is one.
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
    fn a_page_ends_within_a_gateway_or_behind_one() {
        let mut within = filling();
        assert_eq!(within.take(told("a", &["1"], None)), None);
        assert_eq!(within.take(told("b", &["1", "2"], None)), Some(at("b", Some("1"))));
        assert_eq!(within.page.sandboxes.len(), 2);

        // Only where another one is known is there a next page, and who was found silent before it is named on this one.
        let mut behind = filling();
        assert_eq!(behind.take(told("a", &["1", "2"], None)), None);
        assert_eq!(behind.take(told("b", &[], Some("silent"))), None);
        assert_eq!(behind.take(told("c", &[], None)), None);
        assert_eq!(behind.take(told("d", &["1"], Some("endless"))), Some(at("c", None)));
        assert_eq!((behind.page.sandboxes.len(), behind.page.unreachable.len()), (2, 1));
    }

    #[test]
    fn t20_a_gateway_that_tells_too_much_or_nothing_in_time_is_named() {
        let one = || vec![sandbox("a", "1").sandbox];
        assert_eq!(live("a", Some(Ok((one(), true)))), (one(), None));
        let (shown, why) = live("a", Some(Ok((one(), false))));
        assert_eq!((shown.len(), why.is_some()), (1, true));
        let (shown, why) = live("a", None);
        assert_eq!((shown.len(), why.is_some()), (0, true));
    }
}
