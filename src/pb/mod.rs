//! The generated messages, services and descriptors; nothing else.

pub mod openshell;

pub use openshell::{V0_0_DESCRIPTORS, V0_1_DESCRIPTORS, v0_0, v0_1};

/// The descriptor set of our own API, with options and comments.
pub static DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/shoreguard.bin"));

/// Our own API.
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
