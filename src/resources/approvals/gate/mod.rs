//! The gate: every call that can change a policy passes it, through Shoreguard's own API and through the proxy.
//!
//! Invariants
//! - rules are read, judged by [`judge`] and the write intent is stored in one transaction, which holds the lock of the
//!   gateway as shared: a rule that is stored afterwards finds the intent, and a write that begins afterwards finds the
//!   rule (T13);
//! - without a rule a call passes as it is, and nothing is read from its gateway;
//! - what cannot be read, or is said twice, is refused as soon as a rule applies (T09);
//! - an intent is deleted when the outcome of its call is known. Otherwise it is over at its deadline.
//!
//! A proxied change of a policy that a review can allow passes [`pass_or_review`] as [`Gated::NeedsReview`]. Other
//! changes that a review could allow are refused: there are no reviews of drafts yet.

mod asked;
mod facts;
mod rules;
mod store;
pub mod write;

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tracing::warn;

pub use self::asked::{Asked, CredentialWrite, Place};
use self::facts::Facts;
use crate::access::action::Action;
use crate::access::principal::PrincipalId;
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::db::types::{GatewayId, WriteIntentId};
use crate::error::{Error, Reason};
use crate::governance::{
    CallerFacts, Deciders, Governed, GovernedBy, Instead, People, Refusal, RuleScope, Verdict,
    Workflow, judge,
};
use crate::openshell::Gateway;
use crate::resources::write_intents::domain::{self as write_intents, IntentScope, NewIntent};

/// Time from the transaction of the gate to the end of the call.
pub const CALL_TIME: Duration = Duration::from_secs(20);
/// The same for a creation: the gateway may pull an image.
pub const CREATE_TIME: Duration = Duration::from_mins(2);

/// A call, as the gate judges it.
#[derive(Debug, Clone)]
pub struct GateCall {
    /// What it asks to change.
    pub asked: Asked,
    /// Its audit action.
    pub action: Action,
    /// Why it can be read in more than one way, which matters only under a rule.
    pub unclear: Option<String>,
}

/// Additional time until an intent is over: the call begins after its transaction.
const SLACK: Duration = Duration::from_secs(5);

/// What the gate found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Judged {
    is_governed: bool,
    needs_initial_policy: bool,
}

/// The result of a transaction of the gate.
enum Step<T> {
    Passed(T),
    /// The call might pass if the gateway is asked.
    NeedsFacts,
    /// A review under the workflow of this scope decides.
    NeedsReview(RuleScope),
}

/// How a call passes the gate if a review can decide about it.
#[derive(Debug)]
#[must_use = "the intent of a call that has passed is deleted by `finish`"]
pub enum Gated {
    /// It must be sent now.
    Passed(Passed),
    /// A workflow applies: a review decides, and nothing may be sent.
    NeedsReview,
}

/// A call that has passed the gate, and must be sent now.
#[derive(Debug)]
#[must_use = "its intent is deleted by `finish`"]
pub struct Passed {
    intent: Option<WriteIntentId>,
    until: Instant,
    /// Whether a rule is in force: what is sent is Shoreguard's own encoding of what was checked.
    pub is_governed: bool,
    /// Whether the sandbox that is created gets its first policy from this server.
    pub needs_initial_policy: bool,
}

impl Passed {
    /// Returns the time until which the call may be in progress.
    ///
    /// # Errors
    /// `DEADLINE_EXCEEDED` if it has passed: nothing may be sent.
    pub fn time_left(&self) -> Result<Duration, Error> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let why = "the time for the call passed while its intent was stored".to_owned();
            return Err(Error::DeadlineExceeded { why });
        }
        Ok(left)
    }
}

impl GateCall {
    /// Creates a call whose message can be read in one way only.
    #[must_use]
    pub fn new(asked: Asked, action: Action) -> Self {
        Self { asked, action, unclear: None }
    }

    fn time(&self) -> Duration {
        if matches!(self.asked, Asked::Create { .. }) { CREATE_TIME } else { CALL_TIME }
    }
}

/// Judges a call without storing an intent, before work that is done for it. [`pass`] judges it again.
///
/// # Errors
/// Those of [`pass`].
pub fn check<'a>(
    ctx: &'a Ctx,
    gateway: &'a Gateway,
    call: &'a GateCall,
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(async move {
        let mut conn = ctx.db().read().await?;
        let step = decide(ctx, &mut conn, call, None).await?;
        drop(conn);
        if let Step::Passed(_) = step {
            return Ok(());
        }
        if let Step::NeedsReview(scope) = step {
            return Err(governed(scope));
        }
        let facts = facts::ask(gateway, &call.asked).await?;
        match decide(ctx, &mut ctx.db().read().await?, call, Some(&facts)).await? {
            Step::Passed(_) | Step::NeedsFacts => Ok(()),
            Step::NeedsReview(scope) => Err(governed(scope)),
        }
    })
}

/// Judges a call and stores its intent. The call must be made afterwards, within [`Passed::time_left`], and ends with
/// [`finish`].
///
/// # Errors
/// `POLICY_PINNED`, `GOVERNED` or `APPROVAL_MODE_AUTO` if a rule refuses the call; `MESSAGE_AMBIGUOUS` if a rule is in
/// force and the message is unclear; those of the gateway if it had to be asked.
pub fn pass<'a>(
    ctx: &'a Ctx,
    gateway: &'a Gateway,
    call: &'a GateCall,
) -> BoxFuture<'a, Result<Passed, Error>> {
    Box::pin(async move {
        match store_intent(ctx, call, None).await? {
            Step::Passed(passed) => return Ok(passed),
            Step::NeedsReview(scope) => return Err(governed(scope)),
            Step::NeedsFacts => {}
        }
        let facts = facts::ask(gateway, &call.asked).await?;
        match store_intent(ctx, call, Some(&facts)).await? {
            Step::Passed(passed) => Ok(passed),
            Step::NeedsReview(scope) => Err(governed(scope)),
            Step::NeedsFacts => Err(Error::internal("a decision with all facts")),
        }
    })
}

/// Does the same as [`pass`] for a call that changes the policy of a sandbox: under a workflow, a review of it can be
/// opened.
///
/// # Errors
/// Those of [`pass`], except for `GOVERNED` if a review can decide.
pub fn pass_or_review<'a>(
    ctx: &'a Ctx,
    gateway: &'a Gateway,
    call: &'a GateCall,
) -> BoxFuture<'a, Result<Gated, Error>> {
    Box::pin(async move {
        if call.asked.is_policy_write() {
            match store_intent(ctx, call, None).await? {
                Step::Passed(passed) => return Ok(Gated::Passed(passed)),
                Step::NeedsReview(_) => return Ok(Gated::NeedsReview),
                Step::NeedsFacts => {}
            }
        }
        pass(ctx, gateway, call).await.map(Gated::Passed)
    })
}

/// Returns the refusal of a call that a review cannot decide.
fn governed(scope: RuleScope) -> Error {
    let (by, instead) = (GovernedBy::Workflow(scope), Instead::RemoveRule);
    Refusal::Governed(Governed { by, sandboxes: Vec::new(), instead }).into()
}

/// Judges a call and stores its intent, in one transaction.
async fn store_intent(
    ctx: &Ctx,
    call: &GateCall,
    facts: Option<&Facts>,
) -> Result<Step<Passed>, Error> {
    let until = Instant::now() + call.time();
    ctx.transaction(async |tx| {
        write_intents::lock_shared(tx, ctx.required_gateway()?.id).await?;
        let judged = match decide(ctx, tx, call, facts).await? {
            Step::NeedsFacts => return Ok(Step::NeedsFacts),
            Step::NeedsReview(scope) => return Ok(Step::NeedsReview(scope)),
            Step::Passed(judged) => judged,
        };
        let intent = if call.asked.can_change_policy() {
            Some(insert_intent(ctx, tx, call).await?)
        } else {
            None
        };
        let Judged { is_governed, needs_initial_policy } = judged;
        Ok(Step::Passed(Passed { intent, until, is_governed, needs_initial_policy }))
    })
    .await
}

/// Judges a change of the registry itself, in its transaction: nothing is sent to the gateway.
///
/// # Errors
/// `GOVERNED` if a pin or workflow of the gateway is in force.
pub fn check_in<'a>(
    ctx: &'a Ctx,
    conn: &'a mut Conn,
    (id, name): (GatewayId, &'a str),
    call: &'a GateCall,
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(async move {
        write_intents::lock_exclusive(conn, id).await?;
        match decide_on(ctx, conn, (id, name), call, Some(&Facts::Nothing)).await? {
            Step::Passed(_) => Ok(()),
            Step::NeedsReview(scope) => Err(governed(scope)),
            Step::NeedsFacts => Err(Error::internal("a change of the registry has no facts")),
        }
    })
}

/// Deletes the intent of a call whose outcome is known. A failure is only logged: the gateway has acted, and the intent
/// is over at its deadline.
#[must_use]
pub fn finish(ctx: &Ctx, passed: Passed) -> BoxFuture<'_, ()> {
    Box::pin(async move {
        let Some(intent) = passed.intent.filter(|_| !ctx.unanswered().is_set()) else { return };
        let deleted = ctx.record_change(async |tx| write_intents::delete(tx, intent).await).await;
        if let Err(error) = deleted {
            warn!(error = &error as &dyn std::error::Error, "a write intent was not deleted yet");
        }
    })
}

async fn decide(
    ctx: &Ctx,
    conn: &mut Conn,
    call: &GateCall,
    facts: Option<&Facts>,
) -> Result<Step<Judged>, Error> {
    let gateway = ctx.required_gateway()?;
    decide_on(ctx, conn, (gateway.id, &*gateway.name), call, facts).await
}

async fn decide_on(
    ctx: &Ctx,
    conn: &mut Conn,
    (id, gateway): (GatewayId, &str),
    call: &GateCall,
    facts: Option<&Facts>,
) -> Result<Step<Judged>, Error> {
    // After the lock: the time of a rule that ends while a transaction waits for it has passed.
    let now = ctx.db().now(conn).await?;
    let rules = store::rules_of(conn, gateway, &call.asked.place()).await?;
    let is_governed = !rules.is_empty(now);
    if let Some(why) = call.unclear.as_ref().filter(|_| is_governed) {
        return Err(Error::refused(Reason::MessageAmbiguous, why.as_str()));
    }
    let (change, in_force) = call.asked.judged(facts, &rules, now);
    let passed = |needs_initial_policy| Step::Passed(Judged { is_governed, needs_initial_policy });
    let caller = caller_facts(ctx, id, &in_force.workflows)?;
    let verdict = judge(&change, &in_force, &caller, now);
    let refusal = match verdict {
        Verdict::Pass | Verdict::Round(Deciders::Default) => return Ok(passed(false)),
        Verdict::PassWithInitialPolicy => return Ok(passed(true)),
        Verdict::Round(Deciders::Workflows) => {
            let scope = in_force.workflows.last().map(|workflow| workflow.scope.clone());
            let scope = scope.ok_or_else(|| Error::internal("a round without a workflow"))?;
            if call.asked.is_policy_write() {
                return Ok(Step::NeedsReview(scope));
            }
            governed(scope)
        }
        Verdict::Refuse(refusal) => refusal.into(),
    };
    if facts.is_none() && call.asked.depends_on_facts() {
        return Ok(Step::NeedsFacts);
    }
    Err(refusal)
}

/// Returns the facts about the caller. Only a review needs to know who made it, so without a workflow that is not read.
fn caller_facts(
    ctx: &Ctx,
    gateway: GatewayId,
    workflows: &[Workflow],
) -> Result<CallerFacts, Error> {
    let unknown = || Error::Denied { why: "only a known caller changes policies".to_owned() };
    let principal = ctx.principal().ok_or_else(unknown)?;
    let is_maker_known = workflows.is_empty()
        || matches!(principal, PrincipalId::User(_))
        || People::on_gateway(&ctx.app().snapshot, gateway).is_holder_known(principal);
    Ok(CallerFacts { principal, role: ctx.role(), is_maker_known })
}

async fn insert_intent(
    ctx: &Ctx,
    conn: &mut Conn,
    call: &GateCall,
) -> Result<WriteIntentId, Error> {
    let place = call.asked.place();
    let now = ctx.db().now(conn).await?;
    let new = NewIntent {
        scope: IntentScope {
            gateway: ctx.required_gateway()?.id,
            workspace: place.workspace(),
            // The name that a gateway will choose is not known.
            sandbox: place.sandbox().filter(|name| !name.is_empty()),
        },
        kind: call.action,
        round: None,
        owner: &ctx.app().replica,
        principal: ctx.principal(),
        base_version: None,
        want_digest: None,
        deadline: now.plus(call.time() + SLACK),
        audit: None,
    };
    write_intents::insert(conn, &new).await
}
