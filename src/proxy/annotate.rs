//! Adds an annotation with the actor to sandbox creations and policy changes, so that the gateway stores who made them.
//!
//! Invariants
//! - the checked message is forwarded unchanged, followed by one map entry: of two entries with the same key the last
//!   one counts, and a caller's entry under Shoreguard's prefix was rejected before;
//! - the entry is always the same for an actor, so that a change without effect creates no revision;
//! - a setting change has no revision that could store an annotation, and is forwarded unchanged;
//! - so is a change for the whole gateway: gateways accept annotations only for sandboxes.

use super::update_config;
use crate::access::policy::UpstreamPolicy;
use crate::error::Error;
use crate::openshell::annotation;
use crate::pb::wire::{self, FieldReader, FieldValue};
use crate::upstream::message::ReadRequest;

/// Rejects annotations with which the caller could impersonate another actor (T19).
///
/// # Errors
/// `INVALID_FIELD` of `annotations`.
pub(super) fn reject_forged(guard: &UpstreamPolicy, message: &[u8]) -> Result<(), Error> {
    let Some(annotations) = guard.annotations else { return Ok(()) };
    let mut fields = FieldReader::new(message);
    while let Ok(Some((number, value))) = fields.next_field() {
        let (true, FieldValue::Bytes(entry)) = (number == annotations, value) else { continue };
        if wire::text_at(entry, &[1]).is_some_and(annotation::is_reserved) {
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
pub(super) fn add_actor(
    guard: &UpstreamPolicy,
    read: ReadRequest,
    actor: &str,
) -> Result<ReadRequest, Error> {
    let Some(annotations) = guard.annotations else { return Ok(read) };
    if guard.config_change && !update_config::creates_revision(read.message()) {
        return Ok(read);
    }
    let (mut entry, mut more) = (Vec::new(), Vec::new());
    wire::put_bytes(&mut entry, 1, annotation::ACTOR.as_bytes());
    wire::put_bytes(&mut entry, 2, actor.as_bytes());
    wire::put_bytes(&mut more, annotations, &entry);
    read.append(&more)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prost::Message;

    use super::*;
    use crate::pb::v0_0::openshell::sandbox::v1 as sandbox;
    use crate::pb::v0_0::openshell::v1::UpdateConfigRequest as Update;
    use crate::pb::v0_1::openshell::v1::CreateSandboxRequest as Create;
    use crate::proxy::openshell_policy;
    use crate::upstream::generation::Generation;

    fn guard(method: &str) -> &'static UpstreamPolicy {
        openshell_policy(Generation::V0_1, method)
    }

    fn map(key: &str) -> BTreeMap<String, String> {
        [(key.to_owned(), "x".to_owned())].into()
    }

    fn read(message: &[u8]) -> ReadRequest {
        ReadRequest::from_message(crate::upstream::message::encode_frame(message))
    }

    #[test]
    fn the_actor_annotation_is_added_and_the_rest_is_unchanged() {
        let policy = Some(sandbox::SandboxPolicy { version: 1, ..Default::default() });
        let update =
            Update { name: "one".into(), policy, annotations: map("team"), ..Default::default() };
        let bytes = update.encode_to_vec();
        let sent = add_actor(guard("UpdateConfig"), read(&bytes), "sp:ci").unwrap();
        assert!(sent.message().starts_with(&bytes));
        let mut expected = update;
        expected.annotations.insert("shoreguard/actor".into(), "sp:ci".into());
        assert_eq!(Update::decode(sent.message()).unwrap(), expected);
        let framed = crate::upstream::message::encode_frame(sent.message());
        assert_eq!(sent.bytes, framed, "the prefix is the length of the forwarded message");

        let create = Create { name: "one".into(), ..Default::default() };
        let sent =
            add_actor(guard("CreateSandbox"), read(&create.encode_to_vec()), "ana@example.com")
                .unwrap();
        let sent = Create::decode(sent.message()).unwrap();
        assert_eq!(sent.annotations["shoreguard/actor"], "ana@example.com");
    }

    #[test]
    fn a_request_without_annotations_is_forwarded_unchanged() {
        let setting = Update { setting_key: "ocsf_json_enabled".into(), ..Default::default() };
        let bytes = setting.encode_to_vec();
        assert_eq!(
            add_actor(guard("UpdateConfig"), read(&bytes), "sp:ci").unwrap().message(),
            bytes
        );
        let policy = Some(sandbox::SandboxPolicy { version: 1, ..Default::default() });
        let global = Update { global: true, policy, ..Default::default() };
        let bytes = global.encode_to_vec();
        assert_eq!(
            add_actor(guard("UpdateConfig"), read(&bytes), "sp:ci").unwrap().message(),
            bytes
        );
        assert_eq!(
            add_actor(guard("DeleteSandbox"), read(&bytes), "sp:ci").unwrap().message(),
            bytes
        );
    }

    #[test]
    fn t19_callers_cannot_set_shoreguard_annotations() {
        for key in ["shoreguard/actor", "shoreguard/other", "Shoreguard/Actor"] {
            let update = Update { annotations: map(key), ..Default::default() };
            let refused =
                reject_forged(guard("UpdateConfig"), &update.encode_to_vec()).unwrap_err();
            assert!(refused.to_string().starts_with("`annotations` must have no key"), "{key}");
            let create = Create { annotations: map(key), ..Default::default() };
            reject_forged(guard("CreateSandbox"), &create.encode_to_vec()).unwrap_err();
        }
        let fine = Update { annotations: map("team"), ..Default::default() };
        reject_forged(guard("UpdateConfig"), &fine.encode_to_vec()).unwrap();
    }

    #[test]
    fn a_request_that_exceeds_the_limit_with_the_annotation_is_refused() {
        let mut large = Vec::new();
        wire::put_bytes(
            &mut large,
            update_config::field::POLICY,
            &vec![0; crate::upstream::message::MESSAGE_BYTES_MAX - 8],
        );
        let refused = add_actor(guard("UpdateConfig"), read(&large), "sp:ci").unwrap_err();
        assert!(refused.to_string().contains("1048576 bytes"), "{refused}");
    }
}
