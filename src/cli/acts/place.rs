//! The name of a sandbox on the command line.

use std::str::FromStr;

use crate::db::types::DEFAULT_WORKSPACE;

/// A sandbox, written as `GATEWAY/SANDBOX` or `GATEWAY/WORKSPACE/SANDBOX`. No part is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SandboxPlace {
    /// Name of the gateway.
    pub(super) gateway: String,
    /// Name of the workspace.
    pub(super) workspace: String,
    /// Name of the sandbox.
    pub(super) sandbox: String,
}

impl SandboxPlace {
    /// Returns the name as lists have it, with the workspace.
    pub(super) fn full_name(&self) -> String {
        let Self { gateway, workspace, sandbox } = self;
        format!("{gateway}/{workspace}/{sandbox}")
    }
}

impl FromStr for SandboxPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let (gateway, workspace, sandbox) = match parts[..] {
            [gateway, sandbox] => (gateway, DEFAULT_WORKSPACE, sandbox),
            [gateway, workspace, sandbox] => (gateway, workspace, sandbox),
            _ => return Err("must be `GATEWAY/SANDBOX` or `GATEWAY/WORKSPACE/SANDBOX`".to_owned()),
        };
        if [gateway, workspace, sandbox].contains(&"") {
            return Err("has an empty part".to_owned());
        }
        let [gateway, workspace, sandbox] = [gateway, workspace, sandbox].map(str::to_owned);
        Ok(Self { gateway, workspace, sandbox })
    }
}

impl std::fmt::Display for SandboxPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { gateway, workspace, sandbox } = self;
        if workspace == DEFAULT_WORKSPACE {
            return write!(f, "{gateway}/{sandbox}");
        }
        f.write_str(&self.full_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_is_named_with_or_without_its_workspace() {
        for text in ["edge/box", "edge/team/box"] {
            assert_eq!(text.parse::<SandboxPlace>().unwrap().to_string(), text);
        }
        let same: SandboxPlace = "edge/default/box".parse().unwrap();
        assert_eq!(same.to_string(), "edge/box");
        assert_eq!(same.full_name(), "edge/default/box");
        for text in ["", "box", "edge/", "/box", "edge//box", "a/b/c/d"] {
            assert!(text.parse::<SandboxPlace>().is_err(), "{text}");
        }
    }
}
