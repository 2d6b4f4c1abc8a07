//! The events of rounds. Their payloads name the round, its place and its content. Texts that a gateway or an agent
//! chooses are in them only as names and ids of the place and the chunk, as the hash of a policy, in the reason of an
//! end, which quotes why a policy could not be loaded, and in paths of lost marks, which name rules. All are bounded.

use serde_json::{Map, Value, json};

use super::Round;
use crate::ctx::{Ctx, Tx};
use crate::error::Error;
use crate::outbox::EventType;

/// Emits an event of a round, with further keys.
///
/// # Errors
/// Those of the database.
pub async fn emit(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    event_type: EventType,
    round: &Round,
    more: Value,
) -> Result<(), Error> {
    let event = ctx.new_event(event_type, payload(ctx, round, more));
    tx.emit(event.with_gateway(round.place.gateway.clone())).await
}

fn payload(ctx: &Ctx, round: &Round, more: Value) -> Value {
    let mut payload = Map::new();
    for (key, value) in [
        ("approval", json!(round.id.get())),
        ("action", json!(round.action.as_str())),
        ("gateway", json!(&*round.place.gateway.name)),
        ("workspace", json!(round.place.workspace())),
        ("sandbox", json!(round.place.sandbox())),
        ("chunk_id", json!(round.chunk_id)),
        ("state", json!(round.state.as_str())),
        ("actor", json!(&*ctx.actor())),
    ] {
        payload.insert(key.to_owned(), value);
    }
    if let Value::Object(more) = more {
        payload.extend(more);
    }
    Value::Object(payload)
}
