//! Reads the chunks of a sandbox with the policy that they would change.
//!
//! Invariant: the sandbox is read first, the newest revision second, and the chunks last: a review that is computed from
//! them is compared again before anything is sent.

use futures_util::future::BoxFuture;

use super::content::DraftContent;
use crate::db::types::SandboxName;
use crate::error::{Error, Reason};
use crate::openshell::Gateway;
use crate::openshell::drafts::{DraftChunk, DraftList, DraftStatus};
use crate::policy::Policy;
use crate::resources::approvals::proposals::candidate;

/// The policy of a sandbox that its chunks would change.
#[derive(Debug)]
pub struct DraftBase {
    /// The gateway's id of the sandbox.
    pub sandbox_id: String,
    /// The newest version of the policy.
    pub version: u32,
    /// The policy of that version.
    pub policy: Policy,
}

impl DraftBase {
    /// Returns what is reviewed of a chunk.
    ///
    /// # Errors
    /// Those of [`DraftContent::of`].
    pub fn content(&self, chunk: &DraftChunk) -> Result<DraftContent, Error> {
        DraftContent::of(&self.policy, chunk)
    }
}

/// Reads the policy that chunks of a sandbox would change.
///
/// # Errors
/// `NOT_FOUND` if the sandbox does not exist, `POLICY_UNREADABLE` if its newest revision cannot be read in full; those
/// of the calls.
pub fn base<'a>(
    gateway: &'a Gateway,
    sandbox: &'a SandboxName,
) -> BoxFuture<'a, Result<DraftBase, Error>> {
    Box::pin(async move {
        let sandbox_id = gateway.get_sandbox(sandbox).await?.id;
        let newest = candidate::newest(gateway, sandbox).await?;
        let policy = candidate::decode(gateway.generation(), newest.policy.as_ref())?;
        Ok(DraftBase { sandbox_id, version: newest.version, policy: policy.require_known()? })
    })
}

/// Reads a chunk of a sandbox in any status, and the policy that it would change. Returns `None` if the sandbox has no
/// chunk of that id.
///
/// # Errors
/// Those of [`base`]; `DRAFTS_OVERFLOW` if the chunks of the sandbox are larger than a message can be.
pub fn chunk<'a>(
    gateway: &'a Gateway,
    sandbox: &'a SandboxName,
    id: &'a str,
) -> BoxFuture<'a, Result<Option<(DraftBase, DraftChunk)>, Error>> {
    Box::pin(async move {
        let base = base(gateway, sandbox).await?;
        let DraftList::Complete(chunks) = gateway.draft_chunks(sandbox, DraftStatus::Any).await?
        else {
            return Err(overflowing(sandbox));
        };
        let found = chunks.into_iter().find(|chunk| chunk.id == id);
        Ok(found.map(|chunk| (base, chunk)))
    })
}

/// Returns the error for drafts that cannot be read because there are too many.
#[must_use]
pub fn overflowing(sandbox: &SandboxName) -> Error {
    let why = format!(
        "the drafts of `{sandbox}` are larger than what is read at once (16 MiB): clear them, or stop the sandbox"
    );
    Error::refused(Reason::DraftsOverflow, why)
}
