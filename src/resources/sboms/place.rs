//! Place of an SBOM: gateway, workspace and sandbox.

use std::fmt;

use crate::db::types::SandboxName;
use crate::error::Error;

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
        Ok(Self { gateway, name: SandboxName::parse(prefix, workspace, sandbox)? })
    }
}

impl fmt::Display for SandboxPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.gateway, self.name.workspace, self.name.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::types::PLACE_CHARACTERS_MAX;

    fn parse(gateway: &str, workspace: &str, sandbox: &str) -> Result<String, Error> {
        SandboxPlace::parse(gateway.to_owned(), workspace.to_owned(), sandbox.to_owned())
            .map(|place| place.to_string())
    }

    #[test]
    fn a_place_needs_a_gateway_a_workspace_and_a_sandbox_name() {
        assert_eq!(parse("edge", "", "box").unwrap(), "edge/default/box");
        assert_eq!(parse("edge", "team-a", "b.o_x-1").unwrap(), "edge/team-a/b.o_x-1");
        assert!(parse("edge", "", &"a".repeat(PLACE_CHARACTERS_MAX)).is_ok());
        for (gateway, workspace, sandbox, field) in [
            ("", "", "box", "gateway"),
            ("edge", "", "", "sandbox"),
            ("edge", "", "-box", "sandbox"),
            ("edge", "", "a/b", "sandbox"),
            ("edge", "", "a\0b", "sandbox"),
            ("edge", "", "b\u{f6}x", "sandbox"),
            ("edge", "", &*"a".repeat(PLACE_CHARACTERS_MAX + 1), "sandbox"),
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
