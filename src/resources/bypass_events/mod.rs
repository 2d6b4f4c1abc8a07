//! Bypass events: log lines of sandboxes that show an attempt to bypass the policy. Followers read the lines.
//!
//! `ocsf` parses lines and `classify` judges them, both without a database. `domain` stores and announces what was
//! found, and lists it. `refused` is about lines that show no bypass: connections that the policy has refused.
//!
//! Invariants
//! - a line is stored once, however often it is read;
//! - an event is emitted in the transaction that stores the first line, then at most once a minute for a sandbox and
//!   technique;
//! - of each sandbox, a bounded number of lines is stored, and those that are not are counted;
//! - of each gateway, a bounded number of lines and notices is stored, and those that were stored first are deleted;
//! - texts are untrusted: they are bounded and have no control characters (T20);
//! - what of a URL can be a credential is not stored: user, password, query and fragment.

pub mod classify;
pub mod domain;
pub mod ocsf;
pub mod refused;
pub mod store;
pub mod worker;
