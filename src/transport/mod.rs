//! Everything of the wire that is not about one resource: listeners, layers, the way from a message to a checked call and
//! from an error to a status.

mod answer;
mod answering;
pub mod body;
pub mod call;
pub(crate) mod complete;
mod connections;
mod descriptors;
mod feed;
pub mod health;
pub mod idempotency;
mod in_flight;
pub mod layers;
mod plain;
pub mod reload;
pub(crate) mod request_body;
pub mod server;
pub mod services;
mod stack;
pub mod status;
pub mod streams;
pub mod taking;
pub mod tls;
pub mod traces;
mod until;
mod version;
pub mod wire;
