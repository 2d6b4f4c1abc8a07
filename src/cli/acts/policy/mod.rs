//! `shoreguard policy export`, `diff` and `apply`: policies of sandboxes as files.
//!
//! Invariants
//! - exit codes are those of the Python system: 0 done or the same, 1 drift or under review, 2 any error;
//! - a document that names another sandbox than the command is not used;
//! - what is applied is the change that was computed: the policy must still have the etag of that time.

pub(super) mod apply;
pub(super) mod diff;
pub(super) mod export;

use std::path::Path;

use super::super::{CliError, input};
use super::place::SandboxPlace;
use crate::db::types::DEFAULT_WORKSPACE;
use crate::policy::document_metadata;

/// Exit code for drift, and for a change that is under review.
const DRIFT: u8 = 1;
/// Exit code of an error.
const FAILED: u8 = 2;
/// Maximum size of a document that is read. The server accepts less, and names its limit.
const DOCUMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Turns every error into exit code 2, except an interruption, and a code other than 0 into its exit.
fn to_exit(done: Result<u8, CliError>) -> Result<(), CliError> {
    match done {
        Ok(0) => Ok(()),
        Ok(code) => Err(CliError::Exit(code, String::new())),
        Err(CliError::Interrupted) => Err(CliError::Interrupted),
        Err(CliError::Exit(code, why)) => Err(CliError::Exit(code, why)),
        Err(error) => Err(CliError::Exit(FAILED, error.to_string())),
    }
}

/// Reads a document from a file, or from standard input for `-`.
async fn read_document(file: &Path) -> Result<String, CliError> {
    let path = file.to_owned();
    let read = input::on_thread(move || input::read_document(&path, DOCUMENT_BYTES_MAX));
    let bytes = read.await??;
    let not_text = |_| CliError::Usage(format!("`{}` is not UTF-8", file.display()));
    String::from_utf8(bytes).map_err(not_text)
}

/// Returns the sandbox: as given, or as the metadata of the document name it. The two must not differ.
fn find_place(given: Option<SandboxPlace>, document: &str) -> Result<SandboxPlace, CliError> {
    // By the parser of the server: what only the server could parse would not be compared.
    let metadata = document_metadata(document)
        .map_err(|why| CliError::Usage(format!("the document {why}")))?;
    let find =
        |name: &str| metadata.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let Some(given) = given else {
        let (Some(gateway), Some(sandbox)) = (find("gateway"), find("sandbox")) else {
            let why =
                "name the sandbox: the document has no `metadata` with `gateway` and `sandbox`";
            return Err(CliError::Usage(why.to_owned()));
        };
        let workspace = find("workspace").unwrap_or_else(|| DEFAULT_WORKSPACE.to_owned());
        return Ok(SandboxPlace { gateway, workspace, sandbox });
    };
    let parts =
        [("gateway", &given.gateway), ("workspace", &given.workspace), ("sandbox", &given.sandbox)];
    for (what, given) in parts {
        if let Some(of_document) = find(what).filter(|found| found != given) {
            let why = format!(
                "the document is of the {what} `{of_document}`, not `{given}`: remove its `metadata` to use it here"
            );
            return Err(CliError::Usage(why));
        }
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "metadata: {gateway: edge, workspace: team, sandbox: box, version: 7}\npolicy: {version: 1}";

    #[test]
    fn a_document_names_its_sandbox() {
        let place: SandboxPlace = "edge/team/box".parse().unwrap();
        assert_eq!(find_place(None, DOCUMENT).unwrap(), place);
        assert_eq!(find_place(Some(place.clone()), DOCUMENT).unwrap(), place);
        assert_eq!(find_place(Some(place.clone()), "version: 1").unwrap(), place);
        assert!(find_place(None, "version: 1").is_err());
    }

    #[test]
    fn a_document_of_another_sandbox_is_refused() {
        for other in ["edge/team/other", "edge/box", "west/team/box"] {
            let refused = find_place(Some(other.parse().unwrap()), DOCUMENT);
            assert!(matches!(refused, Err(CliError::Usage(_))), "{other}");
        }
    }

    #[test]
    fn a_document_that_only_the_parser_of_the_server_accepts_names_its_sandbox() {
        let aliases = "  - *hosts\n".repeat(120);
        let document = format!(
            "metadata: {{gateway: edge, sandbox: box}}\npolicy:\n  one: &hosts [a]\n  all:\n{aliases}"
        );
        let place: SandboxPlace = "edge/box".parse().unwrap();
        assert_eq!(find_place(Some(place.clone()), &document).unwrap(), place);
        let refused = find_place(Some("west/box".parse().unwrap()), &document);
        assert!(refused.unwrap_err().to_string().contains("the document is of the gateway `edge`"));
        let invalid = find_place(Some(place), "policy: [").unwrap_err().to_string();
        assert!(invalid.starts_with("the document is not valid: "), "{invalid}");
    }

    #[test]
    fn every_error_exits_with_2() {
        for error in [CliError::Usage(String::new()), CliError::Io(String::new())] {
            assert!(matches!(to_exit(Err(error)), Err(CliError::Exit(FAILED, _))));
        }
        assert!(matches!(to_exit(Ok(DRIFT)), Err(CliError::Exit(DRIFT, _))));
        assert!(matches!(to_exit(Err(CliError::Interrupted)), Err(CliError::Interrupted)));
    }
}
