//! Recording of the audit log: who did what, kept before it happens and closed once after.
//!
//! Invariants
//! - an intent is durable before anything happens; where it can't be stored, nothing happens;
//! - intent columns never change, outcome columns are written once;
//! - nothing secret is kept: no bodies, only a keyed digest of a request without its secrets.

mod anonymous;
mod batch;
pub mod recorder;
pub mod refused_writes;
mod repeats;
mod unclaimed;
mod upsert;
mod writer;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::access::action::Action;
use crate::access::policy::About;
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::types::{AuditId, NamedGateway};
use crate::digest::Digest;
use crate::role::Role;
use crate::words;

/// What is about to happen, or was refused.
#[derive(Debug, Clone)]
pub struct Intent {
    /// When it began.
    pub at: Timestamp,
    /// Who calls: an e-mail address, `sp:` and a name, or `anonymous`.
    pub actor: Arc<str>,
    /// Who calls, for good.
    pub principal: Option<PrincipalId>,
    /// The role that the caller has there.
    pub role: Role,
    /// What is done.
    pub action: Action,
    /// Which one; cut at 253 characters.
    pub resource_id: String,
    /// The gateway concerned.
    pub gateway: Option<NamedGateway>,
    /// Where the call comes from.
    pub client_ip: Option<IpAddr>,
    /// As in the log.
    pub request_id: Uuid,
    /// Path of the method.
    pub method: Arc<str>,
    /// Keyed digest of the request without its secrets.
    pub digest: Option<Digest>,
    /// What else is known before it happens.
    pub detail: Option<serde_json::Value>,
}

impl Intent {
    /// An intent of nobody, outside any call: to be filled in with what is known.
    #[must_use]
    pub fn new(at: Timestamp, about: About) -> Self {
        Self {
            at,
            actor: "anonymous".into(),
            principal: None,
            role: Role::None,
            action: about.action,
            resource_id: about.target,
            gateway: None,
            client_ip: None,
            request_id: Uuid::nil(),
            method: "".into(),
            digest: None,
            detail: None,
        }
    }
}

words! {
    /// How a call ended.
    pub enum Ending {
        /// It was done.
        Ok = "ok",
        /// The caller may not.
        Denied = "denied",
        /// It failed.
        Failed = "failed",
        /// The caller is not known; such entries are counts over a minute.
        Unauthenticated = "unauthenticated",
        /// Nobody knows: the process went away before it ended, or a gateway was asked and has not told.
        Unknown = "unknown",
    }
}

/// What is known when a call has ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// When it ended.
    pub at: Timestamp,
    /// How.
    pub ending: Ending,
    /// The gRPC status code.
    pub code: i32,
    /// How long it took.
    pub took: Duration,
    /// What else is known after it happened.
    pub detail: Option<serde_json::Value>,
    /// For streams: bytes from the caller and to the caller.
    pub bytes: Option<(u64, u64)>,
    /// What it was about, where only its end tells: the name that a gateway gave. Cut at 253 characters.
    pub target: Option<String>,
}

impl Outcome {
    /// The outcome of what took no time and has nothing to tell: to be filled in with what is known.
    #[must_use]
    pub fn new(at: Timestamp, ending: Ending, code: i32) -> Self {
        Self { at, ending, code, took: Duration::ZERO, detail: None, bytes: None, target: None }
    }
}

/// An intent that is stored and waits for its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenEntry {
    /// Id of the entry.
    pub id: AuditId,
}
