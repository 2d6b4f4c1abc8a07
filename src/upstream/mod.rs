//! One gateway as it is reached: its address and credentials, its connections, what is said to it and what is read of it.
//!
//! `targets` holds the gateways in memory, `channels` their connections, `exchange` one stream on a connection. `probe` finds
//! out how a gateway is and `capability` what its version can do.
//!
//! Invariants
//! - what a gateway says is bounded on its way in (T20) and charged to its `budget` if it was read on our own account;
//! - a credential is in clear only in a target and on its connection (T04);
//! - nothing of the caller's identity reaches a gateway, and nothing that a gateway says passes as ours (`headers`).

pub(crate) mod bounds;
pub mod budget;
pub mod capability;
pub(crate) mod channels;
pub(crate) mod connection;
pub mod credential;
pub mod credentials;
mod drive;
pub mod endpoint;
pub(crate) mod exchange;
pub mod fleet;
pub mod generation;
pub(crate) mod headers;
pub mod identity;
pub(crate) mod lane;
pub(crate) mod message;
pub mod probe;
mod pump;
mod reaper;
pub mod row;
pub(crate) mod said;
pub mod sealed;
mod spare;
pub mod store;
mod streams;
pub mod targets;
pub mod unanswered;
pub(crate) mod unary;
