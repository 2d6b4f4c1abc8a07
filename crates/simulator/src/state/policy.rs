//! Policies: their hash, what is refused, and what may not change while a sandbox lives.

use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tonic::Status;

use super::meta;
use shoreguard_proto::v0_0::openshell::sandbox::v1::{
    FilesystemPolicy, LandlockPolicy, ProcessPolicy, SandboxPolicy,
};

/// An encoded policy.
pub(super) const POLICY_BYTES_MAX: usize = 256 * 1024;

/// Paths of one filesystem section.
const PATHS_MAX: usize = 256;

/// One path.
const PATH_BYTES_MAX: usize = 4_096;

/// Rules of these names are made by the gateway.
pub(super) const RESERVED_PREFIX: &str = "_provider_";

/// The hash of a policy. Maps are ordered, so equal policies have equal encodings.
pub(crate) fn hash(policy: &SandboxPolicy) -> String {
    meta::hex(&Sha256::digest(policy.encode_to_vec()))
}

/// The policy that a supervisor brings for a sandbox without one.
pub(super) fn built_in() -> SandboxPolicy {
    let paths = |all: &[&str]| all.iter().map(|path| (*path).to_owned()).collect();
    SandboxPolicy {
        version: 1,
        filesystem: Some(FilesystemPolicy {
            include_workdir: true,
            read_only: paths(&["/usr", "/lib", "/etc", "/proc"]),
            read_write: paths(&["/sandbox", "/tmp"]),
        }),
        landlock: Some(LandlockPolicy { compatibility: "best_effort".to_owned() }),
        process: Some(ProcessPolicy {
            run_as_user: "sandbox".to_owned(),
            run_as_group: "sandbox".to_owned(),
        }),
        ..SandboxPolicy::default()
    }
}

/// Refuses a policy that no sandbox may have.
pub(super) fn validate(policy: &SandboxPolicy) -> Result<(), Status> {
    if policy.encoded_len() > POLICY_BYTES_MAX {
        return refuse(format!("policy is larger than {POLICY_BYTES_MAX} bytes"));
    }
    if let Some(process) = &policy.process {
        identity("run_as_user", &process.run_as_user)?;
        identity("run_as_group", &process.run_as_group)?;
    }
    if let Some(filesystem) = &policy.filesystem {
        let paths = || filesystem.read_only.iter().chain(&filesystem.read_write);
        if paths().count() > PATHS_MAX {
            return refuse(format!("filesystem has more than {PATHS_MAX} paths"));
        }
        for path in paths() {
            path_is_safe(path)?;
        }
        if let Some(path) =
            filesystem.read_write.iter().find(|path| path.trim_end_matches('/').is_empty())
        {
            return refuse(format!("filesystem path '{path}' is too broad to be written"));
        }
    }
    match policy.network_policies.keys().find(|key| key.starts_with(RESERVED_PREFIX)) {
        Some(key) => refuse(format!("network policy name '{key}' is reserved")),
        None => Ok(()),
    }
}

/// Refuses what a live sandbox cannot change: it was applied at its start.
pub(super) fn keeps_static(base: &SandboxPolicy, next: &SandboxPolicy) -> Result<(), Status> {
    let locked = "cannot be changed on a live sandbox (applied at startup)";
    if base.landlock != next.landlock {
        return refuse(format!("landlock policy {locked}"));
    }
    if base.process != next.process {
        return refuse(format!("process policy {locked}"));
    }
    let before = base.filesystem.clone().unwrap_or_default();
    let after = next.filesystem.clone().unwrap_or_default();
    if before.include_workdir != after.include_workdir {
        return refuse(format!("filesystem include_workdir {locked}"));
    }
    for (kind, before, after) in [
        ("read_only", &before.read_only, &after.read_only),
        ("read_write", &before.read_write, &after.read_write),
    ] {
        if let Some(path) = before.iter().find(|path| !after.contains(path)) {
            return refuse(format!(
                "filesystem {kind} path '{path}' cannot be removed from a live sandbox"
            ));
        }
    }
    Ok(())
}

fn identity(field: &str, name: &str) -> Result<(), Status> {
    let allowed = matches!(name, "" | "sandbox") || name.parse::<u32>().is_ok_and(|id| id != 0);
    if allowed {
        return Ok(());
    }
    refuse(format!(
        "process.{field} must be 'sandbox' or a numeric id other than root, got '{name}'"
    ))
}

fn path_is_safe(path: &str) -> Result<(), Status> {
    if !path.starts_with('/') {
        return refuse(format!("filesystem path '{path}' must be absolute"));
    }
    if path.split('/').any(|part| part == "..") {
        return refuse(format!("filesystem path '{path}' must not contain '..'"));
    }
    if path.len() > PATH_BYTES_MAX {
        return refuse(format!("filesystem path is longer than {PATH_BYTES_MAX} bytes"));
    }
    Ok(())
}

fn refuse<T>(why: String) -> Result<T, Status> {
    Err(Status::invalid_argument(why))
}
