//! Pins and approval workflows as they are stored, for all that judge them: the gate, and changes of pins and of
//! workflows.
//!
//! Invariants
//! - a rule that this version cannot read, or of which it does not know what it applies to, is a doubt, and never left
//!   out.

pub mod domain;
pub mod store;
