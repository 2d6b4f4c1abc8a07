//! Checks whether a message belongs to the gateway's own generation.
//!
//! A gateway ignores fields that it does not know, and misinterprets a field of another type if its bytes are valid: a
//! sandbox that was meant for one workspace is then created in another. A parsed request that fits the other generation
//! better is rejected, with an error that names both generations.
//!
//! Invariant: the other generation is tried only if something is suspicious, so that a valid request is parsed once.

use crate::access::policy::{self, UPSTREAM_V0_0, UPSTREAM_V0_1, UpstreamMethod};
use crate::error::{Error, Reason};
use crate::pb::strict::{Schema, UnknownFields};
use crate::pb::wire;
use crate::upstream::generation::{Generation, releases};

/// Parses a request strictly in the gateway's generation.
///
/// # Errors
/// `WIRE_MISMATCH` if it fits the other generation better; otherwise that of the
/// [`MessageFault`](crate::pb::strict::MessageFault).
pub(super) fn check(
    row: &UpstreamMethod,
    generation: Generation,
    gateway: &str,
    message: &[u8],
) -> Result<(), Error> {
    let read =
        Schema::for_generation(generation).check(row.request, message, UnknownFields::Accept);
    let selector = generation == Generation::V0_0 && has_selector(row, message);
    if matches!(read, Ok(0)) && !selector {
        return Ok(());
    }
    let Some((other, unknown)) = parse_as_other(row.path, generation, message) else {
        return Ok(read.map(drop)?);
    };
    let is_mismatch = match &read {
        Ok(passed) => unknown < *passed || selector && unknown <= *passed,
        Err(_) => unknown == 0,
    };
    if !is_mismatch {
        return Ok(read.map(drop)?);
    }
    let why = format!(
        "this message is of generation {other}, gateway `{gateway}` speaks {generation}: use a client of {}",
        releases(generation)
    );
    Err(Error::refused(Reason::WireMismatch, why))
}

/// Returns the other generation and the number of fields that it does not know, or `None` if it cannot parse the
/// message.
fn parse_as_other(path: &str, own: Generation, message: &[u8]) -> Option<(Generation, usize)> {
    let (other, table) = match own {
        Generation::V0_0 => (Generation::V0_1, UPSTREAM_V0_1),
        Generation::V0_1 => (Generation::V0_0, UPSTREAM_V0_0),
    };
    let row = policy::find_upstream_method(table, path)?;
    let unknown =
        Schema::for_generation(other).check(row.request, message, UnknownFields::Accept).ok()?;
    Some((other, unknown))
}

/// Whether the text of a workspace is a selector of generation 0.1: it then starts with the key byte of a field, which
/// no workspace name starts with.
fn has_selector(row: &UpstreamMethod, message: &[u8]) -> bool {
    let path = row.policy.as_ref().map_or(&[][..], |guard| guard.workspace_path);
    wire::text_at(message, path).is_some_and(|text| text.starts_with(['\n', '\u{12}']))
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::pb::v0_0::openshell::v1 as old;
    use crate::pb::v0_1::openshell::datamodel::v1 as model;
    use crate::pb::v0_1::openshell::v1 as new;
    use crate::status::code_and_reason;

    #[expect(clippy::unnecessary_wraps, reason = "the type of the field")]
    fn scope(selection: model::workspace_selector::Selection) -> Option<model::WorkspaceSelector> {
        Some(model::WorkspaceSelector { selection: Some(selection) })
    }

    fn workspace(name: &str) -> Option<model::WorkspaceSelector> {
        scope(model::workspace_selector::Selection::Workspace(name.to_owned()))
    }

    fn checked(generation: Generation, method: &str, message: &impl Message) -> Result<(), Reason> {
        bytes(generation, method, &message.encode_to_vec())
    }

    fn bytes(generation: Generation, method: &str, message: &[u8]) -> Result<(), Reason> {
        let table = if generation == Generation::V0_0 { UPSTREAM_V0_0 } else { UPSTREAM_V0_1 };
        let path = format!("/openshell.v1.OpenShell/{method}");
        let row = policy::find_upstream_method(table, &path).unwrap();
        check(row, generation, "edge", message).map_err(|error| code_and_reason(&error).1)
    }

    #[test]
    fn a_workspace_selector_is_not_accepted_as_a_workspace_name() {
        let every = model::workspace_selector::Selection::AllWorkspaces(model::AllWorkspaces {});
        for workspace_scope in [workspace("default"), workspace(&"w".repeat(200)), scope(every)] {
            let get = new::GetSandboxRequest { name: "one".into(), workspace_scope };
            assert_eq!(checked(Generation::V0_0, "GetSandbox", &get), Err(Reason::WireMismatch));
            checked(Generation::V0_1, "GetSandbox", &get).unwrap();
        }
    }

    #[test]
    fn a_workspace_name_is_not_accepted_as_a_workspace_selector() {
        for name in ["default", "team", "analytics", "prod", "b\u{6}abcdef"] {
            let get = old::GetSandboxRequest { name: "one".into(), workspace: name.into() };
            checked(Generation::V0_0, "GetSandbox", &get).unwrap();
            let read = checked(Generation::V0_1, "GetSandbox", &get);
            assert_eq!(read, Err(Reason::WireMismatch), "{name}");
        }
    }

    #[test]
    fn a_field_that_the_gateway_would_ignore_is_refused() {
        let create =
            new::CreateSandboxRequest { workspace_scope: workspace("team"), ..Default::default() };
        assert_eq!(
            checked(Generation::V0_0, "CreateSandbox", &create),
            Err(Reason::WireMismatch),
            "the sandbox would have landed in `default`"
        );
        let create = old::CreateSandboxRequest { workspace: "team".into(), ..Default::default() };
        assert_eq!(checked(Generation::V0_1, "CreateSandbox", &create), Err(Reason::WireMismatch));
        let logs = new::GetSandboxLogsRequest {
            sandbox: "one".into(),
            workspace_scope: workspace("team"),
            ..Default::default()
        };
        assert_eq!(checked(Generation::V0_0, "GetSandboxLogs", &logs), Err(Reason::WireMismatch));
    }

    #[test]
    fn a_list_of_another_generation_is_refused_in_both_directions() {
        let every = model::workspace_selector::Selection::AllWorkspaces(model::AllWorkspaces {});
        let new_lists = [
            new::ListSandboxesRequest {
                workspace_scope: workspace("default"),
                ..Default::default()
            },
            new::ListSandboxesRequest { workspace_scope: scope(every), ..Default::default() },
            new::ListSandboxesRequest { page_token: "next".into(), ..Default::default() },
        ];
        for list in new_lists {
            let read = checked(Generation::V0_0, "ListSandboxes", &list);
            assert_eq!(read, Err(Reason::WireMismatch), "{list:?}");
            checked(Generation::V0_1, "ListSandboxes", &list).unwrap();
        }
        let old_lists = [
            old::ListSandboxesRequest { workspace: "default".into(), ..Default::default() },
            old::ListSandboxesRequest { all_workspaces: true, ..Default::default() },
            old::ListSandboxesRequest { offset: 200, ..Default::default() },
        ];
        for list in old_lists {
            let read = checked(Generation::V0_1, "ListSandboxes", &list);
            assert_eq!(read, Err(Reason::WireMismatch), "{list:?}");
            checked(Generation::V0_0, "ListSandboxes", &list).unwrap();
        }
        // A list without a workspace has the same meaning in both generations.
        let first = old::ListSandboxesRequest { limit: 100, ..Default::default() };
        checked(Generation::V0_1, "ListSandboxes", &first).unwrap();
    }

    #[test]
    fn a_field_unknown_to_both_generations_passes_and_hides_no_mismatch() {
        let named = old::GetSandboxRequest { name: "one".into(), ..Default::default() };
        let mut newer = named.encode_to_vec();
        wire::put_bytes(&mut newer, 900, b"new");
        bytes(Generation::V0_0, "GetSandbox", &newer).unwrap();
        bytes(Generation::V0_1, "GetSandbox", &newer).unwrap();
        let create =
            new::CreateSandboxRequest { workspace_scope: workspace("team"), ..Default::default() };
        let mut newer = create.encode_to_vec();
        wire::put_bytes(&mut newer, 900, b"new");
        assert_eq!(bytes(Generation::V0_0, "CreateSandbox", &newer), Err(Reason::WireMismatch));
    }

    #[test]
    fn a_request_invalid_in_both_generations_keeps_its_own_error() {
        let named = old::GetSandboxRequest { name: "one".into(), ..Default::default() };
        let twice = [named.encode_to_vec(), named.encode_to_vec()].concat();
        for generation in [Generation::V0_0, Generation::V0_1] {
            assert_eq!(bytes(generation, "GetSandbox", &twice), Err(Reason::MessageAmbiguous));
            assert_eq!(
                bytes(generation, "GetSandbox", &[0xff, 0xff]),
                Err(Reason::MalformedMessage)
            );
        }
    }
}
