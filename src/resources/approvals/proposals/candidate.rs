//! The policy that a change leads to on a gateway now, with everything that a review of it is bound to.
//!
//! Invariants
//! - the sandbox is read first: if a revision is written while the rest is read, the candidate is based on a policy
//!   that is compared again before it is written;
//! - the revisions are read before the policy in force: some gateways write the first revision when the latter is read.

use bytes::Bytes;

use super::change::{self, PolicyChange};
use crate::ctx::Ctx;
use crate::db::types::SandboxName;
use crate::error::{Error, Reason, ResourceKind};
use crate::fair::LimitHolder;
use crate::openshell::policies::{PolicySource, Revision};
use crate::openshell::{Gateway, Generation};
use crate::policy::diff::{self, Difference};
use crate::policy::{Policy, Presets};

/// Maximum number of static parts that an error names.
const STATIC_PARTS_SHOWN: usize = 20;

/// The policy that a change leads to.
#[derive(Debug)]
pub struct Candidate {
    /// The gateway's id of the sandbox.
    pub sandbox_id: String,
    /// Resource version of the sandbox, before the rest was read.
    pub resource_version: u64,
    /// The newest revision, on which it was computed.
    pub base: Revision,
    /// The policy of that revision.
    pub base_policy: Policy,
    /// The policy that the change leads to.
    pub policy: Policy,
    /// What differs between them.
    pub differences: Vec<Difference>,
    is_up_to_date: bool,
    /// The gateway's hash of the policy in force.
    pub effective_hash: String,
    /// Whether the gateway has a policy for all sandboxes: it would refuse a change of one.
    pub is_global: bool,
}

impl Candidate {
    /// Returns whether the newest revision already has the content, apart from its spelling.
    #[must_use]
    pub fn is_up_to_date(&self) -> bool {
        self.is_up_to_date
    }

    /// Returns the etag of the newest revision.
    #[must_use]
    pub fn etag(&self) -> &str {
        &self.base.policy_hash
    }
}

/// Computes the policy that a change leads to, and checks that a running sandbox can get it. An empty etag is that of
/// the newest revision. The holder waits for its turn if the policies are large; without one, it is work of the server.
///
/// # Errors
/// `BUSY` if the holder has too many turns, `CONCURRENT_CHANGE` if the etag is stale, `Invalid` if the change does not
/// apply or no gateway accepts the result, `POLICY_STATIC` if a running sandbox cannot get it, `POLICY_UNREADABLE` if
/// the newest revision cannot be read in full, `NOT_FOUND` if the sandbox or a revision does not exist.
pub async fn compute(
    ctx: &Ctx,
    holder: Option<LimitHolder>,
    gateway: &Gateway,
    sandbox: &SandboxName,
    change: &PolicyChange,
    etag: &str,
) -> Result<Candidate, Error> {
    let found = gateway.get_sandbox(sandbox).await?;
    let base = newest(gateway, sandbox).await?;
    if !etag.is_empty() && etag != base.policy_hash {
        return Err(stale(sandbox, &base.policy_hash));
    }
    let generation = gateway.generation();
    let restored = restored(gateway, sandbox, change).await?;
    let bytes = size(&base) + restored.as_ref().map_or(0, size) + change.bytes();
    let (work, presets) = (&ctx.app().long_work, ctx.app().part::<Presets>());
    let computed = work
        .turn(holder, bytes)
        .await?
        .run(|| apply(generation, &base, restored.as_ref(), change, presets))?;
    let Computed { base_policy, policy, differences, is_up_to_date } = computed;
    if let Some(created) = gateway.creation_policy(sandbox).await? {
        let turn = work.turn(holder, created.len()).await?;
        turn.run(|| check_static(&policy, &Policy::decode(generation, &created)?))?;
    }
    let effective = gateway.effective_policy(sandbox).await?;
    Ok(Candidate {
        sandbox_id: found.id,
        resource_version: found.resource_version,
        base,
        base_policy,
        policy,
        differences,
        is_up_to_date,
        effective_hash: effective.policy_hash,
        is_global: effective.source == PolicySource::Gateway,
    })
}

/// The result of a change, compared with its base.
struct Computed {
    base_policy: Policy,
    policy: Policy,
    differences: Vec<Difference>,
    is_up_to_date: bool,
}

/// Applies a change to a revision. Its result is a policy that a gateway accepts.
fn apply(
    generation: Generation,
    base: &Revision,
    restored: Option<&Revision>,
    change: &PolicyChange,
    presets: &Presets,
) -> Result<Computed, Error> {
    let base_policy = known_policy(generation, base)?;
    let restored = restored.map(|revision| known_policy(generation, revision)).transpose()?;
    let policy = change::result(&base_policy, change, restored.as_ref(), presets)?;
    policy.check_accepted(change.field())?;
    let differences = diff::compare(&base_policy, &policy);
    let is_up_to_date = policy.is_equivalent(&base_policy);
    Ok(Computed { base_policy, policy, differences, is_up_to_date })
}

/// Decodes the policy of a revision, of which this server must know every part.
fn known_policy(generation: Generation, revision: &Revision) -> Result<Policy, Error> {
    decode(generation, revision.policy.as_ref())?.require_known()
}

/// Returns the size of the encoded policy of a revision, in bytes.
fn size(revision: &Revision) -> usize {
    revision.policy.as_ref().map_or(0, Bytes::len)
}

fn stale(sandbox: &SandboxName, present: &str) -> Error {
    let facts = [("etag", present.to_owned())];
    let why = format!("the policy of `{sandbox}` has changed; its etag is now `{present}`");
    Error::explained(Reason::ConcurrentChange, why, facts)
}

/// Returns the newest revision. Some gateways write the first one when the policy in force is read.
///
/// # Errors
/// `NOT_FOUND` if the sandbox does not exist; those of the call.
pub async fn newest(gateway: &Gateway, sandbox: &SandboxName) -> Result<Revision, Error> {
    match gateway.policy_revision(sandbox, 0).await {
        Ok((revision, _)) => Ok(revision),
        Err(Error::NotFound { kind: ResourceKind::PolicyRevision, .. }) => {
            gateway.effective_policy(sandbox).await?;
            Ok(gateway.policy_revision(sandbox, 0).await?.0)
        }
        Err(error) => Err(error),
    }
}

/// Decodes the policy of a revision.
///
/// # Errors
/// `POLICY_UNREADABLE` if the gateway did not send it, or it cannot be read.
pub fn decode(generation: Generation, sent: Option<&Bytes>) -> Result<Policy, Error> {
    let sent = sent.ok_or_else(|| {
        let why = "the gateway returned a revision without its policy";
        Error::refused(Reason::PolicyUnreadable, why)
    })?;
    Policy::decode(generation, sent)
}

/// Returns the revision that a change restores.
async fn restored(
    gateway: &Gateway,
    sandbox: &SandboxName,
    change: &PolicyChange,
) -> Result<Option<Revision>, Error> {
    let Some(version) = change.restored_version() else { return Ok(None) };
    let (revision, _) = gateway.policy_revision(sandbox, version).await?;
    Ok(Some(revision))
}

/// Refuses a policy that a running sandbox cannot get.
fn check_static(policy: &Policy, created: &Policy) -> Result<(), Error> {
    let parts = policy.static_changes(created);
    if parts.is_empty() {
        return Ok(());
    }
    let shown = parts.len().min(STATIC_PARTS_SHOWN);
    let rest = match parts.len() - shown {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let why = format!(
        "a running sandbox cannot change `{}`{rest}: delete it and create it with the other policy",
        parts[..shown].join("`, `")
    );
    let facts = parts.first().map(|path| ("path", path.clone()));
    Err(Error::explained(Reason::PolicyStatic, why, facts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(generation: Generation, text: &str) -> Policy {
        Policy::from_yaml(generation, "yaml", text).unwrap()
    }

    #[test]
    fn static_parts_are_named_up_to_a_limit() {
        let generation = Generation::V0_0;
        let paths: Vec<String> = (0..25).map(|n| format!("/p{n}")).collect();
        let created = format!("filesystem_policy: {{read_only: [{}]}}", paths.join(", "));
        let created = read(generation, &created);
        check_static(&created, &created).unwrap();
        let without = read(generation, "filesystem_policy: {read_write: [/tmp]}");
        let error = check_static(&without, &created).unwrap_err();
        let why = error.to_string();
        let Error::Explained { reason: Reason::PolicyStatic, facts, .. } = error else {
            panic!("{why}")
        };
        assert_eq!((facts.len(), facts[0].0), (1, "path"));
        assert!(why.contains(&facts[0].1), "{facts:?}");
        assert!(why.contains("read_only[\"/p0\"]`, `") && why.contains(" and 5 more"), "{why}");
        assert!(!why.contains("/p20"), "{why}");
    }
}
