//! Shared by every rpc of Shoreguard's own API: turns a message into a checked call, and its result into a response.
//!
//! `call` handles unary calls, `streams` handles streams; `wire` converts the messages that several resources use.

pub mod call;
pub(crate) mod complete;
mod feed;
pub mod idempotency;
pub(crate) mod request_body;
pub mod request_id;
pub mod streams;
pub mod wire;
