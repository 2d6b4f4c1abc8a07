//! Place of an SBOM: gateway, workspace and sandbox.

use std::fmt;

use crate::db::types::{DEFAULT_WORKSPACE, SandboxName};
use crate::error::Error;

/// Most characters of the name of a workspace or a sandbox.
pub const NAME_CHARACTERS_MAX: usize = 253;

/// A sandbox, by its names. The caller's access to the gateway was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxPlace {
    /// The gateway's name.
    pub gateway: String,
    /// Workspace and name of the sandbox on the gateway. The workspace is never empty.
    pub name: SandboxName,
}

impl SandboxPlace {
    /// Parses `gateway`, `workspace` and `sandbox` of the request.
    pub fn parse(gateway: String, workspace: String, sandbox: String) -> Result<Self, Error> {
        Self::parse_prefixed("", gateway, workspace, sandbox)
    }

    /// As [`SandboxPlace::parse`], for fields whose names begin with `prefix`.
    pub fn parse_prefixed(
        prefix: &str,
        gateway: String,
        workspace: String,
        sandbox: String,
    ) -> Result<Self, Error> {
        // Without a gateway, the access check was a global one and does not cover any gateway.
        if gateway.is_empty() {
            return Err(Error::invalid(format!("{prefix}gateway"), "is required"));
        }
        let workspace = if workspace.is_empty() { DEFAULT_WORKSPACE.to_owned() } else { workspace };
        check(&format!("{prefix}workspace"), &workspace)?;
        check(&format!("{prefix}sandbox"), &sandbox)?;
        Ok(Self { gateway, name: SandboxName { workspace, name: sandbox } })
    }
}

fn check(field: &str, name: &str) -> Result<(), Error> {
    let good = name.len() <= NAME_CHARACTERS_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if good {
        return Ok(());
    }
    let why = format!(
        "must be 1 to {NAME_CHARACTERS_MAX} letters, digits, `.`, `_` and `-`, and begin with a letter or digit"
    );
    Err(Error::invalid(field, why))
}

impl fmt::Display for SandboxPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.gateway, self.name.workspace, self.name.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(gateway: &str, workspace: &str, sandbox: &str) -> Result<String, Error> {
        SandboxPlace::parse(gateway.to_owned(), workspace.to_owned(), sandbox.to_owned())
            .map(|place| place.to_string())
    }

    #[test]
    fn a_place_needs_a_gateway_a_workspace_and_a_sandbox_name() {
        assert_eq!(parse("edge", "", "box").unwrap(), "edge/default/box");
        assert_eq!(parse("edge", "team-a", "b.o_x-1").unwrap(), "edge/team-a/b.o_x-1");
        assert!(parse("edge", "", &"a".repeat(NAME_CHARACTERS_MAX)).is_ok());
        for (gateway, workspace, sandbox, field) in [
            ("", "", "box", "gateway"),
            ("edge", "", "", "sandbox"),
            ("edge", "", "-box", "sandbox"),
            ("edge", "", "a/b", "sandbox"),
            ("edge", "", "a\0b", "sandbox"),
            ("edge", "", "b\u{f6}x", "sandbox"),
            ("edge", "", &*"a".repeat(NAME_CHARACTERS_MAX + 1), "sandbox"),
            ("edge", " ", "box", "workspace"),
        ] {
            let refused = parse(gateway, workspace, sandbox);
            assert!(
                matches!(&refused, Err(Error::Invalid { field: at, .. }) if at == field),
                "{sandbox}"
            );
        }
    }
}
