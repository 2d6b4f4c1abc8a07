//! Access to gateways: addresses and credentials, connections, requests and responses.
//!
//! `targets` holds the gateways in memory, `channels` their connections, `exchange` one stream on a connection. `probe`
//! checks health and version of a gateway, and `capability` lists what its version supports.
//!
//! Invariants
//! - everything that is read from a gateway is bounded (T20), and charged to its `budget` if Shoreguard reads it for
//!   its own calls;
//! - a credential is unencrypted only in a target and on its connection (T04);
//! - no credential or identifying header of the caller reaches a gateway, and nothing from a gateway is passed on as
//!   Shoreguard's own (`headers`).

pub(crate) mod bounds;
pub mod budget;
pub mod capability;
pub(crate) mod channels;
mod chunks;
pub(crate) mod connection;
pub mod credential;
pub mod credentials;
mod drive;
pub mod endpoint;
pub(crate) mod errors;
pub(crate) mod exchange;
pub mod failure_log;
mod first_bytes;
pub mod fleet;
pub mod generation;
pub(crate) mod headers;
pub mod identity;
pub(crate) mod lane;
pub(crate) mod message;
mod open;
pub mod probe;
mod pump;
mod reaper;
pub mod row;
pub mod sealed;
mod spare;
pub mod store;
mod streams;
pub mod targets;
pub mod unanswered;
pub(crate) mod unary;
pub(crate) mod unreachable;
