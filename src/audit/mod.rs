//! The audit log. An intent is stored before the action, and its entry is closed once afterwards.
//!
//! Invariants
//! - an intent is durable before the action; if it cannot be stored, the action does not happen;
//! - intent columns are never changed, outcome columns are written once;
//! - secrets are not stored: no bodies, only a keyed digest of a request without its secrets.

mod batch;
mod json;
pub mod recorder;
mod refusal_counts;
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
use crate::access::policy::AuditSubject;
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::types::{AuditId, NamedGateway};
use crate::digest::Digest;
use crate::role::Role;
use crate::words;

/// An action that is about to happen, or was refused.
#[derive(Debug, Clone)]
pub struct Intent {
    /// Time at which the call began.
    pub at: Timestamp,
    /// Name of the caller: an e-mail address, `sp:` and a name, or `anonymous`.
    pub actor: Arc<str>,
    /// Identifies the caller permanently.
    pub principal: Option<PrincipalId>,
    /// The role of the caller in the scope of the call.
    pub role: Role,
    /// The audit action.
    pub action: Action,
    /// Target of the action; cut at 253 characters.
    pub resource_id: String,
    /// The gateway concerned.
    pub gateway: Option<NamedGateway>,
    /// Client address.
    pub client_ip: Option<IpAddr>,
    /// Id of the call, as in the log.
    pub request_id: Uuid,
    /// Path of the method.
    pub method: Arc<str>,
    /// Keyed digest of the request without its secrets.
    pub digest: Option<Digest>,
    /// Further details that are known before the action.
    pub detail: Option<serde_json::Value>,
}

impl Intent {
    /// Returns an intent without a caller, outside any call. The caller of this function sets the fields that it knows.
    #[must_use]
    pub fn new(at: Timestamp, about: AuditSubject) -> Self {
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
        /// It succeeded.
        Ok = "ok",
        /// The caller has no permission.
        Denied = "denied",
        /// It failed.
        Failed = "failed",
        /// The caller is not authenticated; such an entry is a count over one minute.
        Unauthenticated = "unauthenticated",
        /// The outcome is unknown: the process ended before the call did, or a gateway did not respond.
        Unknown = "unknown",
    }
}

/// The result of a call that has ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Time at which it ended.
    pub at: Timestamp,
    /// How it ended.
    pub ending: Ending,
    /// The gRPC status code.
    pub code: i32,
    /// Duration.
    pub took: Duration,
    /// Further details that are known after the action.
    pub detail: Option<serde_json::Value>,
    /// For streams: bytes from the caller and to the caller.
    pub bytes: Option<(u64, u64)>,
    /// The target, if it is known only at the end: the name that a gateway chose. Cut at 253 characters.
    pub target: Option<String>,
}

impl Outcome {
    /// Returns an outcome without duration and details. The caller of this function sets the fields that it knows.
    #[must_use]
    pub fn new(at: Timestamp, ending: Ending, code: i32) -> Self {
        Self { at, ending, code, took: Duration::ZERO, detail: None, bytes: None, target: None }
    }
}

/// A stored intent that waits for its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenEntry {
    /// Id of the entry.
    pub id: AuditId,
}
