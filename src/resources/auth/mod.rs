//! Setup, login, and the identity of the caller.
//!
//! Invariants
//! - there is no default password and no open setup: creating the first admin requires the token that the server
//!   printed;
//! - a login takes the same time whether or not the account exists;
//! - a wrong password stores nothing but a failure count that decays: see `budget`;
//! - `sessions` defines sessions and when they end;
//! - users of an OIDC issuer log in only by the rules of `oidc`, devices only by those of `device`;
//! - the keys that sign tokens are sealed in the database and shared by all replicas.

pub mod device;
pub mod domain;
pub mod keys;
pub mod messages;
pub mod oidc;
pub mod rpc;
pub mod setup;
pub mod store;
pub mod worker;
