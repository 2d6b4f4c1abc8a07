//! The gate: every call that can change a policy passes it, through Shoreguard's own API and through the proxy.
//!
//! Invariants
//! - rules are read, judged by [`judge`] and the write intent is stored in one transaction, which holds the lock of the
//!   gateway as shared: a rule that is stored afterwards finds the intent, and a write that begins afterwards finds the
//!   rule (T13);
//! - without a rule a call passes as it is, and nothing is read from its gateway;
//! - what cannot be read, or is said twice, is refused as soon as a rule applies (T09);
//! - what a gateway was asked counts only while the rules are those that were in force before;
//! - an intent is deleted when the outcome of its call is known. Otherwise it is over at its deadline.
//!
//! A proxied change of a policy, or decision about a draft, that a review can allow passes [`pass_or_review`] as
//! [`Gated::NeedsReview`].

mod asked;
mod facts;
mod passed;
mod rules;
mod store;
pub mod write;

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

pub use self::asked::{Asked, CredentialWrite, Place};
use self::facts::Facts;
use self::passed::SLACK;
pub use self::passed::{Passed, finish, renew};
use self::store::RuleVersion;
use crate::access::action::Action;
use crate::clock::Timestamp;
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::db::types::{GatewayId, SandboxName, WriteIntentId};
use crate::error::{Error, Reason};
use crate::governance::{
    Deciders, Governed, GovernedBy, Instead, Refusal, RuleScope, Verdict, judge,
};
use crate::openshell::Gateway;
use crate::openshell::gateway::CALL_TIME;
use crate::openshell::sandbox::CREATE_TIME;
use crate::resources::approvals::drafts::hints::hint;
use crate::resources::stored_rules::domain::caller_facts;
use crate::resources::write_intents::domain::{self as write_intents, IntentScope, NewIntent};

/// A call, as the gate judges it.
#[derive(Debug, Clone)]
pub struct GateCall {
    /// The requested change.
    pub asked: Asked,
    /// Its audit action.
    pub action: Action,
    /// Why it can be read in more than one way, which matters only under a rule.
    pub unclear: Option<String>,
    /// Deadline of a caller that waits for the call.
    pub deadline: Option<Instant>,
}

/// How often the gateway is asked about one call, since rules may change meanwhile.
const ASKS_MAX: usize = 3;

/// Decision of the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Judged {
    is_governed: bool,
    needs_initial_policy: bool,
    /// Time of the database in the transaction.
    now: Timestamp,
}

/// The facts of a call, and the rules that were in force before the gateway was asked: under others, the sandboxes that
/// the call reaches may have changed since (T13).
#[derive(Debug)]
struct KnownFacts {
    facts: Facts,
    rules: Vec<RuleVersion>,
}

/// The result of a transaction of the gate.
enum Step<T> {
    Passed(T),
    /// The call might pass if the gateway is asked, while these rules stay in force.
    NeedsFacts(Vec<RuleVersion>),
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

impl GateCall {
    /// Creates a call whose message can be read in one way only.
    #[must_use]
    pub fn new(asked: Asked, action: Action) -> Self {
        Self { asked, action, unclear: None, deadline: None }
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
        let rules = match step {
            Step::Passed(_) => return Ok(()),
            Step::NeedsReview(scope) => return Err(governed(scope)),
            Step::NeedsFacts(rules) => rules,
        };
        let until = ctx.app().clock.since_boot() + CALL_TIME;
        let known = KnownFacts { facts: ask(ctx, gateway, call, until).await?, rules };
        match decide(ctx, &mut ctx.db().read().await?, call, Some(&known)).await? {
            Step::Passed(_) | Step::NeedsFacts(_) => Ok(()),
            Step::NeedsReview(scope) => Err(governed(scope)),
        }
    })
}

/// Judges a call and stores its intent. The call must be made afterwards, within [`Passed::time_left`], and ends with
/// [`finish`].
///
/// # Errors
/// `POLICY_PINNED`, `GOVERNED` or `APPROVAL_MODE_AUTO` if a rule refuses the call; `MESSAGE_AMBIGUOUS` if a rule is in
/// force and the message is unclear; those of the gateway if it had to be asked; `WRITE_IN_FLIGHT` if the rules changed
/// each time that it was asked, or objects were deleted each time that it listed them.
pub fn pass<'a>(
    ctx: &'a Ctx,
    gateway: &'a Gateway,
    call: &'a GateCall,
) -> BoxFuture<'a, Result<Passed, Error>> {
    Box::pin(async move {
        let until = ctx.app().clock.since_boot() + CALL_TIME;
        let mut step = store_intent(ctx, call, None).await?;
        for _ in 0..ASKS_MAX {
            let rules = match step {
                Step::Passed(passed) => return Ok(passed),
                Step::NeedsReview(scope) => return Err(governed(scope)),
                Step::NeedsFacts(rules) => rules,
            };
            let known = KnownFacts { facts: ask(ctx, gateway, call, until).await?, rules };
            step = store_intent(ctx, call, Some(&known)).await?;
        }
        match step {
            Step::Passed(passed) => Ok(passed),
            Step::NeedsReview(scope) => Err(governed(scope)),
            Step::NeedsFacts(_) => {
                let why = "the pins or approval workflows changed while the gateway was asked";
                Err(Error::explained(Reason::WriteInFlight, why, []))
            }
        }
    })
}

/// Asks the gateway for the facts of a call, until a time of the clock that includes sleep, and not after the deadline
/// of the caller.
async fn ask(
    ctx: &Ctx,
    gateway: &Gateway,
    call: &GateCall,
    until: Duration,
) -> Result<Facts, Error> {
    let clock = &ctx.app().clock;
    let left = until.saturating_sub(clock.since_boot());
    let left = call
        .deadline
        .map_or(left, |deadline| left.min(deadline.saturating_duration_since(Instant::now())));
    let asked = clock.timeout(left, Box::pin(facts::ask(gateway, &call.asked))).await;
    asked.unwrap_or_else(|| {
        let name = gateway.name();
        let why = format!("gateway `{name}` has not said in time what the call would change");
        Err(Error::DeadlineExceeded { why })
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
        if call.asked.can_be_reviewed() {
            match store_intent(ctx, call, None).await? {
                Step::Passed(passed) => return Ok(Gated::Passed(passed)),
                Step::NeedsReview(_) => return Ok(Gated::NeedsReview),
                Step::NeedsFacts(_) => {}
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
    known: Option<&KnownFacts>,
) -> Result<Step<Passed>, Error> {
    let until = ctx.app().clock.since_boot() + call.time();
    ctx.transaction(async |tx| {
        write_intents::lock_shared(tx, ctx.required_gateway()?.id).await?;
        let judged = match decide(ctx, tx, call, known).await? {
            Step::NeedsFacts(rules) => return Ok(Step::NeedsFacts(rules)),
            Step::NeedsReview(scope) => return Ok(Step::NeedsReview(scope)),
            Step::Passed(judged) => judged,
        };
        let intent = if call.asked.can_change_policy() {
            Some(insert_intent(ctx, tx, call, judged.now).await?)
        } else {
            None
        };
        let Judged { is_governed, needs_initial_policy, .. } = judged;
        let clock = ctx.app().clock.clone();
        Ok(Step::Passed(Passed { intent, until, clock, is_governed, needs_initial_policy }))
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
        match decide_on(ctx, conn, (id, name), call, None).await? {
            Step::Passed(_) => Ok(()),
            Step::NeedsReview(scope) => Err(governed(scope)),
            Step::NeedsFacts(_) => Err(Error::internal("a change of the registry has no facts")),
        }
    })
}

async fn decide(
    ctx: &Ctx,
    conn: &mut Conn,
    call: &GateCall,
    known: Option<&KnownFacts>,
) -> Result<Step<Judged>, Error> {
    let gateway = ctx.required_gateway()?;
    decide_on(ctx, conn, (gateway.id, &*gateway.name), call, known).await
}

async fn decide_on(
    ctx: &Ctx,
    conn: &mut Conn,
    (id, gateway): (GatewayId, &str),
    call: &GateCall,
    known: Option<&KnownFacts>,
) -> Result<Step<Judged>, Error> {
    // After the lock: the time of a rule that ends while a transaction waits for it has passed.
    let now = ctx.db().now(conn).await?;
    let rules = store::rules_of(conn, gateway, &call.asked.place()).await?;
    let is_governed = !rules.is_empty(now);
    if let Some(why) = call.unclear.as_ref().filter(|_| is_governed) {
        return Err(Error::refused(Reason::MessageAmbiguous, why.as_str()));
    }
    let versions = if is_governed && call.asked.depends_on_facts() {
        store::versions_of(conn, gateway, &call.asked.place()).await?
    } else {
        Vec::new()
    };
    let facts = known.filter(|known| known.rules == versions).map(|known| &known.facts);
    let (change, in_force) = call.asked.judged(facts, &rules, now);
    let passed =
        |needs_initial_policy| Step::Passed(Judged { is_governed, needs_initial_policy, now });
    let caller = caller_facts(ctx, id, &in_force.workflows)?;
    let verdict = judge(&change, &in_force, &caller, now);
    let refusal = match verdict {
        Verdict::Pass | Verdict::Round(Deciders::Default) => return Ok(passed(false)),
        Verdict::PassWithInitialPolicy => return Ok(passed(true)),
        Verdict::Round(Deciders::Workflows) => {
            let scope = in_force.workflows.last().map(|workflow| workflow.scope.clone());
            let scope = scope.ok_or_else(|| Error::internal("a round without a workflow"))?;
            if call.asked.can_be_reviewed() {
                return Ok(Step::NeedsReview(scope));
            }
            governed(scope)
        }
        Verdict::Refuse(refusal) => refusal.into(),
    };
    if facts.is_none() && call.asked.depends_on_facts() {
        return Ok(Step::NeedsFacts(versions));
    }
    Err(refusal)
}

async fn insert_intent(
    ctx: &Ctx,
    conn: &mut Conn,
    call: &GateCall,
    now: Timestamp,
) -> Result<WriteIntentId, Error> {
    let place = call.asked.place();
    if let (Some(workspace), Some(sandbox)) = (place.workspace(), place.sandbox()) {
        let sandbox = SandboxName { workspace: workspace.to_owned(), name: sandbox.to_owned() };
        hint(ctx.app(), ctx.required_gateway()?.id, &sandbox);
    }
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
        at: now,
        deadline: now.plus(call.time() + SLACK),
        audit: ctx.audit_id(),
    };
    write_intents::insert(conn, &new).await
}
