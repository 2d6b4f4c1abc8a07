//! Removes the rules of one scope on the server's host, so that no rule is permanent: `shoreguard admin unlock`.
//!
//! Invariants
//! - rules of exactly the named scope are removed, never those of a wider or narrower one;
//! - all of them are removed in one transaction, or none, with the events of the same removals through the API.

pub mod domain;
