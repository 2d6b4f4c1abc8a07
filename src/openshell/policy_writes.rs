//! Replaces the policy of a sandbox.
//!
//! Invariants
//! - a write is sent once, and without a request id: a gateway stores the ids of failed calls permanently, and accepts
//!   few per caller;
//! - the bytes of the policy are sent as they are given.

use std::collections::BTreeMap;
use std::time::Duration;

use super::sandbox::map_not_found;
use super::{Gateway, Generation, v0_0, v0_1};
use crate::db::types::SandboxName;
use crate::error::Error;

const UPDATE: &str = "/openshell.v1.OpenShell/UpdateConfig";

/// Field of the policy in an update. Both generations have it.
pub(super) const POLICY_FIELD: u32 = 2;

/// A policy to write.
#[derive(Debug, Clone, Copy)]
pub struct PolicyWrite<'a> {
    /// The sandbox.
    pub sandbox: &'a SandboxName,
    /// The complete policy, encoded for the generation of the gateway.
    pub policy: &'a [u8],
    /// Resource version of the sandbox. The gateway refuses the write if it has changed.
    pub expected_resource_version: u64,
    /// Stored with the revision.
    pub annotations: &'a BTreeMap<String, String>,
}

/// The newest revision after a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenRevision {
    /// Its version.
    pub version: u32,
    /// Hash of the policy, which only the gateway can compute.
    pub policy_hash: String,
}

impl Gateway {
    /// Returns the request of a write.
    #[must_use]
    pub fn encode_policy_write(&self, write: &PolicyWrite<'_>) -> Vec<u8> {
        match self.generation() {
            Generation::V0_0 => v0_0::encode_policy_write(write),
            Generation::V0_1 => v0_1::encode_policy_write(write),
        }
    }

    /// Writes a policy, `until` a time of the clock that includes sleep. Unless the error says so, a failed call may have
    /// written it.
    ///
    /// # Errors
    /// `NOT_FOUND` if the sandbox does not exist, `DEADLINE_EXCEEDED` if the gateway has not responded in time.
    pub async fn write_policy(
        &self,
        write: &PolicyWrite<'_>,
        until: Duration,
    ) -> Result<WrittenRevision, Error> {
        let request = self.encode_policy_write(write);
        let answer = self.unary_until(UPDATE, &request, until).await;
        let answer = answer.map_err(map_not_found(write.sandbox))?;
        let written = match self.generation() {
            Generation::V0_0 => v0_0::decode_policy_written(&answer),
            Generation::V0_1 => v0_1::decode_policy_written(&answer),
        };
        written.ok_or_else(|| self.unreadable(UPDATE))
    }
}
