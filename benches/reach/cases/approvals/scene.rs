//! A gateway whose policy changes need one vote, and changes of it, one after another.

use std::net::SocketAddr;
use std::time::Duration;

use shoreguard::pb::v1 as pb;
use shoreguard_simulator::{Generation, Simulator, SimulatorOptions};
use tokio::time::timeout;

use super::people::{addition, approve, govern, hire, policy, propose, state};
use crate::BoxError;
use crate::fleet::Admin;

const GATEWAY: &str = "edge";
/// Time for an approved review to end.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval at which a review is read until it has ended.
const POLL: Duration = Duration::from_millis(2);

/// The gateway, its author and its voter.
pub(super) struct Scene {
    pub(super) simulator: Simulator,
    author: Admin,
    voter: Admin,
    /// The host that each further proposal replaces, so that the policy does not grow.
    host: String,
    number: u32,
}

impl Scene {
    /// Registers a gateway that needs one vote, and puts a first policy into force.
    pub(super) async fn start(admin: &Admin, address: SocketAddr) -> Result<Self, BoxError> {
        let simulator = Simulator::start(SimulatorOptions::new(Generation::V0_1)).await?;
        simulator.seed_demo()?;
        admin.register(GATEWAY.to_owned(), simulator.addr()).await?;
        let author = hire(admin, address, "ana").await?;
        let voter = hire(admin, address, "ben").await?;
        govern(admin, GATEWAY, 1).await?;
        let host = "host-0.example".to_owned();
        let merge = pb::PolicyApplyMode::Merge;
        let (id, digest) = propose(&author, GATEWAY, addition(&host), merge).await?;
        let scene = Self { simulator, author, voter, host, number: 0 };
        scene.vote(id, digest).await?;
        scene.wait_applied(id).await?;
        Ok(scene)
    }

    /// Proposes the next policy. Returns the approval, and the digest to vote for.
    pub(super) async fn propose_next(&mut self) -> Result<(i64, String), BoxError> {
        self.number += 1;
        let next = format!("host-{}.example", self.number);
        let yaml = policy(&self.author, GATEWAY).await?.replace(&self.host, &next);
        self.host = next;
        propose(&self.author, GATEWAY, yaml, pb::PolicyApplyMode::Replace).await
    }

    /// Casts the vote that decides.
    pub(super) async fn vote(&self, id: i64, digest: String) -> Result<(), BoxError> {
        approve(&self.voter, id, digest).await
    }

    /// Waits until an approved policy is in force.
    pub(super) async fn wait_applied(&self, id: i64) -> Result<(), BoxError> {
        let ended = async {
            while state(&self.voter, id).await? != pb::ApprovalState::Applied {
                tokio::time::sleep(POLL).await;
            }
            Ok::<_, BoxError>(())
        };
        timeout(END_TIMEOUT, ended).await.map_err(|_| "the policy was not loaded")?
    }
}

/// Returns a percentile of sorted values.
pub(in crate::cases) fn percentile(sorted: &[f64], hundredths: usize) -> f64 {
    let at = (sorted.len() * hundredths / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(f64::NAN)
}
