//! Sandboxes whose agents have proposed what has no round: because a limit is reached, or because it cannot be reviewed.

use std::sync::Arc;

use super::InboxFilter;
use crate::access::snapshot::VisibleGateways;
use crate::ctx::FleetCtx;
use crate::db::types::GatewayId;
use crate::error::Error;
use crate::governance::Action;
use crate::resources::approvals::drafts::store::{self, DraftState};

/// Maximum number of sandboxes that a list has.
pub const WAITING_MAX: i64 = 100;

/// A sandbox with drafts that have no round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingDrafts {
    /// Name of the gateway.
    pub gateway: Arc<str>,
    /// Last known state of the drafts.
    pub state: DraftState,
}

/// Returns the sandboxes that the filter selects, on gateways that the caller can see.
///
/// # Errors
/// `NOT_FOUND` if the caller does not see the gateway of the filter.
pub async fn list(ctx: &FleetCtx, filter: &InboxFilter) -> Result<Vec<WaitingDrafts>, Error> {
    if filter.action.is_some_and(|action| action != Action::DraftApprove) {
        return Ok(Vec::new());
    }
    let gateway = filter.gateway.as_deref().map(|name| ctx.require_gateway(name)).transpose()?;
    let gateways = match (gateway, ctx.visible_gateways()) {
        (Some(gateway), _) => Some(vec![gateway.id.get()]),
        (None, VisibleGateways::All) => None,
        (None, VisibleGateways::Only(ids)) => Some(ids.into_iter().map(GatewayId::get).collect()),
    };
    let mut conn = ctx.db().read().await?;
    // In the query: sandboxes that are not selected must not take the places of others.
    let selected = (filter.workspace.as_deref(), filter.sandbox.as_deref());
    let gateways = gateways.as_deref();
    let states = store::states_with_waiting(&mut conn, gateways, selected, WAITING_MAX).await?;
    let snapshot = &ctx.app().snapshot;
    let named = states.into_iter().filter_map(|state| {
        let gateway = snapshot.gateway_name(state.gateway_id)?;
        Some(WaitingDrafts { gateway, state })
    });
    Ok(named.collect())
}
