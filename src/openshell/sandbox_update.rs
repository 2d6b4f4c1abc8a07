//! The change that an `UpdateConfig` of a client makes to a sandbox's policy. Both generations have the same fields.

use super::policy_writes::POLICY_FIELD;
use crate::error::{Error, Reason};
use crate::pb::wire::{self, FieldReader, FieldValue, MalformedMessage};

const MERGE_OPERATIONS_FIELD: u32 = 7;
const EXPECTED_RESOURCE_VERSION_FIELD: u32 = 8;

/// A change of a sandbox's policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxUpdate {
    /// The change.
    pub content: UpdateContent,
    /// Resource version of the sandbox that the client expects; 0 for any.
    pub expected_resource_version: u64,
}

/// The change of an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpdateContent {
    /// The encoded policy.
    Policy(Vec<u8>),
    /// A request that has only the merge operations.
    Operations(Vec<u8>),
}

impl SandboxUpdate {
    /// Reads a request that was parsed strictly: it has each field once, and either a policy or merge operations. Its
    /// annotations and its id are not read.
    ///
    /// # Errors
    /// `MALFORMED_MESSAGE`; `Invalid` if it has neither.
    pub fn read(request: &[u8]) -> Result<Self, Error> {
        let malformed = |MalformedMessage| {
            Error::refused(Reason::MalformedMessage, "the message cannot be decoded")
        };
        let (mut policy, mut operations, mut expected) = (None, Vec::new(), 0);
        let mut fields = FieldReader::new(request);
        while let Some(field) = fields.next_field().map_err(malformed)? {
            match field {
                (POLICY_FIELD, FieldValue::Bytes(encoded)) => policy = Some(encoded.to_vec()),
                (MERGE_OPERATIONS_FIELD, FieldValue::Bytes(operation)) => {
                    wire::put_bytes(&mut operations, MERGE_OPERATIONS_FIELD, operation);
                }
                (EXPECTED_RESOURCE_VERSION_FIELD, FieldValue::Varint(version)) => {
                    expected = version;
                }
                (_, _) => {}
            }
        }
        let content = match policy {
            Some(policy) => UpdateContent::Policy(policy),
            None if operations.is_empty() => {
                return Err(Error::invalid("policy", "is required, or `merge_operations`"));
            }
            None => UpdateContent::Operations(operations),
        };
        Ok(Self { content, expected_resource_version: expected })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_complete_policy_or_its_operations_alone() {
        let mut request = Vec::new();
        wire::put_bytes(&mut request, 1, b"box");
        assert!(SandboxUpdate::read(&request).is_err());
        wire::put_bytes(&mut request, MERGE_OPERATIONS_FIELD, b"a");
        wire::put_bytes(&mut request, 9, b"an annotation");
        wire::put_bytes(&mut request, MERGE_OPERATIONS_FIELD, b"b");
        wire::put_number(&mut request, EXPECTED_RESOURCE_VERSION_FIELD, 7);
        let mut operations = Vec::new();
        wire::put_bytes(&mut operations, MERGE_OPERATIONS_FIELD, b"a");
        wire::put_bytes(&mut operations, MERGE_OPERATIONS_FIELD, b"b");
        let read = SandboxUpdate::read(&request).unwrap();
        assert_eq!(read.content, UpdateContent::Operations(operations));
        assert_eq!(read.expected_resource_version, 7);
        wire::put_bytes(&mut request, POLICY_FIELD, b"p");
        let read = SandboxUpdate::read(&request).unwrap();
        assert_eq!(read.content, UpdateContent::Policy(b"p".to_vec()));
        assert!(SandboxUpdate::read(&[0xff]).is_err());
    }
}
