//! From a message to a checked call, and from its result to an answer: what every rpc of our own API shares.
//!
//! `call` is the way of a unary call, `streams` that of streams; `wire` converts the messages that resources share.

pub mod call;
pub(crate) mod complete;
mod feed;
pub mod idempotency;
pub(crate) mod request_body;
pub mod request_id;
pub mod streams;
pub mod wire;
