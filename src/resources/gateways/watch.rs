//! Following the gateways that a caller may see.
//!
//! Invariants
//! - what is sent is the gateway as it is now, after each event about it: none is missed, some may come together;
//! - one that the caller may no longer see, or that is unregistered, is told as gone, by name, once, and before what is
//!   told of another one under its name;
//! - a stream begins with every gateway, one that goes on with their names first: what has come into sight in between, and
//!   what was lost, was so without an event that could be shown.

use std::collections::{BTreeMap, BTreeSet};

use super::health::honest;
use super::store;
use crate::ctx::FleetCtx;
use crate::db::types::GatewayId;
use crate::error::Error;
use crate::outbox::{EventType, event_types};
use crate::resources::events::domain::{Filter, Follower, Start};
use crate::upstream::row::Row;
use crate::upstream::store as registry;

/// Events after which a gateway is sent again.
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
/// Gateways that are read at once.
const BATCH: usize = 200;

/// What a watcher is told.
#[derive(Debug)]
pub enum Told {
    /// A gateway as it is now.
    Is(Box<Row>),
    /// It is not there any more, or not for the caller.
    Gone(String),
    /// Those that there are for the caller, whatever it knew before.
    Present(Vec<String>),
}

impl Told {
    /// The gateway that the caller must see to be told so.
    #[must_use]
    pub fn gateway(&self) -> Option<GatewayId> {
        match self {
            Self::Is(row) => Some(GatewayId(row.id)),
            Self::Gone(_) | Self::Present(_) => None,
        }
    }
}

/// How a stream begins, and where it goes on: with every gateway.
struct First {
    at: i64,
    /// Before them with their names.
    names: bool,
}

/// Follows gateways for a stream.
pub struct Watcher {
    follower: Follower,
    /// Those that the caller knows of.
    known: BTreeMap<i64, String>,
    /// What is sent first.
    first: Option<First>,
}

impl Watcher {
    /// From a cursor on; 0 begins with every gateway.
    ///
    /// # Errors
    /// `OutOfRange` where the cursor is older than the events that are kept.
    pub async fn start(ctx: &FleetCtx, after: i64) -> Result<Self, Error> {
        let from = if after == 0 { Start::Now } else { Start::parse(after, false)? };
        let filter = Filter::parse(String::new(), CHANGES.map(|of| of.name().to_owned()).to_vec())?;
        let follower = Follower::start(ctx, filter, from).await?;
        let at = follower.at();
        let first = First { at, names: after != 0 };
        Ok(Self { follower, known: BTreeMap::new(), first: Some(first) })
    }

    /// What is to be told next, and the cursor after it.
    pub async fn next(&mut self, ctx: &FleetCtx) -> Result<(Vec<Told>, i64), Error> {
        if let Some(First { at, names }) = self.first.take() {
            let mut told = self.told(ctx, &BTreeSet::new()).await?;
            if names {
                told.insert(0, Told::Present(self.known.values().cloned().collect()));
            }
            return Ok((told, at));
        }
        let page = self.follower.next(ctx).await?;
        let touched = page.events.into_iter().filter_map(|event| event.gateway).collect();
        Ok((self.told(ctx, &touched).await?, page.next_after))
    }

    async fn told(
        &mut self,
        ctx: &FleetCtx,
        touched: &BTreeSet<String>,
    ) -> Result<Vec<Told>, Error> {
        let now = names(ctx).await?;
        let before = std::mem::replace(&mut self.known, now);
        let new =
            |(id, name): &(&i64, &String)| !before.contains_key(*id) || touched.contains(*name);
        let ids: Vec<GatewayId> =
            self.known.iter().filter(new).map(|(id, _)| GatewayId(*id)).collect();
        let present: BTreeSet<&String> = self.known.values().collect();
        let gone =
            |(id, name): &(i64, String)| !self.known.contains_key(id) && !present.contains(name);
        // The gone ones first, and none whose name is another one's by now: a caller tells gateways by their names.
        let gone = before.into_iter().filter(gone).map(|(_, name)| Told::Gone(name));
        let mut told: Vec<Told> = gone.collect();
        let (config, at) = (&ctx.app().config.gateways, ctx.app().clock.now());
        for ids in ids.chunks(BATCH) {
            let rows = registry::by_ids(&mut ctx.db().read().await?, ids).await?;
            told.extend(rows.into_iter().map(|row| Told::Is(Box::new(honest(row, config, at)))));
        }
        Ok(told)
    }
}

/// The gateways that the caller may see now.
async fn names(ctx: &FleetCtx) -> Result<BTreeMap<i64, String>, Error> {
    let names = store::names(&mut ctx.db().read().await?, &ctx.visible()).await?;
    Ok(names.into_iter().collect())
}
