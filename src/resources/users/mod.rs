//! Users: people with an account.
//!
//! Invariants
//! - an e-mail address is unique, trimmed and in lower case;
//! - a password is kept as its bcrypt hash; each change moves `password_version`, and what was made from an older one
//!   is dead;
//! - where there is an active admin, there is one after every change.

pub mod admins;
pub mod changes;
pub mod domain;
pub mod invite;
pub mod rpc;
pub mod store;
