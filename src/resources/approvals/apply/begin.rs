//! The transaction before a write: it judges and counts again, and stores the write intent.

use std::time::Duration;

use serde_json::Value;

use super::CALL_TIME;
use super::found::SeenRevision;
use super::live::Live;
use super::outcome::{self, Outcome as WriteOutcome};
use crate::access::action::Action as AuditAction;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, Tx};
use crate::db::Conn;
use crate::db::types::SandboxRef;
use crate::error::Error;
use crate::feed::{self, ReadPosition};
use crate::governance::{
    CallerFacts, Change, Doubt, InForce, Origin, Outcome, People, Tally, Verdict, judge,
};
use crate::resources::approvals::rounds::{Round, RoundState, clocks, close, store as rounds};
use crate::resources::approvals::rules::{self, RulesInForce};
use crate::resources::approvals::votes::decide;
use crate::resources::operations::RunningOperation;
use crate::resources::write_intents::domain::{self as write_intents, IntentScope, NewIntent};
use crate::role::Role;

/// Time until a write that waits for another one of its sandbox is tried again. Most writes take less.
const BUSY_FOR: Duration = Duration::from_millis(500);

/// The content to write.
#[derive(Debug)]
pub struct Beginning<'a> {
    /// The round, as it was compared with the gateway.
    pub round: &'a Round,
    /// The policy with which it was compared.
    pub live: &'a Live,
    /// Digest of the candidate.
    pub candidate: &'a str,
    /// The newest revision, if it has the candidate already: nothing must be sent.
    pub already_there: Option<&'a SeenRevision>,
}

/// The result of the transaction.
#[derive(Debug)]
pub enum Begun {
    /// The intent is stored: the write must be sent now.
    Send,
    /// The round is written, since the gateway has the policy already.
    Written,
    /// The round has changed: it must be read again.
    Changed,
    /// A rule or a lock is in force. The round waits.
    Waits(Error),
    /// Another approved change of the sandbox is being written.
    Busy,
}

/// Waits for another write of the sandbox, such as that of another draft of one list. The next attempt compares again.
pub async fn wait_for_other_write(running: &RunningOperation) {
    running.ctx().app().clock.sleep(BUSY_FOR).await;
}

/// Judges and counts again, and stores the intent of the write.
///
/// # Errors
/// `ACCESS_STALE` if the access data keeps changing, `Conflict` if the lease of the operation was lost.
pub async fn begin(running: &RunningOperation, beginning: &Beginning<'_>) -> Result<Begun, Error> {
    let ctx = running.ctx();
    feed::until_current(ctx.app(), move |position| {
        Box::pin(async move {
            let gateway = beginning.round.place.gateway.id;
            let people = People::on_gateway(&ctx.app().snapshot, gateway);
            let step = ctx
                .transaction(async |tx| {
                    let operation = running.step_in(tx, None).await?;
                    let begun = begin_in(running, tx, beginning, &people, &position).await?;
                    Ok((begun, operation))
                })
                .await;
            match step {
                Ok((begun, operation)) => {
                    running.notify_committed(operation);
                    Ok(begun)
                }
                Err(Error::AlreadyExists { .. }) => Ok(Some(Begun::Busy)),
                Err(error) => Err(error),
            }
        })
    })
    .await
}

/// Returns `None` if the people are outdated.
async fn begin_in(
    running: &RunningOperation,
    tx: &mut Tx<'_>,
    beginning: &Beginning<'_>,
    people: &People,
    position: &ReadPosition,
) -> Result<Option<Begun>, Error> {
    let ctx = running.ctx();
    let gateway = &beginning.round.place.gateway;
    write_intents::lock_exclusive(tx, gateway.id).await?;
    if !feed::is_current(tx, position).await? {
        return Ok(None);
    }
    let now = ctx.db().now(tx).await?;
    let Some(mut round) = rounds::by_id(tx, beginning.round.id).await? else {
        return Ok(Some(Begun::Changed));
    };
    let is_same = round.version == beginning.round.version && round.state == RoundState::Approved;
    if !is_same || clocks::end_if_due(ctx, tx, &mut round, now).await? {
        return Ok(Some(Begun::Changed));
    }
    let in_force = in_force(tx, &round.place, beginning.live.is_global).await?;
    let to_pinned = rules::restores_pinned(tx, &round).await?;
    if let Some(refusal) = refusal(&round, &in_force, to_pinned, now) {
        return Ok(Some(Begun::Waits(refusal)));
    }
    let standing = decide::standing(tx, &round, people, now).await?;
    if standing.tally.outcome != Outcome::Approved {
        decide::follow(ctx, tx, &mut round, &standing, now).await?;
        return Ok(Some(Begun::Changed));
    }
    let rules_json = serde_json::to_string(&standing.rules.rules()).map_err(Error::internal)?;
    rounds::set_rules(tx, round.id, &rules_json).await?;
    add_audit_details(ctx, &round, &standing.tally, people);
    round.progress.operation_id = Some(running.id().to_owned());
    if let Some(there) = beginning.already_there {
        let written = WriteOutcome::written(there.version, &there.policy_hash);
        outcome::apply(ctx, tx, &mut round, &written, now).await?;
        return Ok(Some(Begun::Written));
    }
    round.state = RoundState::Sending;
    round.progress.attempts = round.progress.attempts.saturating_add(1);
    close::save(tx, &mut round).await?;
    store_intent(ctx, tx, beginning, now).await?;
    Ok(Some(Begun::Send))
}

/// Returns what is in force for a sandbox.
pub(super) async fn in_force(
    conn: &mut Conn,
    place: &SandboxRef,
    global_policy: bool,
) -> Result<InForce, Error> {
    let pin = rules::pin(conn, place).await?;
    let RulesInForce { workflows, unreadable } = rules::in_force(conn, place).await?;
    Ok(InForce { pin, workflows, global_policy, doubt: unreadable.map(Doubt::UnreadableRule) })
}

/// Returns why a round must wait: a lock, a policy of the gateway for all sandboxes, or a rule that cannot be read.
/// `to_pinned` is whether it restores the revision that the pin names.
pub(super) fn refusal(
    round: &Round,
    in_force: &InForce,
    to_pinned: bool,
    now: Timestamp,
) -> Option<Error> {
    let change = Change::Write { action: round.action, origin: Origin::Own, to_pinned };
    // Whether its makers are known was decided when it was proposed, and agents propose drafts.
    let caller = CallerFacts { role: Role::Operator, is_maker_known: true };
    match judge(&change, in_force, &caller, now) {
        Verdict::Refuse(refusal) => Some(refusal.into()),
        Verdict::Pass | Verdict::PassWithInitialPolicy | Verdict::Round(_) => None,
    }
}

async fn store_intent(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    beginning: &Beginning<'_>,
    now: Timestamp,
) -> Result<(), Error> {
    let Beginning { round, live, .. } = beginning;
    let new = NewIntent {
        scope: IntentScope {
            gateway: round.place.gateway.id,
            workspace: Some(round.place.workspace()),
            sandbox: Some(round.place.sandbox()),
        },
        kind: AuditAction::APPROVAL_APPLY,
        round: Some(round.id),
        owner: &ctx.app().replica,
        principal: None,
        base_version: Some(i64::from(live.version())),
        want_digest: Some(beginning.candidate),
        at: now,
        deadline: now.plus(CALL_TIME),
        audit: ctx.audit_id(),
    };
    write_intents::insert(tx, &new).await.map(drop)
}

/// Adds the authors, and the voters that count, to the audit entry.
fn add_audit_details(ctx: &Ctx, round: &Round, counted: &Tally, people: &People) {
    let name = |principal| {
        people
            .get(principal)
            .map_or_else(|| Value::from(principal.to_string()), |person| Value::from(&*person.name))
    };
    let authors: Vec<Value> = round.authors.iter().map(|author| name(*author)).collect();
    let mut voters = Vec::new();
    for group in counted.rules.iter().flat_map(|rule| &rule.groups) {
        voters.extend(group.counting.iter().copied());
    }
    voters.sort_unstable();
    voters.dedup();
    let voters: Vec<Value> = voters.into_iter().map(name).collect();
    ctx.add_audit_detail("authors", authors);
    ctx.add_audit_detail("voters", voters);
}
