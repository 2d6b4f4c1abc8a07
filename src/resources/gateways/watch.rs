//! Watches the gateways that a caller can see.
//!
//! Invariants
//! - after each event about a gateway, its current state is sent: no change is missed, several may be combined;
//! - a gateway that is unregistered or no longer visible is reported as removed, by name, once, and before any report
//!   about another gateway of the same name;
//! - a new stream starts with all gateways; a resumed one sends their names first, since access that was granted or
//!   revoked in between leaves no event that the caller can see.

use std::collections::{BTreeMap, BTreeSet};

use super::health::mark_stale;
use super::store;
use crate::ctx::FleetCtx;
use crate::db::types::GatewayId;
use crate::error::Error;
use crate::outbox::{EventType, event_types};
use crate::resources::events::domain::{Filter, Follower, StartPosition};
use crate::upstream::row::GatewayRow;
use crate::upstream::store as registry;

/// Events that cause a gateway to be sent again.
const CHANGES: [EventType; 10] = [
    event_types::GATEWAY_REGISTERED,
    event_types::GATEWAY_UPDATED,
    event_types::GATEWAY_CREDENTIALS_ROTATED,
    event_types::GATEWAY_UNREGISTERED,
    event_types::GATEWAY_UP,
    event_types::GATEWAY_DOWN,
    event_types::GATEWAY_STATUS_CHANGED,
    event_types::GATEWAY_VERSION_CHANGED,
    event_types::GATEWAY_FINDING_OPENED,
    event_types::GATEWAY_FINDING_CLOSED,
];
/// Gateways read per query.
const BATCH: usize = 200;

/// A change to send.
#[derive(Debug)]
pub enum GatewayChange {
    /// Current state of a gateway.
    Current(Box<GatewayRow>),
    /// Name of a gateway that was removed or is no longer visible to the caller.
    Removed(String),
    /// Names of all gateways that the caller can see.
    Names(Vec<String>),
}

impl GatewayChange {
    /// Returns the gateway that the caller must be able to see to receive this change.
    #[must_use]
    pub fn gateway(&self) -> Option<GatewayId> {
        match self {
            Self::Current(row) => Some(GatewayId(row.id)),
            Self::Removed(_) | Self::Names(_) => None,
        }
    }
}

/// First batch of a stream, which has all gateways.
struct FirstBatch {
    cursor: i64,
    /// Whether to send the names first.
    names: bool,
}

/// Watches gateways for a stream.
pub struct Watcher {
    follower: Follower,
    /// Gateways that the caller knows of.
    known: BTreeMap<i64, String>,
    /// First batch, until it is sent.
    first: Option<FirstBatch>,
}

impl Watcher {
    /// Starts after a cursor; 0 starts a new stream. Both begin with all gateways.
    ///
    /// # Errors
    /// `OutOfRange` if the cursor is older than the stored events.
    pub async fn start(ctx: &FleetCtx, after: i64) -> Result<Self, Error> {
        let from =
            if after == 0 { StartPosition::Now } else { StartPosition::parse(after, false)? };
        let filter = Filter::parse(String::new(), CHANGES.map(|of| of.name().to_owned()).to_vec())?;
        let follower = Follower::start(ctx, filter, from).await?;
        let at = follower.cursor();
        let first = FirstBatch { cursor: at, names: after != 0 };
        Ok(Self { follower, known: BTreeMap::new(), first: Some(first) })
    }

    /// Waits for the next changes. Returns them and the cursor after them.
    pub async fn next(&mut self, ctx: &FleetCtx) -> Result<(Vec<GatewayChange>, i64), Error> {
        if let Some(FirstBatch { cursor: at, names }) = self.first.take() {
            let mut changes = Box::pin(self.changes(ctx, &BTreeSet::new())).await?;
            if names {
                changes.insert(0, GatewayChange::Names(self.known.values().cloned().collect()));
            }
            return Ok((changes, at));
        }
        let page = self.follower.next(ctx).await?;
        let touched = page.events.into_iter().filter_map(|event| event.gateway).collect();
        // In a box: a stream that waits for events does not hold the state of a read.
        Ok((Box::pin(self.changes(ctx, &touched)).await?, page.next_after))
    }

    async fn changes(
        &mut self,
        ctx: &FleetCtx,
        touched: &BTreeSet<String>,
    ) -> Result<Vec<GatewayChange>, Error> {
        let now = names(ctx).await?;
        let before = std::mem::replace(&mut self.known, now);
        let new =
            |(id, name): &(&i64, &String)| !before.contains_key(*id) || touched.contains(*name);
        let ids: Vec<GatewayId> =
            self.known.iter().filter(new).map(|(id, _)| GatewayId(*id)).collect();
        let present: BTreeSet<&String> = self.known.values().collect();
        let gone =
            |(id, name): &(i64, String)| !self.known.contains_key(id) && !present.contains(name);
        // Removals come first. A name that another gateway has now is not removed: callers identify gateways by name.
        let gone = before.into_iter().filter(gone).map(|(_, name)| GatewayChange::Removed(name));
        let mut changes: Vec<GatewayChange> = gone.collect();
        let (config, at) = (&ctx.app().config.gateways, ctx.app().clock.now());
        for ids in ids.chunks(BATCH) {
            let rows = registry::by_ids(&mut ctx.db().read().await?, ids).await?;
            changes.extend(
                rows.into_iter()
                    .map(|row| GatewayChange::Current(Box::new(mark_stale(row, config, at)))),
            );
        }
        Ok(changes)
    }
}

/// Returns the gateways that the caller can see now.
async fn names(ctx: &FleetCtx) -> Result<BTreeMap<i64, String>, Error> {
    let names = store::names(&mut ctx.db().read().await?, &ctx.visible_gateways()).await?;
    Ok(names.into_iter().collect())
}
