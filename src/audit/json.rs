//! Values of a batch as PostgreSQL reads them from JSON.

use serde::{Serialize, Serializer};

use super::Ending;
use crate::clock::Timestamp;
use crate::db::types::AuditId;
use crate::seal;

#[expect(clippy::ref_option, reason = "the shape that serde asks for")]
pub(super) fn maybe_time<S: Serializer>(at: &Option<Timestamp>, out: S) -> Result<S::Ok, S::Error> {
    at.map(|at| at.to_string()).serialize(out)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    clippy::ref_option,
    reason = "the shape that serde asks for"
)]
pub(super) fn maybe_word<S: Serializer>(
    ending: &Option<Ending>,
    out: S,
) -> Result<S::Ok, S::Error> {
    ending.map(Ending::as_str).serialize(out)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
pub(super) fn id<S: Serializer>(id: &AuditId, out: S) -> Result<S::Ok, S::Error> {
    id.get().serialize(out)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
pub(super) fn time<S: Serializer>(at: &Timestamp, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(at)
}

/// Serializes bytes in PostgreSQL's hex format.
#[expect(clippy::ref_option, reason = "the shape that serde asks for")]
pub(super) fn hex<S: Serializer>(bytes: &Option<Vec<u8>>, out: S) -> Result<S::Ok, S::Error> {
    let text = bytes.as_ref().map(|bytes| format!("\\x{}", seal::hex(bytes)));
    text.serialize(out)
}
