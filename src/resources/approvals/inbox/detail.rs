//! One round with everything that its voters need.

use super::store::{self, Rejection};
use super::view::{self, Counted, Item, PeopleOf, name};
use super::{blockers, connections};
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::db::types::ApprovalRoundId;
use crate::error::Error;
use crate::governance::{
    Action, Decision, Outcome, People, RuleTally, Tally, Vote, Why, possible_voters, tally,
};
use crate::policy::diff::{self, Difference};
use crate::resources::approvals::drafts::content::{DraftContent, UndoContent};
use crate::resources::approvals::drafts::quoting::{ITEM_BYTES_MAX, Room, ends_with_hash};
use crate::resources::approvals::rounds::{self, Content, PolicyContent, Round, RuleContent};
use crate::resources::bypass_events::refused::RefusedConnection;
use crate::role::Role;

/// Maximum number of names of possible voters, of a round and of each group.
pub const NAMES_MAX: usize = 20;
/// Maximum number of differences.
pub const DIFFERENCES_MAX: usize = 1_000;

/// A round with its content and its progress.
#[derive(Debug)]
pub struct Detail {
    /// The round as in a list.
    pub item: Item,
    /// The reviewed content.
    pub content: ContentView,
    /// Number of findings of the gateway that `content` leaves out or truncates.
    pub omitted_findings: usize,
    /// The rules in force.
    pub rules: Vec<RuleProgress>,
    /// Approving votes that count for no rule: the name of the voter, and why.
    pub uncounted: Vec<(String, Why)>,
    /// Names of the voters whose approval would count for what the rules lack.
    pub could: Vec<String>,
    /// Whether all rules can be met.
    pub is_satisfiable: bool,
    /// What prevents the write now.
    pub blockers: Vec<String>,
    /// Possible actions of the caller.
    pub caller: CallerPosition,
    /// The round that replaces this one.
    pub successor: Option<ApprovalRoundId>,
    /// The last rejection of an earlier round of the same content.
    pub earlier_rejection: Option<Rejection>,
    /// Log lines about connections that a proposed rule would allow, newest first.
    pub refused: Vec<RefusedConnection>,
    /// When the gateway has last dropped marks. `None` if what is reviewed has no marks, and after the end.
    pub marks_lost_at: Option<Timestamp>,
}

/// The reviewed content.
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
    /// Number of approvals that it lacks.
    pub lacks: u32,
    /// Names of those who count for it.
    pub counting: Vec<String>,
    /// Names of its voters whose approving vote would count for what the rule lacks, up to a limit.
    pub could: Vec<String>,
    /// Number of these voters.
    pub could_count: usize,
    /// Whether it is one of the groups with which the rule is met, or that lack the fewest approvals.
    pub is_chosen: bool,
}

/// Possible actions of a caller in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallerPosition {
    /// Its vote.
    pub vote: Option<Decision>,
    /// Why an approving vote would not count; `None` if it would, or if the round has ended.
    pub uncounted: Option<Why>,
    /// Whether a rejecting vote would end the round.
    pub can_reject: bool,
    /// Whether it can withdraw the round.
    pub can_withdraw: bool,
}

/// Returns a round with its content and its progress.
///
/// # Errors
/// Those of the database; `BUSY` if the caller has too many turns.
pub async fn get(ctx: &Ctx, round: Round) -> Result<Detail, Error> {
    let mut conn = ctx.db().read().await?;
    let now = ctx.db().now(&mut conn).await?;
    let stored = rounds::store::content(&mut conn, round.id).await?;
    // No connection is held during the wait.
    drop(conn);
    let turn = ctx.long_work(stored.len()).await?;
    let (mut content, policy) = turn.run(|| read(&round, &stored))?;
    let mut conn = ctx.db().read().await?;
    let mut people_of = PeopleOf::new(ctx.app());
    let page = [round];
    let counted = view::count(&mut conn, &mut people_of, &page, now).await?.pop();
    let [mut round] = page;
    let counted = counted.ok_or_else(|| Error::internal("a round that was not counted"))?;
    let successor = rounds::store::successor(&mut conn, &round).await?;
    let earlier_rejection = store::earlier_rejection(&mut conn, &round).await?;
    let blockers = blockers::read(ctx, &mut conn, &round, &counted.rules, now).await?;
    let marks_lost_at = marks_lost_at(&mut conn, &round, &content, now).await?;
    let mut refused = match &content {
        Content::Draft(draft) => connections::read(&mut conn, &round, draft).await?,
        Content::Policy(_) | Content::Rule(_) | Content::Undo(_) => Vec::new(),
    };
    let omitted_findings = limit_texts(&mut round, &mut content, &mut refused);
    let people = people_of.on(round.place.gateway.id);
    let caller = position(ctx, &round, &counted, &people, now);
    let (uncounted, could) = counted.tally.as_ref().map_or_else(Default::default, |tally| {
        let uncounted = tally.uncounted.iter().map(|(voter, why)| (name(&people, *voter), *why));
        let could = tally.could.iter().take(NAMES_MAX).map(|voter| name(&people, *voter));
        (uncounted.collect(), could.collect())
    });
    let is_satisfiable = counted.tally.as_ref().is_some_and(|tally| tally.satisfiable);
    let rules = progress(&round, &counted, &people, now);
    let item = view::to_item(&mut people_of, ctx.principal(), round, &counted, now);
    let content = policy.unwrap_or_else(|| to_view(content));
    Ok(Detail {
        item,
        content,
        omitted_findings,
        rules,
        uncounted,
        could,
        is_satisfiable,
        blockers,
        caller,
        successor,
        earlier_rejection,
        refused,
        marks_lost_at,
    })
}

/// Decodes the content of a round. Returns it as it is shown, too, if it is a policy: policies can be large.
fn read(round: &Round, stored: &[u8]) -> Result<(Content, Option<ContentView>), Error> {
    let content = Content::decode(round.action, round.generation, stored)?;
    let view = match &content {
        Content::Policy(content) => Some(policy_view(content)),
        Content::Rule(_) | Content::Draft(_) | Content::Undo(_) => None,
    };
    Ok((content, view))
}

fn policy_view(content: &PolicyContent) -> ContentView {
    let mut differences = diff::compare(&content.base, &content.candidate);
    let omitted = differences.len().saturating_sub(DIFFERENCES_MAX);
    differences.truncate(DIFFERENCES_MAX);
    let (yaml, marks) = (content.candidate.to_yaml(), content.candidate.marks());
    ContentView::Policy { differences, omitted, yaml, marks }
}

/// Returns when the gateway has last dropped marks, if it could drop those under review.
async fn marks_lost_at(
    conn: &mut Conn,
    round: &Round,
    content: &Content,
    now: Timestamp,
) -> Result<Option<Timestamp>, Error> {
    let reviewed = match content {
        Content::Policy(content) => &content.candidate,
        Content::Draft(content) => &content.result,
        Content::Undo(content) => &content.after,
        Content::Rule(_) => return Ok(None),
    };
    if rounds::effective_state(round, now).is_closed() || reviewed.marks().is_empty() {
        return Ok(None);
    }
    store::marks_lost_at(conn, round.place.gateway.id).await
}

/// Limits the texts of the gateway and the agent: the findings come first, since they are reviewed, and the words of an
/// agent must not displace them (T20). What lists show comes next, then the log lines. Returns the number of findings
/// that are not complete.
fn limit_texts(
    round: &mut Round,
    content: &mut Content,
    refused: &mut Vec<RefusedConnection>,
) -> usize {
    let mut room = Room::new(ITEM_BYTES_MAX);
    let omitted = match content {
        Content::Draft(draft) => {
            let omitted = room.keep(&mut draft.findings);
            omitted + draft.findings.iter().filter(|line| ends_with_hash(line)).count()
        }
        Content::Policy(_) | Content::Rule(_) | Content::Undo(_) => 0,
    };
    if let Some(facts) = &mut round.summary.draft {
        facts.fit(&mut room);
    }
    let bytes = |of: &RefusedConnection| of.binary.len() + of.host.len() + of.line.len();
    let fitting = refused.iter().take_while(|line| room.take(bytes(line))).count();
    refused.truncate(fitting);
    omitted
}

fn to_view(content: Content) -> ContentView {
    match content {
        Content::Rule(content) => ContentView::Rule(*content),
        Content::Draft(content) => ContentView::Draft(content),
        Content::Undo(content) => ContentView::Undo(content),
        Content::Policy(content) => policy_view(&content),
    }
}

fn progress(
    round: &Round,
    counted: &Counted,
    people: &People,
    now: Timestamp,
) -> Vec<RuleProgress> {
    let Some(tally) = &counted.tally else { return Vec::new() };
    let (rules, votes) = (counted.rules.rules(), &counted.votes);
    let possible = possible_voters(&rules, &round.facts(), votes, people, now);
    let scopes = counted.rules.workflows.iter().map(|workflow| Some(workflow.scope.to_string()));
    let scopes = scopes.chain(std::iter::repeat(None));
    let rules = tally.rules.iter().zip(possible).zip(scopes);
    rules.map(|((rule, of), scope)| rule_progress(rule, of, scope, people)).collect()
}

/// `possible` has the possible voters of each group.
fn rule_progress(
    rule: &RuleTally,
    possible: Vec<Vec<PrincipalId>>,
    scope: Option<String>,
    people: &People,
) -> RuleProgress {
    let names = |voters: &[PrincipalId]| voters.iter().map(|voter| name(people, *voter)).collect();
    let groups = rule.groups.iter().zip(possible).map(|(group, could)| GroupProgress {
        name: group.name.clone(),
        needed: group.need,
        lacks: u32::try_from(group.counting.len())
            .map_or(0, |have| group.need.saturating_sub(have)),
        counting: names(&group.counting),
        could: names(&could[..could.len().min(NAMES_MAX)]),
        could_count: could.len(),
        is_chosen: group.is_chosen,
    });
    RuleProgress { scope, is_met: rule.is_met, groups: groups.collect() }
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
