//! One round with everything that its voters need.

use super::view::{self, Counted, Item, PeopleOf, name};
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::db::types::ApprovalRoundId;
use crate::error::Error;
use crate::governance::{Action, Decision, Outcome, People, RuleTally, Tally, Vote, Why, tally};
use crate::policy::diff::{self, Difference};
use crate::resources::approvals::drafts::content::{DraftContent, UndoContent};
use crate::resources::approvals::rounds::{self, Content, Round, RuleContent};
use crate::resources::approvals::rules::{self, RulesInForce};
use crate::role::Role;

/// Maximum number of names of possible voters.
pub const NAMES_MAX: usize = 20;
/// Maximum number of differences.
pub const DIFFERENCES_MAX: usize = 1_000;

/// A round with its content and its progress.
#[derive(Debug)]
pub struct Detail {
    /// The round as in a list.
    pub item: Item,
    /// What is reviewed.
    pub content: ContentView,
    /// The rules in force.
    pub rules: Vec<RuleProgress>,
    /// Approves that count for no rule, by name.
    pub uncounted: Vec<(String, Why)>,
    /// Names of those whose approve would count for what is missing.
    pub could: Vec<String>,
    /// Whether all rules can be met.
    pub is_satisfiable: bool,
    /// What prevents the write now.
    pub blockers: Vec<String>,
    /// What the caller can do.
    pub caller: CallerPosition,
    /// The round that replaces this one.
    pub successor: Option<ApprovalRoundId>,
}

/// What is reviewed.
#[derive(Debug)]
pub enum ContentView {
    /// A policy.
    Policy {
        /// The first differences to the policy that it replaces.
        differences: Vec<Difference>,
        /// Number of further differences.
        omitted: usize,
        /// The policy, without marks.
        yaml: String,
        /// Paths of its marks.
        marks: Vec<String>,
    },
    /// A change of a rule.
    Rule(RuleContent),
    /// A rule that an agent proposed.
    Draft(Box<DraftContent>),
    /// The removal of such a rule.
    Undo(Box<UndoContent>),
}

/// Progress of a rule.
#[derive(Debug)]
pub struct RuleProgress {
    /// Scope of the workflow; `None` for the default rule.
    pub scope: Option<String>,
    /// Whether it is met.
    pub is_met: bool,
    /// Its groups.
    pub groups: Vec<GroupProgress>,
}

/// Progress of a group.
#[derive(Debug)]
pub struct GroupProgress {
    /// Name.
    pub name: String,
    /// Required number of approvals.
    pub needed: u32,
    /// Names of those who count for it.
    pub counting: Vec<String>,
    /// Whether it is one of the groups with which the rule is met, or that lack the fewest approvals.
    pub is_chosen: bool,
}

/// What a caller can do in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallerPosition {
    /// Its vote.
    pub vote: Option<Decision>,
    /// Why an approve would not count; `None` if it would, or if the round has ended.
    pub uncounted: Option<Why>,
    /// Whether a reject would end the round.
    pub can_reject: bool,
    /// Whether it can withdraw the round.
    pub can_withdraw: bool,
}

/// Returns a round with its content and its progress.
///
/// # Errors
/// Those of the database.
pub async fn get(ctx: &Ctx, round: Round) -> Result<Detail, Error> {
    let mut conn = ctx.db().read().await?;
    let now = ctx.db().now(&mut conn).await?;
    let stored = rounds::store::content(&mut conn, round.id).await?;
    let content = Content::decode(round.action, round.generation, &stored)?;
    let mut people_of = PeopleOf::new(ctx.app());
    let page = [round];
    let counted = view::count(&mut conn, &mut people_of, &page, now).await?.pop();
    let [round] = page;
    let counted = counted.ok_or_else(|| Error::internal("a round that was not counted"))?;
    let successor = rounds::store::successor(&mut conn, &round).await?;
    let blockers = blockers(ctx, &mut conn, &round, &counted.rules, now).await?;
    let people = people_of.on(round.place.gateway.id);
    let caller = position(ctx, &round, &counted, &people, now);
    let (uncounted, could) = counted.tally.as_ref().map_or_else(Default::default, |tally| {
        let uncounted = tally.uncounted.iter().map(|(voter, why)| (name(&people, *voter), *why));
        let could = tally.could.iter().take(NAMES_MAX).map(|voter| name(&people, *voter));
        (uncounted.collect(), could.collect())
    });
    let is_satisfiable = counted.tally.as_ref().is_some_and(|tally| tally.satisfiable);
    let rules = progress(&counted, &people);
    let item = view::to_item(&mut people_of, ctx.principal(), round, &counted, now);
    let content = to_view(content);
    Ok(Detail {
        item,
        content,
        rules,
        uncounted,
        could,
        is_satisfiable,
        blockers,
        caller,
        successor,
    })
}

fn to_view(content: Content) -> ContentView {
    match content {
        Content::Rule(content) => ContentView::Rule(*content),
        Content::Draft(content) => ContentView::Draft(content),
        Content::Undo(content) => ContentView::Undo(content),
        Content::Policy(content) => {
            let mut differences = diff::compare(&content.base, &content.candidate);
            let omitted = differences.len().saturating_sub(DIFFERENCES_MAX);
            differences.truncate(DIFFERENCES_MAX);
            let (yaml, marks) = (content.candidate.to_yaml(), content.candidate.marks());
            ContentView::Policy { differences, omitted, yaml, marks }
        }
    }
}

fn progress(counted: &Counted, people: &People) -> Vec<RuleProgress> {
    let Some(tally) = &counted.tally else { return Vec::new() };
    let scopes = counted.rules.workflows.iter().map(|workflow| Some(workflow.scope.to_string()));
    let scopes = scopes.chain(std::iter::repeat(None));
    let rules = tally.rules.iter().zip(scopes);
    rules.map(|(rule, scope)| rule_progress(rule, scope, people)).collect()
}

fn rule_progress(rule: &RuleTally, scope: Option<String>, people: &People) -> RuleProgress {
    let groups = rule.groups.iter().map(|group| GroupProgress {
        name: group.name.clone(),
        needed: group.need,
        counting: group.counting.iter().map(|voter| name(people, *voter)).collect(),
        is_chosen: group.is_chosen,
    });
    RuleProgress { scope, is_met: rule.is_met, groups: groups.collect() }
}

/// Returns what prevents the write of a round, for people.
async fn blockers(
    ctx: &Ctx,
    conn: &mut Conn,
    round: &Round,
    in_force: &RulesInForce,
    now: Timestamp,
) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    if rounds::effective_state(round, now).is_closed() {
        return Ok(found);
    }
    if ctx.app().snapshot.gateway_name(round.place.gateway.id).is_none() {
        found.push("the gateway was unregistered".to_owned());
    }
    if let Some(scope) = &in_force.unreadable {
        found.push(format!("the approval workflow of {scope} cannot be read by this version"));
    }
    match rules::require_unpinned(conn, round, now).await {
        Ok(()) => {}
        Err(Error::Refused { why, .. } | Error::Explained { why, .. }) => found.push(why),
        Err(error) => return Err(error),
    }
    Ok(found)
}

fn position(
    ctx: &Ctx,
    round: &Round,
    counted: &Counted,
    people: &People,
    now: Timestamp,
) -> CallerPosition {
    let state = rounds::effective_state(round, now);
    let caller = ctx.principal();
    let vote = caller.and_then(|caller| {
        let own = counted.votes.iter().find(|vote| vote.principal == caller);
        own.map(|vote| vote.decision)
    });
    let is_author = caller.is_some_and(|caller| round.is_author(caller));
    let is_allowed = ctx.role() == Role::Admin || (is_author && ctx.role() >= Role::Operator);
    let is_proposal = round.action != Action::DraftApprove;
    let can_withdraw = state.is_voting() && is_allowed && is_proposal;
    let with = |decision| try_vote(round, counted, caller?, decision, people, now);
    let uncounted = with(Decision::Approve).and_then(|tally| {
        let mut uncounted = tally.uncounted.iter();
        uncounted.find(|(principal, _)| Some(*principal) == caller).map(|(_, why)| *why)
    });
    let can_reject = state.is_voting()
        && with(Decision::Reject)
            .is_some_and(|tally| matches!(tally.outcome, Outcome::Rejected { .. }));
    CallerPosition { vote, uncounted, can_reject, can_withdraw }
}

/// Counts the votes with another one.
fn try_vote(
    round: &Round,
    counted: &Counted,
    principal: PrincipalId,
    decision: Decision,
    people: &People,
    now: Timestamp,
) -> Option<Tally> {
    counted.tally.as_ref()?;
    let mut votes = counted.votes.clone();
    votes.push(Vote { id: i64::MAX, principal, decision, cast_at: now });
    Some(tally(&counted.rules.rules(), &round.facts(), &votes, people, now))
}
