//! The first policy of sandboxes that are created under a rule without a policy of their own: otherwise a sandbox takes
//! the policy of its image, which the caller chooses.
//!
//! Invariant: it is read once, at startup, and is valid in both generations; an invalid file prevents the start.

use std::path::Path;

use shoreguard_proto::release::Generation;

use super::{Policy, parse};
use crate::error::Error;
use crate::yaml_files;

/// The configuration key of the file.
const KEY: &str = "policies.initial";

/// The policy of the upstream for a sandbox without any: it allows no connections.
const RESTRICTIVE: &str = "\
version: 1
filesystem_policy:
  include_workdir: true
  read_only: [/usr, /lib, /proc, /dev/urandom, /app, /etc, /var/log]
  read_write: [/sandbox, /tmp, /dev/null]
landlock: { compatibility: best_effort }
process: { run_as_user: sandbox, run_as_group: sandbox }
network_policies: {}
";

/// The first policy, in each generation.
#[derive(Debug)]
pub struct InitialPolicy {
    v0_0: Policy,
    v0_1: Policy,
}

impl InitialPolicy {
    /// Loads the policy of a file, or the built-in one: no network rules, and the paths that a sandbox needs.
    ///
    /// # Errors
    /// `Invalid` if the file cannot be read, or is no valid policy in one of the generations.
    pub fn load(file: Option<&Path>) -> Result<Self, Error> {
        let text = match file {
            None => RESTRICTIVE.to_owned(),
            Some(file) => yaml_files::read_file(file, parse::DOCUMENT_BYTES_MAX)
                .map_err(|why| Error::invalid(KEY, why))?,
        };
        let policy = |generation| Policy::from_yaml(generation, KEY, &text);
        Ok(Self { v0_0: policy(Generation::V0_0)?, v0_1: policy(Generation::V0_1)? })
    }

    /// Returns the policy of a generation.
    #[must_use]
    pub fn policy(&self, generation: Generation) -> &Policy {
        match generation {
            Generation::V0_0 => &self.v0_0,
            Generation::V0_1 => &self.v0_1,
        }
    }

    /// Returns the policy, encoded for a generation.
    #[must_use]
    pub fn encoded(&self, generation: Generation) -> &[u8] {
        self.policy(generation).encoded()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_first_policy_has_no_network_rules() {
        let initial = InitialPolicy::load(None).unwrap();
        for generation in Generation::ALL {
            let policy = Policy::decode(generation, initial.encoded(generation)).unwrap();
            let document = policy.to_yaml();
            assert!(document.contains("run_as_user: sandbox"), "{document}");
            assert!(!document.contains("endpoints"), "{document}");
        }
    }

    #[test]
    fn an_invalid_first_policy_is_refused_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("first.yaml");
        let refused = InitialPolicy::load(Some(&file)).unwrap_err();
        assert!(refused.to_string().starts_with("`policies.initial` cannot be read"), "{refused}");
        std::fs::write(&file, "version: 1\nnetwork: {}\n").unwrap();
        let refused = InitialPolicy::load(Some(&file)).unwrap_err();
        assert!(refused.to_string().starts_with("`policies.initial` is not valid"), "{refused}");
        std::fs::write(&file, "version: 1\nprocess: { run_as_user: sandbox }\n").unwrap();
        InitialPolicy::load(Some(&file)).unwrap();
    }
}
