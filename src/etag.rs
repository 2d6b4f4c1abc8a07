//! Etags: the version of an object as a caller sees it, so that a caller does not overwrite a version that it has not
//! seen.

use crate::error::{Error, ResourceKind};

/// Returns the etag of a version.
#[must_use]
pub fn from_version(version: i64) -> String {
    format!("v{version}")
}

/// Returns a conflict with the present etag if an etag is given that does not match `version`; an empty etag always
/// matches.
///
/// # Errors
/// `Conflict`.
pub fn check(
    given: &str,
    version: i64,
    kind: ResourceKind,
    id: impl std::fmt::Display,
) -> Result<(), Error> {
    let present = from_version(version);
    if given.is_empty() || given == present {
        return Ok(());
    }
    Err(Error::stale_etag(kind, id, present))
}
