//! Which rules apply to a sandbox, who can vote, and whether the rules can be met.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::domain::{self, ShownWorkflow};
use super::store::owner_of;
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::ctx::Ctx;
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::governance::{
    Electorate, People, RoundFacts, Rule, Shortfall, Why, electorate, shortfall,
};
use crate::resources::stored_rules::domain::workflows_applying;

/// Maximum number of principals that are named, for each group and of those who are excluded.
pub const NAMED_MAX: usize = 100;

/// Workflows that apply to a sandbox.
#[derive(Debug)]
pub struct Explanation {
    /// The workflows, from the widest to the narrowest scope.
    pub workflows: Vec<ExplainedWorkflow>,
    /// Owner of the sandbox; `None` if it is not known.
    pub owner: Option<String>,
}

/// A workflow that applies to a sandbox.
#[derive(Debug)]
pub struct ExplainedWorkflow {
    /// The workflow.
    pub workflow: ShownWorkflow,
    /// Its groups, in order; empty if this version cannot read the rule.
    pub groups: Vec<ExplainedGroup>,
    /// Who cannot vote although the rule names them or their role is sufficient, and why; at most [`NAMED_MAX`].
    pub excluded: Vec<(Arc<str>, Why)>,
    /// Whether the rule can be met.
    pub can_be_met: bool,
    /// The group that lacks voters.
    pub lacking: Option<Shortfall>,
}

/// The voters of a group.
#[derive(Debug)]
pub struct ExplainedGroup {
    /// Name.
    pub name: String,
    /// Required number of approvals.
    pub required: u32,
    /// Who can approve, at most [`NAMED_MAX`].
    pub voters: Vec<Arc<str>>,
    /// Number of all who can approve.
    pub count: usize,
}

/// Explains the workflows of a sandbox, which need not exist.
pub async fn explain(ctx: &Ctx, sandbox: &SandboxName) -> Result<Explanation, Error> {
    let gateway = ctx.required_gateway()?;
    let mut conn = ctx.db().read().await?;
    let (workspace, name) = (Some(&*sandbox.workspace), Some(&*sandbox.name));
    let workflows = workflows_applying(&mut conn, &gateway.name, workspace, name).await?;
    let owner = owner_of(&mut conn, &gateway.name, sandbox).await?;
    drop(conn);
    let people = People::on_gateway(&ctx.app().snapshot, gateway.id);
    // A review that will be opened by an author who is not a voter: all who are members now can vote.
    let round = RoundFacts {
        opened_at: Timestamp::from_unix_micros(i64::MAX),
        authors: Vec::new(),
        owner: owner.as_deref().and_then(PrincipalId::parse),
        roots: BTreeSet::new(),
    };
    let explained = workflows.into_iter().map(|stored| {
        let rule = stored.rule();
        let workflow = domain::shown(ctx, stored);
        match rule {
            Some(rule) => explain_rule(workflow, &rule, &people, &round),
            None => unreadable(workflow),
        }
    });
    Ok(Explanation { workflows: explained.collect(), owner })
}

fn explain_rule(
    workflow: ShownWorkflow,
    rule: &Rule,
    people: &People,
    round: &RoundFacts,
) -> ExplainedWorkflow {
    let Electorate { groups, mut excluded } = electorate(rule, people, Some(round));
    excluded.truncate(NAMED_MAX);
    let name = |principal: PrincipalId| {
        people
            .get(principal)
            .map_or_else(|| Arc::from(principal.to_string()), |person| Arc::clone(&person.name))
    };
    let groups = rule.groups.iter().zip(groups).map(|(group, voters)| ExplainedGroup {
        name: group.name.clone(),
        required: group.required,
        count: voters.len(),
        voters: voters.into_iter().take(NAMED_MAX).map(name).collect(),
    });
    let groups = groups.collect();
    let excluded = excluded.into_iter().map(|(principal, why)| (name(principal), why)).collect();
    let lacking = shortfall(rule, people, Some(round));
    ExplainedWorkflow { workflow, groups, excluded, can_be_met: lacking.is_none(), lacking }
}

/// A rule that this version cannot read cannot be met.
fn unreadable(workflow: ShownWorkflow) -> ExplainedWorkflow {
    let (groups, excluded) = (Vec::new(), Vec::new());
    ExplainedWorkflow { workflow, groups, excluded, can_be_met: false, lacking: None }
}
