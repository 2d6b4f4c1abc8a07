//! Lists of sandboxes: filters, and the pages of one gateway. `fleet` has the pages of many gateways.
//!
//! Invariants
//! - selectors are applied before a page is cut, so that a page is not shorter than necessary;
//! - metadata of a former sandbox is never shown for another one of its name, and a selector does not apply to it.

use std::collections::BTreeMap;

use super::domain::{SandboxWithMeta, is_id_of, is_meta_of};
use super::fleet;
use super::store::{self, SandboxMeta};
use crate::ctx::{Ctx, FleetCtx, ListKey};
use crate::db::page::PageSize;
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::labels::{Selector, UNLABELLED};
use crate::names;
use crate::openshell::Gateway;
use crate::openshell::sandbox::Sandbox;
use crate::seal::join_parts;

/// Filter of a list of sandboxes.
#[derive(Debug, Clone)]
pub struct SandboxQuery {
    /// Gateways to list.
    pub gateways: GatewaySelection,
    /// Only sandboxes in this workspace.
    pub workspace: Option<String>,
    /// Only sandboxes that this selector matches.
    pub selector: Selector,
}

/// Gateways to list.
#[derive(Debug, Clone)]
pub enum GatewaySelection {
    /// One gateway, by name.
    One(String),
    /// All gateways that the caller may see and the selector matches.
    Fleet(Selector),
}

impl GatewaySelection {
    /// Parses the request: one gateway by name, or a selector of gateways.
    pub fn parse(gateway: String, selector: &str) -> Result<Self, Error> {
        if gateway.is_empty() {
            return Ok(Self::Fleet(Selector::parse("gateway_selector", selector)?));
        }
        if !selector.is_empty() {
            return Err(Error::invalid("gateway_selector", "must be empty if `gateway` is set"));
        }
        Ok(Self::One(names::check_lookup_gateway_name("gateway", gateway)?))
    }
}

/// A gateway that did not list all of its sandboxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreachableGateway {
    /// Its name.
    pub gateway: String,
    /// Reason, for people.
    pub reason: String,
}

/// A page of sandboxes.
#[derive(Debug, Default)]
pub struct SandboxPage {
    /// The sandboxes.
    pub sandboxes: Vec<SandboxWithMeta>,
    /// Gateways of this page that did not list all of their sandboxes.
    pub unreachable: Vec<UnreachableGateway>,
    /// Token of the next page. Empty on the last page.
    pub next: String,
}

/// Returns a page of sandboxes.
pub async fn list(
    ctx: &FleetCtx,
    query: &SandboxQuery,
    size: PageSize,
    token: &str,
) -> Result<SandboxPage, Error> {
    match &query.gateways {
        GatewaySelection::One(gateway) => page_of_gateway(ctx, gateway, query, size, token).await,
        GatewaySelection::Fleet(gateways) => fleet::page(ctx, gateways, query, size, token).await,
    }
}

/// Returns a page of the sandboxes of one gateway. Each page reads the whole list and continues after the last place,
/// even if sandboxes were created or deleted in between.
async fn page_of_gateway(
    ctx: &FleetCtx,
    gateway: &str,
    query: &SandboxQuery,
    size: PageSize,
    token: &str,
) -> Result<SandboxPage, Error> {
    let on = ctx.require_gateway(gateway)?;
    let gateway = &*on.name;
    let selector = query.selector.to_string();
    let workspace = query.workspace.as_deref().unwrap_or_default();
    let filter = join_parts(&[gateway.as_bytes(), workspace.as_bytes(), selector.as_bytes()]);
    let list = ListKey { method: "ListSandboxes", filter: &filter, order: "workspace, name" };
    let page = ctx.page_request::<(String, String)>(list, size, token)?;
    let after = page.after().cloned().map(|(workspace, name)| SandboxName { workspace, name });
    let reached = Gateway::connect(ctx.app(), &on).await?;
    let live = reached.list_sandboxes(query.workspace.as_deref()).await?;
    let picked = select_for_page(ctx, gateway, query, live, after.as_ref(), size).await?;
    let position = |last: &SandboxWithMeta| {
        let SandboxName { workspace, name } = last.sandbox.full_name.clone();
        (workspace, name)
    };
    let (sandboxes, next) = page.finish(picked, position)?;
    Ok(SandboxPage { sandboxes, unreachable: Vec::new(), next })
}

/// Filters the sandboxes of a gateway, which are sorted by place: those that match and follow `after`, at most one more
/// than fits on a page.
pub(super) async fn select_for_page(
    ctx: &Ctx,
    gateway: &str,
    query: &SandboxQuery,
    live: Vec<Sandbox>,
    after: Option<&SandboxName>,
    size: PageSize,
) -> Result<Vec<SandboxWithMeta>, Error> {
    if live.is_empty() {
        return Ok(Vec::new());
    }
    let kept = load_metas(ctx, gateway, &query.selector).await?;
    let picked = live
        .into_iter()
        .filter(|sandbox| after.is_none_or(|after| sandbox.full_name > *after))
        .filter_map(|sandbox| kept.describe(gateway, sandbox));
    Ok(picked.take(size.get() + 1).collect())
}

/// Metadata of the sandboxes of a gateway, as far as a selector matches it.
struct StoredMetas {
    matching: BTreeMap<SandboxName, SandboxMeta>,
    /// Places with metadata that the selector does not match, with the gateway's id of the sandbox.
    left_out: BTreeMap<SandboxName, Option<String>>,
    unlabelled: bool,
}

async fn load_metas(ctx: &Ctx, gateway: &str, selector: &Selector) -> Result<StoredMetas, Error> {
    let mut conn = ctx.db().read().await?;
    let picked = store::list_matching(&mut conn, gateway, selector).await?;
    let picked: BTreeMap<SandboxName, SandboxMeta> =
        picked.into_iter().map(|meta| (meta.full_name(), meta)).collect();
    let unlabelled = selector.matches(&UNLABELLED);
    let mut left_out = BTreeMap::new();
    if unlabelled && !selector.0.is_empty() {
        left_out = store::places(&mut conn, gateway).await?;
        left_out.retain(|place, _| !picked.contains_key(place));
    }
    Ok(StoredMetas { matching: picked, left_out, unlabelled })
}

impl StoredMetas {
    fn describe(&self, gateway: &str, sandbox: Sandbox) -> Option<SandboxWithMeta> {
        let meta = self
            .matching
            .get(&sandbox.full_name)
            .filter(|meta| is_meta_of(meta, &sandbox))
            .cloned();
        let left_out = self.left_out.get(&sandbox.full_name);
        let left_out = left_out.is_some_and(|id| is_id_of(id.as_deref(), &sandbox));
        let without = self.unlabelled && !left_out;
        (meta.is_some() || without).then(|| SandboxWithMeta {
            gateway: gateway.to_owned(),
            sandbox,
            meta,
        })
    }
}
