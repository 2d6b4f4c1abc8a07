//! Users: people with an account.
//!
//! Invariants
//! - an e-mail address is unique, trimmed and in lower case;
//! - a password is stored as its bcrypt hash; each change increments `password_version`, which invalidates all
//!   credentials made from an older one;
//! - if there is an active admin, there is one after every change.

pub mod admins;
pub mod changes;
pub mod domain;
pub mod invite;
pub mod rpc;
pub mod store;
