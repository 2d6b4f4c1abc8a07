//! Removes the rules of one scope on the server's host, so that no rule is permanent: `shoreguard admin unlock`.
//!
//! Invariants
//! - rules of exactly the named scope are removed, never those of a wider or narrower one;
//! - each removal is a transaction of its own, with the event of the same removal through the API.

pub mod domain;
pub mod store;
