//! Background work.
//!
//! Invariants
//! - one holder at a time: a worker holds a [`lease`], and proves it inside the transaction in which it writes.

pub mod lease;
