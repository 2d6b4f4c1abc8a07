//! The descriptor sets that the build makes, with options.

use std::sync::OnceLock;

use prost_reflect::DescriptorPool;

use crate::release::Generation;

/// A descriptor set of the build. It is decoded once, when it is first needed.
#[derive(Debug)]
pub struct Descriptors {
    encoded: &'static [u8],
    undocumented: &'static [u8],
    pool: OnceLock<DescriptorPool>,
    documented_pool: OnceLock<DescriptorPool>,
}

/// Reads the two forms of a descriptor set.
macro_rules! descriptors {
    ($name:literal) => {
        Descriptors::new(
            include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".bin")),
            include_bytes!(concat!(env!("OUT_DIR"), "/", $name, "_undocumented.bin")),
        )
    };
}

/// Shoreguard's own API.
pub static OWN: Descriptors = descriptors!("shoreguard");

/// The OpenShell API, generation 0.0.
pub static V0_0: Descriptors = descriptors!("openshell_v0_0");

/// The OpenShell API, generation 0.1.
pub static V0_1: Descriptors = descriptors!("openshell_v0_1");

impl Descriptors {
    const fn new(encoded: &'static [u8], undocumented: &'static [u8]) -> Self {
        Self { encoded, undocumented, pool: OnceLock::new(), documented_pool: OnceLock::new() }
    }

    /// Returns the set of a generation of the OpenShell API.
    #[must_use]
    pub fn for_generation(generation: Generation) -> &'static Self {
        match generation {
            Generation::V0_0 => &V0_0,
            Generation::V0_1 => &V0_1,
        }
    }

    /// Returns the encoded `FileDescriptorSet`, with comments.
    #[must_use]
    pub fn encoded(&self) -> &'static [u8] {
        self.encoded
    }

    /// Returns the decoded set without comments and positions, which would take two thirds of its memory.
    #[must_use]
    pub fn pool(&self) -> &DescriptorPool {
        self.pool.get_or_init(|| decode(self.undocumented))
    }

    /// Returns the decoded set with comments.
    #[must_use]
    pub fn documented_pool(&self) -> &DescriptorPool {
        self.documented_pool.get_or_init(|| decode(self.encoded))
    }
}

fn decode(set: &[u8]) -> DescriptorPool {
    DescriptorPool::decode(set).expect("the build made the set")
}
