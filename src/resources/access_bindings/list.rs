//! Pages of roles: for each kind of subject, those on named gateways, then those by selector.

use serde::{Deserialize, Serialize};

use super::domain::{Binding, Holder, HolderKind, Scope, Subject, find_holder};
use super::store::{self, ListedRole, RoleFilter};
use crate::ctx::{Ctx, ListKey};
use crate::db::Conn;
use crate::db::page::PageSize;
use crate::db::types::GatewayId;
use crate::error::Error;
use crate::labels::Selector;

/// Roles by selector read per query if only some of them match the requested gateway.
const BATCH: usize = 1_000;

/// Cursor of a list: the stage, and the last entry in it.
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    stage: usize,
    place: String,
    name: String,
}

/// One part of the list: the roles of one kind of subject, on named gateways or by selector.
#[derive(Debug, Clone, Copy)]
struct Stage {
    kind: HolderKind,
    by_selector: bool,
    holder: Option<Holder>,
    gateway: Option<GatewayId>,
}

impl Stage {
    async fn page(
        self,
        ctx: &Ctx,
        conn: &mut Conn,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> Result<Vec<ListedRole>, Error> {
        let Self { kind, by_selector, holder, gateway } = self;
        if !by_selector {
            return store::page(conn, kind, RoleFilter { gateway, holder }, after, rows(limit))
                .await;
        }
        match gateway {
            None => store::page_by_selector(conn, kind, holder, after, rows(limit)).await,
            Some(gateway) => self.page_matching(ctx, conn, gateway, after, limit).await,
        }
    }

    /// Reads roles in batches until the page is full, since SQL cannot match selectors against labels.
    async fn page_matching(
        self,
        ctx: &Ctx,
        conn: &mut Conn,
        gateway: GatewayId,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> Result<Vec<ListedRole>, Error> {
        let mut after = after.map(|(selector, name)| (selector.to_owned(), name.to_owned()));
        let mut found = Vec::new();
        loop {
            let from = after.as_ref().map(|(selector, name)| (selector.as_str(), name.as_str()));
            let (kind, holder) = (self.kind, self.holder);
            let read = store::page_by_selector(conn, kind, holder, from, rows(BATCH)).await?;
            let last = read.last().filter(|_| read.len() == BATCH);
            after = last.map(|last| (last.scope.clone(), last.holder.clone()));
            for listed in read {
                let selector = Selector::parse_access("selector", &listed.scope);
                if ctx.app().snapshot.matches(&selector.map_err(Error::internal)?, gateway) {
                    found.push(listed);
                }
            }
            if after.is_none() || found.len() >= limit {
                found.truncate(limit);
                return Ok(found);
            }
        }
    }

    fn to_binding(self, listed: ListedRole) -> Binding {
        let ListedRole { holder, scope, role, version } = listed;
        let scope = if self.by_selector { Scope::Selector(scope) } else { Scope::Gateway(scope) };
        Binding { subject: Subject { kind: self.kind, name: holder }, scope, role, version }
    }
}

fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Returns a page of roles, ordered by kind of subject, named gateways before selectors, place and name. If the request
/// has a gateway, only roles that apply to it now are returned.
pub async fn list(
    ctx: &Ctx,
    subject: Option<Subject>,
    size: PageSize,
    token: &str,
) -> Result<(Vec<Binding>, String), Error> {
    let gateway = ctx.gateway().map(|gateway| gateway.id);
    let question = format!("{gateway:?} {subject:?}");
    let list = ListKey {
        method: "ListGatewayRoles",
        filter: question.as_bytes(),
        order: "kind, place, name",
    };
    let page = ctx.page_request::<Position>(list, size, token)?;
    let after = page.after();
    let mut conn = ctx.db().read().await?;
    let holder = match &subject {
        None => None,
        Some(subject) => Some(find_holder(&mut conn, subject).await?),
    };
    let kinds = HolderKind::ALL.iter().flat_map(|kind| [(*kind, false), (*kind, true)]);
    let mut found = Vec::new();
    for (at, (kind, by_selector)) in kinds.enumerate().skip(after.map_or(0, |after| after.stage)) {
        // One more than the page size, to find out whether there is a next page.
        let room = (size.get() + 1).saturating_sub(found.len());
        if room == 0 || holder.is_some_and(|holder| holder.kind != kind) {
            continue;
        }
        let stage = Stage { kind, by_selector, holder, gateway };
        let from = after.filter(|after| after.stage == at);
        let from = from.map(|after| (after.place.as_str(), after.name.as_str()));
        let listed = stage.page(ctx, &mut conn, from, room).await?;
        found.extend(listed.into_iter().map(|listed| (at, stage.to_binding(listed))));
    }
    let (found, next) = page.finish(found, |(stage, last)| {
        let (Scope::Gateway(place) | Scope::Selector(place)) = last.scope.clone();
        Position { stage: *stage, place, name: last.subject.name.clone() }
    })?;
    Ok((found.into_iter().map(|(_, binding)| binding).collect(), next))
}
