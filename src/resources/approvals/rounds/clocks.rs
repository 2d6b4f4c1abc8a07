//! The clocks of a round: escalation, the end of voting, and the end of the time for the write.

use serde_json::json;

use super::close::{Ending, close, save};
use super::{Round, RoundState, events, next_escalation};
use crate::access::action::Action;
use crate::access::policy::AuditSubject;
use crate::audit::Intent;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, Tx};
use crate::error::Error;
use crate::outbox::event_types;
use crate::resources::approvals::apply::fail_points::{self, FailPoint};
use crate::resources::approvals::rules;

/// A clock that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// The voters of an escalation join.
    Escalation,
    /// Voting has ended.
    Expiry,
    /// The time for the write has passed.
    ApplyWindow,
}

/// Returns the clock of a round that is due. An end comes before an escalation.
#[must_use]
pub fn due(round: &Round, now: Timestamp) -> Option<Due> {
    let has_passed = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
    if round.state == RoundState::Open && has_passed(round.expires_at) {
        Some(Due::Expiry)
    } else if round.state == RoundState::Open && has_passed(round.unreported_escalation()) {
        Some(Due::Escalation)
    } else if round.state == RoundState::Approved && has_passed(round.progress.apply_by) {
        Some(Due::ApplyWindow)
    } else {
        None
    }
}

/// Ends a round whose time is over. Every transaction on a round begins with this or with [`apply`], under the lock of
/// its gateway. Returns whether it has ended. An end gets an audit entry of its own.
///
/// # Errors
/// Those of the database.
pub async fn end_if_due(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    round: &mut Round,
    now: Timestamp,
) -> Result<bool, Error> {
    let why = match due(round, now) {
        Some(Due::Expiry) => "it was not decided in time",
        Some(Due::ApplyWindow) => "it was approved, but not written in time",
        Some(Due::Escalation) | None => return Ok(false),
    };
    expire(ctx, tx, round, why, now).await?;
    Ok(true)
}

/// Does the same as [`end_if_due`], and reports an escalation that is due. Only for a transaction that then decides the
/// round by the votes that count with the voters who join: an escalation that was reported is not looked for again. The
/// next one is that of another rule in force. Those that are due at the same time are reported once.
///
/// # Errors
/// Those of the database.
pub async fn apply(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    round: &mut Round,
    now: Timestamp,
) -> Result<(), Error> {
    if due(round, now) != Some(Due::Escalation) {
        end_if_due(ctx, tx, round, now).await?;
        return Ok(());
    }
    let waited = round.escalates_at.map_or(0, |at| at.since(round.opened_at).as_secs() / 60);
    let rules = rules::in_force(tx, &round.place).await?.rules();
    let next = next_escalation(&rules, round.opened_at, now);
    round.escalated_at = Some(now);
    round.escalates_at = next.or(round.escalates_at);
    save(tx, round).await?;
    let more = json!({ "timeout_minutes": waited });
    events::emit(ctx, tx, event_types::APPROVAL_ESCALATED, round, more).await
}

async fn expire(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    round: &mut Round,
    why: &str,
    now: Timestamp,
) -> Result<(), Error> {
    close(ctx, tx, round, Ending::Expired, why, now).await?;
    tx.record(expiry(ctx, round)).await?;
    fail_points::reached(FailPoint::ExpiryRecorded);
    Ok(())
}

/// Returns the audit entry of a round that has expired.
fn expiry(ctx: &Ctx, round: &Round) -> Intent {
    let ctx = ctx.clone().with_gateway(round.place.gateway.clone());
    let about = AuditSubject::new(Action::APPROVAL_EXPIRE, round.place.name.to_string());
    let detail = json!({
        "approval": round.id.get(),
        "action": round.action.as_str(),
        "workspace": round.place.workspace(),
        "digest": round.digest,
        "reason": round.progress.close_reason,
    });
    Intent { detail: Some(detail), ..ctx.new_intent(about) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::approvals::rounds::tests::round;

    #[test]
    fn the_end_of_voting_comes_before_the_escalation() {
        let at = Timestamp::from_unix_micros;
        let open = Round { escalates_at: Some(at(5)), expires_at: Some(at(9)), ..round() };
        for (now, expected) in [
            (4, None),
            (5, Some(Due::Escalation)),
            (8, Some(Due::Escalation)),
            (9, Some(Due::Expiry)),
        ] {
            assert_eq!(due(&open, at(now)), expected, "{now}");
        }
        let escalated = Round { escalated_at: Some(at(5)), ..open.clone() };
        assert_eq!((due(&escalated, at(8)), escalated.next_due()), (None, Some(at(9))));
        assert_eq!(open.next_due(), Some(at(5)));
        // That of another rule follows.
        let again = Round { escalates_at: Some(at(7)), ..escalated };
        assert_eq!((due(&again, at(6)), again.next_due()), (None, Some(at(7))));
        assert_eq!(due(&again, at(7)), Some(Due::Escalation));
    }

    #[test]
    fn an_approved_round_ends_with_the_time_for_its_write_and_one_on_its_way_does_not() {
        let at = Timestamp::from_unix_micros;
        let mut approved = Round { state: RoundState::Approved, ..round() };
        approved.expires_at = Some(at(1));
        approved.progress.apply_by = Some(at(5));
        assert_eq!((due(&approved, at(4)), approved.next_due()), (None, Some(at(5))));
        assert_eq!(due(&approved, at(5)), Some(Due::ApplyWindow));
        for state in [RoundState::Sending, RoundState::Written, RoundState::Applied] {
            let round = Round { state, ..approved.clone() };
            assert_eq!((due(&round, at(9)), round.next_due()), (None, None), "{state}");
        }
    }
}
