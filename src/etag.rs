//! Etags: the version of a thing as a caller sees it, so that nobody overwrites what it has not seen.

use crate::error::{Error, Kind};

/// The etag of a version.
#[must_use]
pub fn of(version: i64) -> String {
    format!("v{version}")
}

/// Refuses where an etag is given and is not that of `version`; an empty one is unconditional.
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
