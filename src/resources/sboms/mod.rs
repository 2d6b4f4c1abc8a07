//! SBOMs: what software a sandbox contains, one CycloneDX document each, searched over the fleet.
//!
//! Invariants
//! - the document is kept byte for byte, and read once, when it comes: no list opens it again;
//! - a new one takes the place of the one before in one transaction, and goes with its sandbox and its gateway;
//! - every query of one SBOM has gateway, workspace and sandbox in its WHERE clause, beside the id (T08);
//! - documents are received and read a bounded number at once, and not on a thread that others wait for.

pub mod cyclonedx;
pub mod difference;
pub mod domain;
pub mod intake;
pub mod lists;
pub mod place;
mod purl;
pub mod rows;
pub mod rpc;
pub mod search;
pub mod store;
mod taken;
pub mod version;
