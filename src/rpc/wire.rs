//! Conversions that several services share: roles, update masks and times.

use std::time::Duration;

use crate::characters::excerpt;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::pb::v1 as pb;
use crate::role::Role;

impl From<Role> for pb::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::None => Self::None,
            Role::Viewer => Self::Viewer,
            Role::Operator => Self::Operator,
            Role::Admin => Self::Admin,
        }
    }
}

/// Reads a required role of a request.
pub fn parse_role(field: &str, wire: i32) -> Result<Role, Error> {
    match pb::Role::try_from(wire) {
        Ok(pb::Role::None) => Ok(Role::None),
        Ok(pb::Role::Viewer) => Ok(Role::Viewer),
        Ok(pb::Role::Operator) => Ok(Role::Operator),
        Ok(pb::Role::Admin) => Ok(Role::Admin),
        Ok(pb::Role::Unspecified) | Err(_) => {
            Err(Error::invalid(field, "must be none, viewer, operator or admin"))
        }
    }
}

/// Returns the paths of an update mask, which must not be empty.
pub fn mask_paths(mask: Option<prost_types::FieldMask>) -> Result<Vec<String>, Error> {
    let mut paths = mask.unwrap_or_default().paths;
    if paths.is_empty() {
        return Err(Error::invalid("update_mask", "must name the fields to change"));
    }
    // Duplicates are removed: a handler takes each value out of the request, so a repeated path would overwrite the
    // field with an empty value.
    paths.sort_unstable();
    paths.dedup();
    Ok(paths)
}

/// Returns the error for a path of an update mask that names no field, or a field that cannot be changed.
#[must_use]
pub fn unchangeable_path(path: &str) -> Error {
    let shown = excerpt(path, 80);
    Error::invalid("update_mask", format!("names `{shown}`, which cannot be changed"))
}

/// Converts a time to its proto message.
#[must_use]
pub fn to_timestamp(at: Timestamp) -> prost_types::Timestamp {
    let us = at.unix_micros();
    let nanos = i32::try_from(us.rem_euclid(1_000_000)).unwrap_or_default() * 1_000;
    prost_types::Timestamp { seconds: us.div_euclid(1_000_000), nanos }
}

/// Reads a time of a request, which must be between the years 1 and 9999, as the proto type requires.
pub fn parse_timestamp(field: &str, at: prost_types::Timestamp) -> Result<Timestamp, Error> {
    let bounds = -62_135_596_800..=253_402_300_799;
    if !bounds.contains(&at.seconds) || !(0..1_000_000_000).contains(&at.nanos) {
        return Err(Error::invalid(field, "must be a time between the years 1 and 9999"));
    }
    Ok(Timestamp::from_unix_micros(at.seconds * 1_000_000 + i64::from(at.nanos) / 1_000))
}

/// Reads a duration of a request, which must not be negative.
pub fn parse_duration(field: &str, span: prost_types::Duration) -> Result<Duration, Error> {
    let bad = || Error::invalid(field, "must be a span of 0 or more");
    let seconds = u64::try_from(span.seconds).map_err(|_| bad())?;
    let nanos = u32::try_from(span.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    Ok(Duration::new(seconds, nanos.ok_or_else(bad)?))
}

/// Converts a duration in microseconds to its proto message.
#[must_use]
pub fn to_duration(us: i64) -> prost_types::Duration {
    let nanos = i32::try_from(us.rem_euclid(1_000_000)).unwrap_or_default() * 1_000;
    prost_types::Duration { seconds: us.div_euclid(1_000_000), nanos }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicate_paths_of_a_mask_count_once() {
        let named = ["labels", "description", "labels"].map(str::to_owned).to_vec();
        let paths = mask_paths(Some(prost_types::FieldMask { paths: named })).unwrap();
        assert_eq!(paths, ["description", "labels"]);
    }
}
