//! Who holds which role on which gateway, and the feed of the access snapshot.
pub mod domain;
