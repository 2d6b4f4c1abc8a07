//! Webhooks: events sent to receivers outside, at least once.
//!
//! Invariants
//! - e11: no event is dropped silently: each has a row until it is delivered, has failed, or its webhook is deleted;
//! - e12: a repeated delivery has the message id and, on channel generic, the body of the first attempt;
//! - e13: no call waits for a receiver, and no receiver slows another one; [`connections`] limits what all of them use;
//! - e14: each connection, also to a mail server, is opened by [`outbound::Outbound`] after the guard;
//! - e15, T04: secrets are in the response that creates them only; they are sealed, bound to the webhook and its
//!   destination, and a changed destination drops them.

pub mod channels;
pub mod connections;
pub mod deliveries;
pub mod delivery;
mod disabling;
pub mod domain;
pub mod email_settings;
mod fanout;
pub mod input;
mod messages;
pub mod outbound;
pub mod rpc;
pub mod sealed;
pub mod store;
pub mod subscriptions;
pub mod target_change;
pub mod views;
pub mod worker;
