//! The canonical form of a policy, by which it is identified and sent.
//!
//! Invariants
//! - it has no field that only the gateway sets, and no default value; marks are part of it;
//! - map entries are sorted by key and lists keep their order, so that equal policies have equal bytes.

use prost::{DecodeError, Message as _};
use prost_reflect::{DynamicMessage, ReflectMessage};
use sha2::{Digest as _, Sha256};
use shoreguard_proto::release::Generation;
use shoreguard_proto::{v0_0, v0_1};

use super::schema::{self, FieldOwner};
use super::walk;
use crate::seal;

/// Separates digests of policies from other digests.
const DIGEST_DOMAIN: &[u8] = b"shoreguard.policy.v1\0";

/// Clears the fields of an owner, at any depth.
pub(super) fn clear_fields(message: &mut DynamicMessage, of: FieldOwner) {
    let descriptor = message.descriptor();
    for field in descriptor.fields().filter(|field| schema::owner(field) == of) {
        message.clear_field(&field);
    }
    for (_, value) in message.fields_mut() {
        walk::for_messages_mut(value, &mut |message| clear_fields(message, of));
    }
}

/// Encodes a policy without unknown fields. The generated types keep maps sorted by key.
pub(super) fn encode(
    generation: Generation,
    message: &DynamicMessage,
) -> Result<Vec<u8>, DecodeError> {
    match generation {
        Generation::V0_0 => {
            let typed: v0_0::openshell::sandbox::v1::SandboxPolicy = message.transcode_to()?;
            Ok(typed.encode_to_vec())
        }
        Generation::V0_1 => {
            let typed: v0_1::openshell::sandbox::v1::SandboxPolicy = message.transcode_to()?;
            Ok(typed.encode_to_vec())
        }
    }
}

/// Returns the digest of a canonical form.
pub(super) fn digest(generation: Generation, canonical: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(DIGEST_DOMAIN);
    hash.update(generation.as_str());
    hash.update(b"\0");
    hash.update(canonical);
    seal::hex(&hash.finalize())
}
