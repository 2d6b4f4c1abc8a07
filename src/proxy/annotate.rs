//! Adds an annotation with the actor to sandbox creations and policy changes, so that the gateway stores who made them.
//!
//! Invariants
//! - the checked message is forwarded unchanged, followed by one map entry: of two entries with the same key the last
//!   one counts, and a caller's entry under Shoreguard's prefix was rejected before;
//! - the entry is always the same for an actor, so that a change without effect creates no revision;
//! - a setting change has no revision that could store an annotation, and is forwarded unchanged;
//! - so is a change for the whole gateway: gateways accept annotations only for sandboxes.

use crate::access::policy::Guard;
use crate::error::Error;
use crate::openshell::annotation;
use crate::pb::wire::{self, Fields, Value};
use crate::upstream::message::Read;

/// Fields of `UpdateConfigRequest` that create a revision, the same in both generations.
const POLICY: u32 = 2;
const MERGE_OPERATIONS: u32 = 7;

/// Its flag for a change of the whole gateway, the same in both generations.
const GLOBAL: u32 = 6;

/// Rejects annotations with which the caller could impersonate another actor (T19).
///
/// # Errors
/// `INVALID_FIELD` of `annotations`.
pub(super) fn refuse_forged(guard: &Guard, message: &[u8]) -> Result<(), Error> {
    let Some(annotations) = guard.annotations else { return Ok(()) };
    let mut fields = Fields::of(message);
    while let Ok(Some((number, value))) = fields.field() {
        let (true, Value::Bytes(entry)) = (number == annotations, value) else { continue };
        if wire::text_at(entry, &[1]).is_some_and(annotation::is_ours) {
            let why =
                format!("must have no key under `{}`, which this server sets", annotation::PREFIX);
            return Err(Error::invalid("annotations", why));
        }
    }
    Ok(())
}

/// Returns the request with the annotation, or unchanged if the gateway would not store one.
///
/// # Errors
/// `MESSAGE_TOO_LARGE` if the annotation makes the message too large.
pub(super) fn signed(guard: &Guard, read: Read, actor: &str) -> Result<Read, Error> {
    let Some(annotations) = guard.annotations else { return Ok(read) };
    if guard.config_change && !is_kept(read.message()) {
        return Ok(read);
    }
    let (mut entry, mut more) = (Vec::new(), Vec::new());
    wire::put_bytes(&mut entry, 1, annotation::ACTOR.as_bytes());
    wire::put_bytes(&mut entry, 2, actor.as_bytes());
    wire::put_bytes(&mut more, annotations, &entry);
    read.with(&more)
}

/// Whether an update creates a revision that stores annotations.
fn is_kept(update: &[u8]) -> bool {
    let makes_one = wire::has(update, POLICY) || wire::has(update, MERGE_OPERATIONS);
    makes_one && !wire::flag(update, GLOBAL)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prost::Message;

    use super::*;
    use crate::access::policy::{self, UPSTREAM_V0_1};
    use crate::pb::v0_0::openshell::sandbox::v1 as sandbox;
    use crate::pb::v0_0::openshell::v1::UpdateConfigRequest as Update;
    use crate::pb::v0_1::openshell::v1::CreateSandboxRequest as Create;

    fn guard(method: &str) -> &'static Guard {
        let path = format!("/openshell.v1.OpenShell/{method}");
        policy::upstream(UPSTREAM_V0_1, &path).and_then(|row| row.guard.as_ref()).unwrap()
    }

    fn map(key: &str) -> BTreeMap<String, String> {
        [(key.to_owned(), "x".to_owned())].into()
    }

    fn read(message: &[u8]) -> Read {
        Read::of(crate::upstream::message::framed(message))
    }

    #[test]
    fn the_actor_annotation_is_added_and_the_rest_is_unchanged() {
        let policy = Some(sandbox::SandboxPolicy { version: 1, ..Default::default() });
        let update =
            Update { name: "one".into(), policy, annotations: map("team"), ..Default::default() };
        let bytes = update.encode_to_vec();
        let sent = signed(guard("UpdateConfig"), read(&bytes), "sp:ci").unwrap();
        assert!(sent.message().starts_with(&bytes));
        let mut expected = update;
        expected.annotations.insert("shoreguard/actor".into(), "sp:ci".into());
        assert_eq!(Update::decode(sent.message()).unwrap(), expected);
        let framed = crate::upstream::message::framed(sent.message());
        assert_eq!(sent.bytes, framed, "the prefix counts what goes on");

        let create = Create { name: "one".into(), ..Default::default() };
        let sent = signed(guard("CreateSandbox"), read(&create.encode_to_vec()), "ana@example.com")
            .unwrap();
        let sent = Create::decode(sent.message()).unwrap();
        assert_eq!(sent.annotations["shoreguard/actor"], "ana@example.com");
    }

    #[test]
    fn a_request_without_annotations_is_forwarded_unchanged() {
        let setting = Update { setting_key: "ocsf_json_enabled".into(), ..Default::default() };
        let bytes = setting.encode_to_vec();
        assert_eq!(signed(guard("UpdateConfig"), read(&bytes), "sp:ci").unwrap().message(), bytes);
        let policy = Some(sandbox::SandboxPolicy { version: 1, ..Default::default() });
        let global = Update { global: true, policy, ..Default::default() };
        let bytes = global.encode_to_vec();
        assert_eq!(signed(guard("UpdateConfig"), read(&bytes), "sp:ci").unwrap().message(), bytes);
        assert_eq!(signed(guard("DeleteSandbox"), read(&bytes), "sp:ci").unwrap().message(), bytes);
    }

    #[test]
    fn t19_callers_cannot_set_shoreguard_annotations() {
        for key in ["shoreguard/actor", "shoreguard/other", "Shoreguard/Actor"] {
            let update = Update { annotations: map(key), ..Default::default() };
            let refused =
                refuse_forged(guard("UpdateConfig"), &update.encode_to_vec()).unwrap_err();
            assert!(refused.to_string().starts_with("`annotations` must have no key"), "{key}");
            let create = Create { annotations: map(key), ..Default::default() };
            refuse_forged(guard("CreateSandbox"), &create.encode_to_vec()).unwrap_err();
        }
        let fine = Update { annotations: map("team"), ..Default::default() };
        refuse_forged(guard("UpdateConfig"), &fine.encode_to_vec()).unwrap();
    }

    #[test]
    fn a_request_that_exceeds_the_limit_with_the_annotation_is_refused() {
        let mut large = Vec::new();
        wire::put_bytes(
            &mut large,
            POLICY,
            &vec![0; crate::upstream::message::MESSAGE_BYTES_MAX - 8],
        );
        let refused = signed(guard("UpdateConfig"), read(&large), "sp:ci").unwrap_err();
        assert!(refused.to_string().contains("1048576 bytes"), "{refused}");
    }
}
