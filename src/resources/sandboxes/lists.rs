//! Lists of sandboxes: filters, and the pages of one gateway. `fleet` has the pages of many gateways.
//!
//! Invariants
//! - selectors are applied before a page is cut, so that a page is not shorter than necessary;
//! - metadata of a former sandbox is never shown for another one of its name.

use std::collections::{BTreeMap, BTreeSet};

use super::domain::{Described, is_of};
use super::fleet;
use super::store::{self, Meta};
use crate::ctx::{Ctx, FleetCtx, GatewayRef, List};
use crate::db::page::PageSize;
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::labels::{Selector, UNLABELLED};
use crate::names;
use crate::openshell::Gateway;
use crate::openshell::sandbox::Sandbox;
use crate::seal::joined;

/// Filter of a list of sandboxes.
#[derive(Debug, Clone)]
pub struct Query {
    /// Gateways to list.
    pub of: Of,
    /// Only sandboxes in this workspace.
    pub workspace: Option<String>,
    /// Only sandboxes that this selector matches.
    pub selector: Selector,
}

/// Gateways to list.
#[derive(Debug, Clone)]
pub enum Of {
    /// One gateway, by name.
    One(String),
    /// All gateways that the caller may see and the selector matches.
    Fleet(Selector),
}

impl Of {
    /// Parses the request: one gateway by name, or a selector of gateways.
    pub fn parse(gateway: String, selector: &str) -> Result<Self, Error> {
        if gateway.is_empty() {
            return Ok(Self::Fleet(Selector::parse("gateway_selector", selector)?));
        }
        if !selector.is_empty() {
            return Err(Error::invalid("gateway_selector", "must be empty if `gateway` is set"));
        }
        Ok(Self::One(names::asked_gateway("gateway", gateway)?))
    }
}

/// A gateway that did not list all of its sandboxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable {
    /// Its name.
    pub gateway: String,
    /// Reason, for people.
    pub why: String,
}

/// A page of sandboxes.
#[derive(Debug, Default)]
pub struct Page {
    /// The sandboxes.
    pub sandboxes: Vec<Described>,
    /// Gateways of this page that did not list all of their sandboxes.
    pub unreachable: Vec<Unreachable>,
    /// Token of the next page. Empty on the last page.
    pub next: String,
}

/// Returns a page of sandboxes.
pub async fn list(
    ctx: &FleetCtx,
    query: &Query,
    size: PageSize,
    token: &str,
) -> Result<Page, Error> {
    match &query.of {
        Of::One(gateway) => of_one(ctx, gateway, query, size, token).await,
        Of::Fleet(gateways) => fleet::page(ctx, gateways, query, size, token).await,
    }
}

/// Returns a page of the sandboxes of one gateway. Each page reads the whole list and continues after the last place,
/// even if sandboxes were created or deleted in between.
async fn of_one(
    ctx: &FleetCtx,
    gateway: &str,
    query: &Query,
    size: PageSize,
    token: &str,
) -> Result<Page, Error> {
    let GatewayRef { id, name: gateway } = ctx.only(gateway)?;
    let selector = query.selector.to_string();
    let workspace = query.workspace.as_deref().unwrap_or_default();
    let filter = joined(&[gateway.as_bytes(), workspace.as_bytes(), selector.as_bytes()]);
    let list = List { method: "ListSandboxes", filter: &filter, order: "workspace, name" };
    let page = ctx.page::<(String, String)>(list, size, token)?;
    let after = page.after().cloned().map(|(workspace, name)| SandboxName { workspace, name });
    let reached = Gateway::reach(ctx.app(), id).await?;
    let live = reached.list_sandboxes(query.workspace.as_deref()).await?;
    let picked = picked(ctx, &gateway, query, live, after.as_ref(), size).await?;
    let position = |last: &Described| {
        let SandboxName { workspace, name } = last.sandbox.place.clone();
        (workspace, name)
    };
    let (sandboxes, next) = page.finish(picked, position)?;
    Ok(Page { sandboxes, unreachable: Vec::new(), next })
}

/// Filters the sandboxes of a gateway, which are sorted by place: those that match and follow `after`, at most one more
/// than fits on a page.
pub(super) async fn picked(
    ctx: &Ctx,
    gateway: &str,
    query: &Query,
    live: Vec<Sandbox>,
    after: Option<&SandboxName>,
    size: PageSize,
) -> Result<Vec<Described>, Error> {
    if live.is_empty() {
        return Ok(Vec::new());
    }
    let kept = kept(ctx, gateway, &query.selector).await?;
    let picked = live
        .into_iter()
        .filter(|sandbox| after.is_none_or(|after| sandbox.place > *after))
        .filter_map(|sandbox| kept.describe(gateway, sandbox));
    Ok(picked.take(size.get() + 1).collect())
}

/// Metadata of the sandboxes of a gateway, as far as a selector matches it.
struct Kept {
    picked: BTreeMap<SandboxName, Meta>,
    /// Places with metadata that the selector does not match.
    left_out: BTreeSet<SandboxName>,
    unlabelled: bool,
}

async fn kept(ctx: &Ctx, gateway: &str, selector: &Selector) -> Result<Kept, Error> {
    let mut conn = ctx.db().read().await?;
    let picked = store::picked(&mut conn, gateway, selector).await?;
    let picked: BTreeMap<SandboxName, Meta> =
        picked.into_iter().map(|meta| (meta.place(), meta)).collect();
    let unlabelled = selector.picks(&UNLABELLED);
    let mut left_out = BTreeSet::new();
    if unlabelled && !selector.0.is_empty() {
        left_out = store::places(&mut conn, gateway).await?;
        left_out.retain(|place| !picked.contains_key(place));
    }
    Ok(Kept { picked, left_out, unlabelled })
}

impl Kept {
    fn describe(&self, gateway: &str, sandbox: Sandbox) -> Option<Described> {
        let meta = self.picked.get(&sandbox.place).filter(|meta| is_of(meta, &sandbox)).cloned();
        let without = self.unlabelled && !self.left_out.contains(&sandbox.place);
        (meta.is_some() || without).then(|| Described {
            gateway: gateway.to_owned(),
            sandbox,
            meta,
        })
    }
}
