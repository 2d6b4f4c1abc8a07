//! `shoreguard policy export`, `diff` and `apply`: policies of sandboxes as files.
//!
//! Invariants
//! - exit codes are those of the Python system: 0 done or the same, 1 drift or under review, 2 any error;
//! - a document that names another sandbox than the command is not used;
//! - what is applied is the change that was shown: the policy must still have the etag of that time.

pub(super) mod apply;
pub(super) mod diff;
pub(super) mod export;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;

use super::super::{CliError, output};
use super::place::{DEFAULT_WORKSPACE, SandboxPlace};

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

/// The part of a document that says where it is from.
#[derive(Debug, Default, Deserialize)]
struct Document {
    #[serde(default)]
    metadata: Metadata,
}

/// The sandbox that a document was exported from.
#[derive(Debug, Default, Deserialize)]
struct Metadata {
    gateway: Option<String>,
    workspace: Option<String>,
    sandbox: Option<String>,
}

/// Reads a document from a file, or from standard input for `-`.
fn read_document(file: &Path) -> Result<String, CliError> {
    let mut bytes = Vec::new();
    let limit = DOCUMENT_BYTES_MAX + 1;
    let read = if file == Path::new("-") {
        output::read_input(limit).map(|input| bytes = input)
    } else {
        File::open(file).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map(drop)
    };
    let name = file.display();
    read.map_err(|error| CliError::Usage(format!("`{name}` cannot be read: {error}")))?;
    let text =
        String::from_utf8(bytes).map_err(|_| CliError::Usage(format!("`{name}` is not UTF-8")))?;
    if text.len() as u64 == limit {
        let why = format!("`{name}` is larger than {DOCUMENT_BYTES_MAX} bytes");
        return Err(CliError::Usage(why));
    }
    Ok(text)
}

/// Returns the sandbox: as given, or as the metadata of the document name it. The two must not differ.
fn find_place(given: Option<SandboxPlace>, document: &str) -> Result<SandboxPlace, CliError> {
    // The server reports an invalid document better.
    let found = serde_saphyr::from_str::<Document>(document).unwrap_or_default().metadata;
    let Some(given) = given else {
        let (Some(gateway), Some(sandbox)) = (found.gateway, found.sandbox) else {
            let why =
                "name the sandbox: the document has no `metadata` with `gateway` and `sandbox`";
            return Err(CliError::Usage(why.to_owned()));
        };
        let workspace = found.workspace.unwrap_or_else(|| DEFAULT_WORKSPACE.to_owned());
        return Ok(SandboxPlace { gateway, workspace, sandbox });
    };
    let parts = [
        ("gateway", found.gateway, &given.gateway),
        ("workspace", found.workspace, &given.workspace),
        ("sandbox", found.sandbox, &given.sandbox),
    ];
    for (what, of_document, given) in parts {
        if let Some(of_document) = of_document.filter(|found| found != given) {
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
    fn every_error_exits_with_2() {
        for error in [CliError::Usage(String::new()), CliError::Io(String::new())] {
            assert!(matches!(to_exit(Err(error)), Err(CliError::Exit(FAILED, _))));
        }
        assert!(matches!(to_exit(Ok(DRIFT)), Err(CliError::Exit(DRIFT, _))));
        assert!(matches!(to_exit(Err(CliError::Interrupted)), Err(CliError::Interrupted)));
    }
}
