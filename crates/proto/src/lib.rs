//! Messages, services and descriptors of Shoreguard's own API and of the OpenShell API, generated from `proto/`, and
//! strict checks of encoded messages.
//!
//! - [`v1`]: Shoreguard's own API; [`v0_0`] and [`v0_1`]: the OpenShell API in both wire generations;
//! - [`descriptors`]: the schemas of these APIs;
//! - [`strict`]: refuses messages that two decoders could interpret differently;
//! - [`wire`]: reads fields of an encoded message without decoding it;
//! - [`codec`]: the codec of Shoreguard's own services, which refuses NUL in the text of a request.

pub mod codec;
pub mod descriptors;
mod openshell;
pub mod release;
pub mod strict;
pub mod wire;

pub use openshell::{v0_0, v0_1};

/// Shoreguard's own API.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::wildcard_enum_match_arm,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/shoreguard/shoreguard.v1.rs"));
}
