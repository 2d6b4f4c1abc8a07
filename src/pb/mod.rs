//! The generated messages, services and descriptors; nothing else.

pub mod openshell;

pub use openshell::{V0_0_DESCRIPTORS, V0_1_DESCRIPTORS, v0_0, v0_1};
