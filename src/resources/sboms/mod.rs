//! SBOMs: the software that a sandbox contains, one CycloneDX document per sandbox, searchable over the fleet.
//!
//! Invariants
//! - a document is stored byte for byte and parsed once, when it is uploaded: lists never parse it again;
//! - a new document replaces the older one in one transaction, and is deleted with its sandbox or gateway;
//! - every query of one SBOM has gateway, workspace and sandbox in its WHERE clause, besides the id (T08);
//! - rows are computed by numbered rules: those of older rules are computed again before they are read;
//! - the number of documents that are received and parsed at once is limited, and parsing runs on blocking threads.

pub mod cyclonedx;
pub mod diff;
pub mod domain;
mod ingest;
pub mod intake;
pub mod lists;
pub mod place;
mod purl;
pub mod recompute;
pub mod rows;
pub mod rpc;
pub mod search;
pub mod store;
pub mod version;
pub mod worker;
