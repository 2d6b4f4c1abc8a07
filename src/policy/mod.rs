//! Policies of sandboxes as documents: YAML in and out, digests, differences, edits and presets.
//!
//! Everything works on the descriptors of either wire generation, so that no field can be forgotten. A [`Policy`] is
//! always in its canonical form: without the fields that only the gateway sets.
//!
//! Invariants
//! - what a document does not say is not guessed, and what it says is never dropped: an unknown key is refused;
//! - marks, by which a sandbox refuses private addresses for what an agent proposed, are part of digest and difference,
//!   and no document sets or removes them;
//! - equal policies have equal canonical forms, digests and documents;
//! - a field that this build does not know is reported, since an edited policy would lack it.

mod accepted;
mod canonical;
pub mod diff;
pub mod edits;
mod initial;
mod marks;
mod normal;
mod parse;
pub mod presets;
mod print;
mod read;
mod rules;
mod schema;
mod statics;
#[cfg(test)]
mod tests;
mod tree;
mod walk;
mod write;

use prost_reflect::DynamicMessage;
use shoreguard_proto::release::Generation;

pub use self::edits::{Edit, EditTarget, ExactTarget, PathAccess};
pub use self::initial::InitialPolicy;
pub use self::marks::LostMarks;
pub use self::parse::{DEPTH_MAX, DOCUMENT_BYTES_MAX};
pub use self::presets::{Preset, Presets};

use self::schema::FieldOwner;
use self::tree::Node;
use crate::error::{Error, Reason};

/// Maximum size of an encoded policy of a gateway, in bytes: its own limit, and as much again for the rules that it
/// adds for providers.
pub const POLICY_BYTES_MAX: usize = 512 << 10;

/// Prefix of rules that only the gateway adds.
const PROVIDER_PREFIX: &str = "_provider_";

/// Returns keys and values of the metadata of a document, as far as they are texts or whole numbers. It is parsed as by
/// [`Policy::from_yaml`]; its policy is not checked.
///
/// # Errors
/// Why the text cannot be parsed.
pub fn document_metadata(text: &str) -> Result<Vec<(String, String)>, String> {
    parse::parse(text).map(read::metadata)
}

/// A policy of one wire generation, in its canonical form.
#[derive(Debug, Clone)]
pub struct Policy {
    generation: Generation,
    message: DynamicMessage,
    encoded: Vec<u8>,
    unknown: Vec<String>,
}

impl Policy {
    /// Decodes a policy that a gateway sent.
    ///
    /// # Errors
    /// `POLICY_UNREADABLE` if it is too large or malformed.
    pub fn decode(generation: Generation, encoded: &[u8]) -> Result<Self, Error> {
        let bytes = encoded.len();
        if bytes > POLICY_BYTES_MAX {
            let why =
                format!("the policy has {bytes} bytes, and at most {POLICY_BYTES_MAX} are read");
            return Err(Error::refused(Reason::PolicyUnreadable, why));
        }
        DynamicMessage::decode(schema::policy(generation), encoded)
            .and_then(|message| Self::canonical(generation, message))
            .map_err(|error| {
                let why = format!("the policy does not fit generation {generation}: {error}");
                Error::refused(Reason::PolicyUnreadable, why)
            })
    }

    /// Parses a document: a policy file of the OpenShell command line, or a mapping with `policy` and `metadata`.
    ///
    /// # Errors
    /// `Invalid` for `field`, with the path in the document.
    pub fn from_yaml(generation: Generation, field: &str, text: &str) -> Result<Self, Error> {
        let document = parse::parse(text).map_err(|why| Error::invalid(field, why))?;
        let message = read::document(generation, document)
            .map_err(|why| Error::invalid(field, format!("is not valid: {why}")))?;
        Self::canonical(generation, message).map_err(Error::internal)
    }

    fn canonical(
        generation: Generation,
        mut message: DynamicMessage,
    ) -> Result<Self, prost::DecodeError> {
        let unknown = walk::unknown_parts(&message);
        canonical::clear_fields(&mut message, FieldOwner::Gateway);
        let encoded = canonical::encode(generation, &message)?;
        let message = DynamicMessage::decode(schema::policy(generation), encoded.as_slice())?;
        Ok(Self { generation, message, encoded, unknown })
    }

    /// Returns its wire generation.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Returns the canonical form.
    #[must_use]
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// Returns the digest of generation and canonical form, as 64 hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> String {
        canonical::digest(self.generation, &self.encoded)
    }

    /// Returns the policy as YAML, without marks.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        print::print(&write::policy(&self.message))
    }

    /// Returns a document with metadata, in the given order, and the policy without marks.
    #[must_use]
    pub fn to_document(&self, metadata: &[(&str, String)]) -> String {
        let entry = |(key, value): &(&str, String)| ((*key).to_owned(), Node::Text(value.clone()));
        let metadata = Node::Map(metadata.iter().map(entry).collect());
        let policy = write::policy(&self.message);
        let entries = vec![("metadata".to_owned(), metadata), ("policy".to_owned(), policy)];
        print::print(&Node::Map(entries))
    }

    /// Returns the paths of its marks.
    #[must_use]
    pub fn marks(&self) -> Vec<String> {
        walk::marks(&self.message)
    }

    /// Returns the policy with the marks that it has if it replaces `base`: those of endpoints of the same host, port
    /// and path, and of binaries of the same path, in any rule.
    ///
    /// # Errors
    /// `Internal`, which a policy in its canonical form does not cause.
    pub fn with_marks_of(&self, base: &Self) -> Result<Self, Error> {
        let mut message = self.message.clone();
        marks::keep(&base.message, &mut message);
        let marked = Self::canonical(self.generation, message).map_err(Error::internal)?;
        Ok(Self { unknown: self.unknown.clone(), ..marked })
    }

    /// Returns the marks that `written` lacks; an empty value if the policies are equal. `None` if they differ in
    /// anything else.
    #[must_use]
    pub fn marks_lost_in(&self, written: &Self) -> Option<LostMarks> {
        if self.generation != written.generation {
            return None;
        }
        if self.encoded == written.encoded {
            return Some(LostMarks::default());
        }
        marks::lost(&self.message, &written.message)
    }

    /// Returns the paths of what the gateway sent and this build does not know. A document or a difference lacks it.
    #[must_use]
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// Refuses a policy of which a document or a difference would lack a part.
    ///
    /// # Errors
    /// `POLICY_UNREADABLE` with the path and number of an unknown field.
    pub fn require_known(self) -> Result<Self, Error> {
        let Some(first) = self.unknown.first() else { return Ok(self) };
        let why = format!("the policy has a part that this server does not know, at {first}");
        Err(Error::refused(Reason::PolicyUnreadable, why))
    }

    /// Whether two policies differ in spelling only, such as the case of a host or the order of endpoints. It serves as
    /// a hint and never decides what is sent.
    #[must_use]
    pub fn is_equivalent(&self, other: &Self) -> bool {
        normal::encode(self.generation, &self.message)
            .is_some_and(|own| normal::encode(other.generation, &other.message) == Some(own))
    }
}
