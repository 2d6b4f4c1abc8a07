//! The changes of a round: how it is stored after one, and how it ends.

use serde_json::json;

use super::{Round, RoundState, events, store};
use crate::clock::Timestamp;
use crate::ctx::{Ctx, Tx};
use crate::db::Conn;
use crate::error::{Error, ResourceKind};
use crate::governance::Action;
use crate::outbox::{EventType, event_types};
use crate::resources::approvals::drafts::rejections::store as rejections;
use crate::resources::approvals::proposals::store as proposals;
use crate::resources::approvals::votes::store as votes;

/// Maximum length of the stored reason of an end, in characters.
pub const CLOSE_REASON_CHARACTERS_MAX: usize = 1_000;

/// How a round ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The change is in force.
    Applied,
    /// A voter rejected it.
    Rejected,
    /// It was withdrawn, or its sandbox or gateway was deleted.
    Withdrawn,
    /// A clock ended it.
    Expired,
    /// Its content was replaced, or what it is based on has changed.
    Superseded,
    /// It could not be written or loaded.
    Failed,
}

impl Ending {
    /// Returns the state afterwards.
    #[must_use]
    pub fn state(self) -> RoundState {
        match self {
            Self::Applied => RoundState::Applied,
            Self::Rejected => RoundState::Rejected,
            Self::Withdrawn => RoundState::Withdrawn,
            Self::Expired => RoundState::Expired,
            Self::Superseded => RoundState::Superseded,
            Self::Failed => RoundState::Failed,
        }
    }

    /// Returns whether the gateway is asked to reject the draft.
    fn rejects_draft(self) -> bool {
        match self {
            Self::Rejected | Self::Expired => true,
            Self::Applied | Self::Withdrawn | Self::Superseded | Self::Failed => false,
        }
    }

    /// Returns the event of it. `None` for an end that another event reports.
    fn event_type(self) -> Option<EventType> {
        match self {
            Self::Applied => None,
            Self::Rejected => Some(event_types::APPROVAL_REJECTED),
            Self::Withdrawn => Some(event_types::APPROVAL_WITHDRAWN),
            Self::Expired => Some(event_types::APPROVAL_EXPIRED),
            Self::Superseded => Some(event_types::APPROVAL_SUPERSEDED),
            Self::Failed => Some(event_types::APPROVAL_FAILED),
        }
    }
}

/// Stores a changed round. The version of `round` is incremented here.
///
/// # Errors
/// `CONCURRENT_CHANGE` if the stored round has changed since it was read.
pub async fn save(conn: &mut Conn, round: &mut Round) -> Result<(), Error> {
    round.version += 1;
    round.due_at = round.next_due();
    if store::save(conn, round).await? {
        return Ok(());
    }
    Err(Error::conflict(ResourceKind::Approval, round.id))
}

/// Ends a round: clears its votes and its proposal, and emits the event. The rejection or expiry of a draft is sent to
/// its gateway later.
///
/// # Errors
/// `Internal` if it has ended already, and those of [`save`].
pub async fn close(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    round: &mut Round,
    ending: Ending,
    reason: &str,
    now: Timestamp,
) -> Result<(), Error> {
    if round.state.is_closed() {
        return Err(Error::internal("a round that has ended was ended again"));
    }
    round.state = ending.state();
    round.closed_at = Some(now);
    let reason: String = reason.chars().take(CLOSE_REASON_CHARACTERS_MAX).collect();
    round.progress.close_reason = (!reason.is_empty()).then_some(reason);
    save(tx, round).await?;
    clear(tx, round, now).await?;
    if round.action == Action::DraftApprove && ending.rejects_draft() {
        let reason = round.progress.close_reason.as_deref().unwrap_or_default();
        rejections::insert(tx, round, reason).await?;
    }
    let Some(event_type) = ending.event_type() else { return Ok(()) };
    let more = json!({ "reason": round.progress.close_reason });
    events::emit(ctx, tx, event_type, round, more).await
}

/// Clears the votes and the proposal of a round.
///
/// # Errors
/// Those of the database.
pub async fn clear(conn: &mut Conn, round: &Round, now: Timestamp) -> Result<(), Error> {
    votes::clear_all(conn, round, now).await?;
    proposals::clear(conn, round, now).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ending_closes_the_round() {
        for ending in [
            Ending::Applied,
            Ending::Rejected,
            Ending::Withdrawn,
            Ending::Expired,
            Ending::Superseded,
            Ending::Failed,
        ] {
            assert!(ending.state().is_closed(), "{ending:?}");
        }
    }
}
