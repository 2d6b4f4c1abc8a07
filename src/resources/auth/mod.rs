//! Setting up, logging in, and asking who one is.
//!
//! Invariants
//! - there is no default password and no open set-up: the first admin takes the token that the server printed;
//! - a login costs the same whether or not the account exists;
//! - a wrong guess stores nothing but its count, which fades: see `budget`;
//! - what a session is and when it ends stands in `sessions`;
//! - whom an issuer of OIDC vouches for comes in as `oidc` says, and no other way;
//! - keys that tokens are signed with are sealed in the database and shared by replicas.

pub mod domain;
pub mod keys;
pub mod oidc;
pub mod rpc;
pub mod setup;
pub mod store;
pub mod worker;
