//! A rule in the columns of its table.
//!
//! Without `rule_json`, the other columns are the whole rule, as earlier products stored it. With it, they are a true
//! summary: the least number of approvals, and the roles that the rule names.

use super::rule::{
    APPLY_WINDOW_MINUTES_DEFAULT, EXPIRE_MINUTES_DEFAULT, GROUP_NAME_DEFAULT, Rule, RuleFault,
    VoterGroup, VoterSet,
};
use crate::role::Role;

/// The columns of a stored rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleColumns {
    /// Least number of approvals: 1 to 20.
    pub required_approvals: i32,
    /// Roles as a JSON array; empty for operator.
    pub required_roles_json: String,
    /// Whether authors, owners and makers are excluded from approving.
    pub distinct_actors: bool,
    /// Minutes until the escalation.
    pub escalation_timeout_minutes: Option<i32>,
    /// The rule as JSON; `None` if the other columns are the whole rule.
    pub rule_json: Option<String>,
}

impl Rule {
    /// Returns the columns to store.
    ///
    /// # Errors
    /// A fault if the rule is not within its limits.
    pub fn to_columns(&self) -> Result<RuleColumns, RuleFault> {
        self.check()?;
        let json = |value: Result<String, serde_json::Error>| {
            value.map_err(|error| fault(format!("cannot be stored: {error}")))
        };
        let minutes = self.escalation_timeout_minutes.and_then(|at| i32::try_from(at).ok());
        let mut columns = RuleColumns {
            required_approvals: i32::try_from(self.least_approvals()).unwrap_or(i32::MAX),
            required_roles_json: json(serde_json::to_string(&self.roles()))?,
            distinct_actors: self.distinct_actors,
            escalation_timeout_minutes: minutes,
            rule_json: None,
        };
        if Self::from_columns(&columns).as_ref() != Ok(self) {
            columns.rule_json = Some(json(serde_json::to_string(self))?);
        }
        Ok(columns)
    }

    /// Reads a rule from its columns.
    ///
    /// # Errors
    /// A fault if this version cannot read it: a change in its scope is then refused.
    pub fn from_columns(columns: &RuleColumns) -> Result<Self, RuleFault> {
        let rule = match &columns.rule_json {
            Some(json) => serde_json::from_str(json).map_err(|error| fault(error.to_string()))?,
            None => simple_rule(columns)?,
        };
        rule.check()?;
        Ok(rule)
    }
}

/// Returns the rule of columns without `rule_json`: one group of the least role.
fn simple_rule(columns: &RuleColumns) -> Result<Rule, RuleFault> {
    let roles: Vec<Role> = serde_json::from_str(&columns.required_roles_json)
        .map_err(|error| fault(format!("has unknown roles: {error}")))?;
    let role = roles.into_iter().min().unwrap_or(Role::Operator);
    let positive = |value: i32| {
        u32::try_from(value).map_err(|_| fault(format!("has a negative number, {value}")))
    };
    let voters = VoterSet::of_role(role);
    let required = positive(columns.required_approvals)?;
    Ok(Rule {
        groups: vec![VoterGroup { name: GROUP_NAME_DEFAULT.to_owned(), required, voters }],
        required_groups: 1,
        distinct_actors: columns.distinct_actors,
        escalation: None,
        escalation_timeout_minutes: columns.escalation_timeout_minutes.map(positive).transpose()?,
        expire_minutes: EXPIRE_MINUTES_DEFAULT,
        apply_window_minutes: APPLY_WINDOW_MINUTES_DEFAULT,
    })
}

fn fault(why: String) -> RuleFault {
    RuleFault { field: "rule".to_owned(), why }
}
