//! What releases do differently, and what a test makes the gateway and its supervisors do.

use std::collections::BTreeMap;

use tonic::Status;

use super::meta;
use crate::script::Times;
use shoreguard_proto::release::Generation;
use shoreguard_proto::v0_0::openshell::sandbox::v1::SandboxPolicy;

/// Maximum number of images with a policy.
const IMAGES_MAX: usize = 1_000;

/// The outcome of loading a policy in a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LoadOutcome {
    /// The sandbox loads it.
    #[default]
    Loaded,
    /// The sandbox reports this error and continues with the policy that it has.
    Failed(String),
    /// The sandbox reports nothing, and the revision stays pending.
    Held,
}

/// The behavior of a gateway and of the supervisors of its sandboxes.
#[derive(Debug)]
pub(crate) struct Behavior {
    /// The generation whose rules apply.
    pub(crate) generation: Generation,
    /// Whether policies lose the marks of what an advisor proposed.
    pub(crate) drops_marks: bool,
    /// Replaces the result of the prover.
    pub(crate) validation: Option<String>,
    /// The policies in images, by image.
    images: BTreeMap<String, SandboxPolicy>,
    load: LoadOutcome,
    load_times: Times,
}

impl Default for Behavior {
    fn default() -> Self {
        Self {
            generation: Generation::V0_0,
            drops_marks: false,
            validation: None,
            images: BTreeMap::new(),
            load: LoadOutcome::Loaded,
            load_times: Times::All,
        }
    }
}

impl Behavior {
    /// Sets the outcome of loading policies.
    pub(super) fn set_load_outcome(&mut self, outcome: LoadOutcome, times: Times) {
        (self.load, self.load_times) = (outcome, times);
    }

    /// Returns the outcome of the next load.
    pub(super) fn next_load_outcome(&mut self) -> LoadOutcome {
        let outcome = self.load.clone();
        if self.load_times.use_once() {
            self.set_load_outcome(LoadOutcome::Loaded, Times::All);
        }
        outcome
    }

    /// Puts a policy into an image.
    pub(crate) fn set_image_policy(
        &mut self,
        image: &str,
        policy: SandboxPolicy,
    ) -> Result<(), Status> {
        if !self.images.contains_key(image) {
            meta::check_capacity("images with a policy", self.images.len(), IMAGES_MAX)?;
        }
        self.images.insert(image.to_owned(), policy);
        Ok(())
    }

    /// Returns the policy in an image; `None` if it has none.
    pub(super) fn image_policy(&self, image: &str) -> Option<SandboxPolicy> {
        self.images.get(image).cloned()
    }
}
