//! The first policy of sandboxes that are created under a rule without a policy of their own: otherwise a sandbox takes
//! the policy of its image, which the caller chooses.
//!
//! Invariant: it is read once, at startup, and gateways of both generations accept it; another file prevents the start.

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
    /// `Invalid` if the file cannot be read, or is no policy that gateways of both generations accept.
    pub fn load(file: Option<&Path>) -> Result<Self, Error> {
        let text = match file {
            None => RESTRICTIVE.to_owned(),
            Some(file) => yaml_files::read_file(file, parse::DOCUMENT_BYTES_MAX)
                .map_err(|why| Error::invalid(KEY, why))?,
        };
        let policy = |generation| {
            let policy = Policy::from_yaml(generation, KEY, &text)?;
            policy.check_accepted(KEY)?;
            Ok::<_, Error>(policy)
        };
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
    use prost::Message as _;
    use shoreguard_proto::v0_0::openshell::sandbox::v1 as old;
    use shoreguard_proto::v0_1::openshell::sandbox::v1 as new;

    use super::*;

    /// The policy of the upstream for a sandbox without any, as a message of a generation.
    macro_rules! restrictive {
        ($generation:ident) => {{
            let paths = |all: &[&str]| all.iter().map(|path| (*path).to_owned()).collect();
            $generation::SandboxPolicy {
                version: 1,
                filesystem: Some($generation::FilesystemPolicy {
                    include_workdir: true,
                    read_only: paths(&[
                        "/usr",
                        "/lib",
                        "/proc",
                        "/dev/urandom",
                        "/app",
                        "/etc",
                        "/var/log",
                    ]),
                    read_write: paths(&["/sandbox", "/tmp", "/dev/null"]),
                }),
                landlock: Some($generation::LandlockPolicy {
                    compatibility: "best_effort".to_owned(),
                }),
                process: Some($generation::ProcessPolicy {
                    run_as_user: "sandbox".to_owned(),
                    run_as_group: "sandbox".to_owned(),
                }),
                ..Default::default()
            }
        }};
    }

    #[test]
    fn the_built_in_first_policy_is_that_of_the_upstream_in_both_generations() {
        let initial = InitialPolicy::load(None).unwrap();
        let sent = old::SandboxPolicy::decode(initial.encoded(Generation::V0_0)).unwrap();
        assert_eq!(sent, restrictive!(old));
        let sent = new::SandboxPolicy::decode(initial.encoded(Generation::V0_1)).unwrap();
        assert_eq!(sent, restrictive!(new));
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
        let broad = "version: 1\nfilesystem_policy: { read_write: [/] }\n";
        std::fs::write(&file, broad).unwrap();
        let refused = InitialPolicy::load(Some(&file)).unwrap_err();
        assert!(refused.to_string().contains("is the whole filesystem"), "{refused}");
        std::fs::write(&file, "version: 1\nprocess: { run_as_user: sandbox }\n").unwrap();
        InitialPolicy::load(Some(&file)).unwrap();
    }
}
