//! Reads the policy of a sandbox on its gateway, to compare it and to determine the outcome of a write.
//!
//! Invariant: the resource version is read first. A revision that is written while the rest is read changes it, so that
//! the gateway refuses the write that expects it.

use std::sync::Arc;

use super::found::{ComparedRevision, SeenRevision};
use crate::app::App;
use crate::ctx::Ctx;
use crate::db::types::SandboxName;
use crate::error::{Error, ResourceKind};
use crate::openshell::policies::{PolicySource, Revision};
use crate::openshell::{Gateway, Generation, annotation};
use crate::policy::Policy;
use crate::resources::approvals::rounds::Round;

/// Maximum number of revisions after the base that are read. More of them were not written by one round.
const LATER_MAX: u32 = 50;

/// The policy of a sandbox, as its gateway has it.
#[derive(Debug, Clone)]
pub struct Live {
    /// The gateway's id of the sandbox.
    pub sandbox_id: String,
    /// Resource version of the sandbox, before the rest was read.
    pub resource_version: u64,
    /// The newest revision; `None` without a revision.
    pub newest: Option<SeenRevision>,
    /// The gateway's hash of the policy in force.
    pub effective_hash: String,
    /// Whether the gateway has a policy for all sandboxes.
    pub is_global: bool,
}

impl Live {
    /// Returns the version of the newest revision; 0 without a revision.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.newest.as_ref().map_or(0, |newest| newest.version)
    }
}

/// The result of comparing a round with its gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// Everything is as it was reviewed.
    Same,
    /// The policy of the sandbox is the candidate.
    AlreadyThere(SeenRevision),
    /// The sandbox is another one, of the same name.
    OtherSandbox,
    /// The reviewed content has changed, for this reason.
    Moved(&'static str),
}

impl Compared {
    /// Compares. `candidate` is the digest of the candidate.
    #[must_use]
    pub fn of(round: &Round, candidate: &str, live: &Live) -> Self {
        if round.sandbox_id.as_ref().is_some_and(|id| *id != live.sandbox_id) {
            return Self::OtherSandbox;
        }
        if let Some(newest) = live.newest.as_ref().filter(|newest| newest.digest == candidate) {
            return Self::AlreadyThere(newest.clone());
        }
        let is_base = match &live.newest {
            Some(newest) => round.base_digest.as_ref() == Some(&newest.digest),
            None => round.base_version.is_none_or(|version| version == 0),
        };
        if !is_base {
            return Self::Moved("the policy of the sandbox has changed since it was reviewed");
        }
        if round.effective_hash.as_ref().is_some_and(|hash| *hash != live.effective_hash) {
            return Self::Moved("the policy in force, with the rules of providers, has changed");
        }
        Self::Same
    }
}

/// Connects to the gateway of a round.
///
/// # Errors
/// Those of [`Gateway::connect`].
pub async fn connect(ctx: &Ctx) -> Result<Gateway, Error> {
    Ok(Gateway::connect(ctx.app(), ctx.required_gateway()?).await?.on_behalf_of(ctx))
}

/// Returns whether the gateway of a round is no longer registered.
#[must_use]
pub fn is_removed(app: &Arc<App>, round: &Round) -> bool {
    app.snapshot.check_fresh().is_ok()
        && app.snapshot.gateway_name(round.place.gateway.id).is_none()
}

/// Reads what the gateway has now.
///
/// # Errors
/// `NOT_FOUND` if the sandbox does not exist.
pub async fn read(gateway: &Gateway, sandbox: &SandboxName) -> Result<Live, Error> {
    let found = gateway.get_sandbox(sandbox).await?;
    let newest = match gateway.policy_revision(sandbox, 0).await {
        Ok((revision, _)) => {
            let policy = readable(gateway.generation(), &revision);
            Some(to_seen(revision, policy.as_ref()))
        }
        Err(Error::NotFound { kind: ResourceKind::PolicyRevision, .. }) => None,
        Err(error) => return Err(error),
    };
    let effective = gateway.effective_policy(sandbox).await?;
    Ok(Live {
        sandbox_id: found.id,
        resource_version: found.resource_version,
        newest,
        effective_hash: effective.policy_hash,
        is_global: effective.source == PolicySource::Gateway,
    })
}

/// Returns the newest revision and those after a version, newest first, compared with a candidate.
///
/// # Errors
/// `NOT_FOUND` if the sandbox does not exist.
pub async fn revisions_after(
    gateway: &Gateway,
    sandbox: &SandboxName,
    version: u32,
    candidate: &Policy,
) -> Result<Vec<ComparedRevision>, Error> {
    let revisions = full_revisions_after(gateway, sandbox, version).await?;
    let generation = gateway.generation();
    Ok(map_in_turns(revisions, |revision| compare(generation, revision, candidate)).await)
}

/// Returns the results of a function of each revision, in their order. Other tasks get their turn after each revision:
/// a gateway can send large policies.
pub(super) async fn map_in_turns<R, T>(revisions: Vec<R>, function: impl Fn(R) -> T) -> Vec<T> {
    let mut results = Vec::with_capacity(revisions.len());
    for revision in revisions {
        results.push(function(revision));
        tokio::task::yield_now().await;
    }
    results
}

fn compare(generation: Generation, revision: Revision, candidate: &Policy) -> ComparedRevision {
    let policy = readable(generation, &revision);
    let lost_marks = policy.as_ref().and_then(|policy| candidate.marks_lost_in(policy));
    ComparedRevision { seen: to_seen(revision, policy.as_ref()), lost_marks }
}

/// Does the same as [`revisions_after`], with the policies as the gateway sent them.
///
/// # Errors
/// `NOT_FOUND` if the sandbox does not exist.
pub async fn full_revisions_after(
    gateway: &Gateway,
    sandbox: &SandboxName,
    version: u32,
) -> Result<Vec<Revision>, Error> {
    let (page, _) = gateway.policy_revisions(sandbox, LATER_MAX, "").await?;
    let mut seen: Vec<Revision> = Vec::new();
    for revision in page {
        if revision.version <= version && !seen.is_empty() {
            break;
        }
        // Lists do not contain the policies of all gateways.
        let revision = match revision.policy {
            Some(_) => revision,
            None => gateway.policy_revision(sandbox, revision.version).await?.0,
        };
        seen.push(revision);
    }
    Ok(seen)
}

/// Returns the policy of a revision. `None` if it has no policy, or this build cannot read it.
pub(super) fn readable(generation: Generation, revision: &Revision) -> Option<Policy> {
    let decoded = Policy::decode(generation, revision.policy.as_ref()?);
    decoded.and_then(Policy::require_known).ok()
}

fn to_seen(revision: Revision, policy: Option<&Policy>) -> SeenRevision {
    SeenRevision {
        version: revision.version,
        policy_hash: revision.policy_hash,
        round: revision.provenance.get(annotation::ROUND).cloned(),
        // A policy that cannot be read has the digest of no other one.
        digest: policy.map(Policy::digest).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::poll;

    use super::super::samples::round;
    use super::*;

    fn live(digest: &str) -> Live {
        let newest = SeenRevision {
            version: 3,
            policy_hash: "hash".to_owned(),
            round: None,
            digest: digest.to_owned(),
        };
        Live {
            sandbox_id: "sandbox".to_owned(),
            resource_version: 9,
            newest: Some(newest),
            effective_hash: "effective".to_owned(),
            is_global: false,
        }
    }

    #[tokio::test]
    async fn other_tasks_get_their_turn_after_each_revision() {
        let mut work = pin!(map_in_turns(vec![3, 2, 1], |version| version * 10));
        for _ in 0..3 {
            assert!(poll!(work.as_mut()).is_pending());
        }
        assert_eq!(work.await, [30, 20, 10]);
    }

    #[test]
    fn g03_what_differs_from_what_was_reviewed_is_not_sent() {
        let round = round();
        let of = |live: &Live| Compared::of(&round, "candidate", live);
        assert_eq!(of(&live("base")), Compared::Same);
        assert!(matches!(of(&live("candidate")), Compared::AlreadyThere(_)));
        assert!(matches!(of(&live("other")), Compared::Moved(_)));
        assert!(matches!(of(&live("")), Compared::Moved(_)));
        assert!(matches!(of(&Live { newest: None, ..live("") }), Compared::Moved(_)));
        let effective_hash = "another".to_owned();
        assert!(matches!(of(&Live { effective_hash, ..live("base") }), Compared::Moved(_)));
        let sandbox_id = "next".to_owned();
        assert_eq!(of(&Live { sandbox_id, ..live("candidate") }), Compared::OtherSandbox);
    }
}
