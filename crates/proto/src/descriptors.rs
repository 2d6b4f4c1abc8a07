//! The descriptor sets that the build makes, with options and comments.

use std::sync::OnceLock;

use prost_reflect::DescriptorPool;

/// A descriptor set of the build. It is decoded once, when it is first needed.
#[derive(Debug)]
pub struct Descriptors {
    encoded: &'static [u8],
    pool: OnceLock<DescriptorPool>,
}

/// Shoreguard's own API.
pub static OWN: Descriptors =
    Descriptors::new(include_bytes!(concat!(env!("OUT_DIR"), "/shoreguard.bin")));

/// The OpenShell API, generation 0.0.
pub static V0_0: Descriptors =
    Descriptors::new(include_bytes!(concat!(env!("OUT_DIR"), "/openshell_v0_0.bin")));

/// The OpenShell API, generation 0.1.
pub static V0_1: Descriptors =
    Descriptors::new(include_bytes!(concat!(env!("OUT_DIR"), "/openshell_v0_1.bin")));

impl Descriptors {
    const fn new(encoded: &'static [u8]) -> Self {
        Self { encoded, pool: OnceLock::new() }
    }

    /// Returns the encoded `FileDescriptorSet`.
    #[must_use]
    pub fn encoded(&self) -> &'static [u8] {
        self.encoded
    }

    /// Returns the decoded set.
    ///
    /// # Panics
    /// Never: the build made the set.
    #[must_use]
    pub fn pool(&self) -> &DescriptorPool {
        let decode = || DescriptorPool::decode(self.encoded).expect("the build made the set");
        self.pool.get_or_init(decode)
    }
}
