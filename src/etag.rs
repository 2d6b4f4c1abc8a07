//! Etags: the version of an object as a caller sees it, so that a caller does not overwrite a version that it has not
//! seen.

use crate::error::{Error, Kind};

/// Returns the etag of a version.
#[must_use]
pub fn of(version: i64) -> String {
    format!("v{version}")
}

/// Returns a conflict if an etag is given that does not match `version`; an empty etag always matches.
pub fn check(
    given: &str,
    version: i64,
    kind: Kind,
    id: impl std::fmt::Display,
) -> Result<(), Error> {
    if given.is_empty() || given == of(version) {
        return Ok(());
    }
    Err(Error::conflict(kind, id))
}
