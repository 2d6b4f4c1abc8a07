//! Rounds as a caller sees them. The numbers are those of the function that decides.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::store;
use crate::access::principal::PrincipalId;
use crate::app::App;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::types::GatewayId;
use crate::error::Error;
use crate::governance::{People, Tally, Vote, tally};
use crate::resources::approvals::rounds::{self, Round, RoundState};
use crate::resources::approvals::rules::{self, RulesInForce};
use crate::resources::approvals::votes::decide::votes_and_needed;
use crate::resources::stored_rules::domain::workflows_on;

/// Rounds that are counted before other tasks get their turn.
const COUNTED_AT_ONCE: usize = 100;

/// A round in a list.
#[derive(Debug, Clone)]
pub struct Item {
    /// The round.
    pub round: Round,
    /// Its state now: one whose time is over has expired.
    pub state: RoundState,
    /// Names of the authors, the proposer first.
    pub authors: Vec<String>,
    /// Name of the owner.
    pub owner: Option<String>,
    /// Approvals that count, of the rule that lacks the most.
    pub votes: u32,
    /// Approvals that this rule requires.
    pub needed: u32,
    /// Whether an approval of the caller would count for what the rules lack.
    pub awaits_caller: bool,
}

/// A round, and what decides it.
#[derive(Debug)]
pub struct Counted {
    /// The rules in force.
    pub rules: RulesInForce,
    /// The votes that were not cleared.
    pub votes: Vec<Vote>,
    /// The decision; `None` if the round has ended or a rule cannot be read.
    pub tally: Option<Tally>,
}

/// The people of the gateways of a page, each read once.
#[derive(Debug)]
pub struct PeopleOf<'a> {
    app: &'a App,
    gateways: HashMap<GatewayId, Arc<People>>,
}

impl<'a> PeopleOf<'a> {
    /// Creates it without people.
    #[must_use]
    pub fn new(app: &'a App) -> Self {
        Self { app, gateways: HashMap::new() }
    }

    /// Returns the people of a gateway.
    pub fn on(&mut self, gateway: GatewayId) -> Arc<People> {
        let snapshot = &self.app.snapshot;
        let people = self.gateways.entry(gateway);
        Arc::clone(people.or_insert_with(|| Arc::new(People::on_gateway(snapshot, gateway))))
    }
}

/// Returns the name of a principal, or its id if it was deleted.
#[must_use]
pub fn name(people: &People, principal: PrincipalId) -> String {
    people.get(principal).map_or_else(|| principal.to_string(), |person| person.name.to_string())
}

/// Counts the votes of rounds, in their order.
///
/// # Errors
/// Those of the database.
pub async fn count(
    conn: &mut Conn,
    people: &mut PeopleOf<'_>,
    page: &[Round],
    now: Timestamp,
) -> Result<Vec<Counted>, Error> {
    let open = page.iter().filter(|round| !rounds::effective_state(round, now).is_closed());
    let open: Vec<&Round> = open.collect();
    let ids: Vec<i64> = open.iter().map(|round| round.id.get()).collect();
    let mut votes: HashMap<i64, Vec<Vote>> = HashMap::new();
    if !ids.is_empty() {
        for (round, vote) in store::current_votes(conn, &ids).await? {
            votes.entry(round).or_default().extend(vote.to_vote());
        }
    }
    let gateways: BTreeSet<String> =
        open.iter().map(|round| round.place.gateway.name.to_string()).collect();
    let gateways: Vec<String> = gateways.into_iter().collect();
    let workflows =
        if gateways.is_empty() { Vec::new() } else { workflows_on(conn, &gateways).await? };
    let mut counted = Vec::with_capacity(page.len());
    for (index, round) in page.iter().enumerate() {
        if index % COUNTED_AT_ONCE == COUNTED_AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
        if rounds::effective_state(round, now).is_closed() {
            let rules = RulesInForce::default();
            counted.push(Counted { rules, votes: Vec::new(), tally: None });
            continue;
        }
        let rules = rules::applying(&workflows, &round.place);
        let votes = votes.remove(&round.id.get()).unwrap_or_default();
        let tally = rules.unreadable.is_none().then(|| {
            let people = people.on(round.place.gateway.id);
            tally(&rules.rules(), &round.facts(), &votes, &people, now)
        });
        counted.push(Counted { rules, votes, tally });
    }
    Ok(counted)
}

/// Returns rounds as items of a list, in their order.
///
/// # Errors
/// Those of the database.
pub async fn items(
    conn: &mut Conn,
    app: &App,
    caller: Option<PrincipalId>,
    page: Vec<Round>,
    now: Timestamp,
) -> Result<Vec<Item>, Error> {
    let mut people = PeopleOf::new(app);
    let counted = count(conn, &mut people, &page, now).await?;
    let items = page.into_iter().zip(counted);
    Ok(items.map(|(round, counted)| to_item(&mut people, caller, round, &counted, now)).collect())
}

pub(super) fn to_item(
    people: &mut PeopleOf<'_>,
    caller: Option<PrincipalId>,
    round: Round,
    counted: &Counted,
    now: Timestamp,
) -> Item {
    let people = people.on(round.place.gateway.id);
    let (votes, needed) = counted.tally.as_ref().map_or((0, 0), votes_and_needed);
    let state = rounds::effective_state(&round, now);
    let could = |tally: &Tally| caller.is_some_and(|caller| tally.could.contains(&caller));
    Item {
        state,
        authors: round.authors.iter().map(|author| name(&people, *author)).collect(),
        owner: round.owner.map(|owner| name(&people, owner)),
        votes,
        needed,
        awaits_caller: state == RoundState::Open && counted.tally.as_ref().is_some_and(could),
        round,
    }
}

/// Returns a round as an item without numbers.
#[must_use]
pub fn uncounted_item(round: Round) -> Item {
    Item {
        state: round.state,
        authors: round.authors.iter().map(ToString::to_string).collect(),
        owner: round.owner.map(|owner| owner.to_string()),
        votes: 0,
        needed: 0,
        awaits_caller: false,
        round,
    }
}
