//! Connections that we open to others.
//!
//! Invariants
//! - an address is judged when it is connected to, never when it is stored: a name may resolve to another one later;
//! - of a name every address must be allowed, and only the judged ones are connected to;
//! - what went wrong inside is logged here, once; the error names the host and no more.

pub mod connect;
pub mod guard;
pub mod http;
pub mod names;
