//! Everything of the wire that is not about one resource: listeners, layers, the way from a message to a checked call and
//! from an error to a status.

pub mod body;
pub mod call;
pub mod codec;
mod complete;
pub mod health;
pub mod idempotency;
pub mod layers;
mod plain;
pub mod reload;
pub mod server;
pub mod services;
mod stack;
pub mod status;
pub mod streams;
pub mod tls;
pub mod traces;
mod version;
pub mod wire;
