//! A workflow as a caller states it, parsed: its scope, and a rule whose voters are still names.

use crate::access::principal::PrincipalId;
use crate::access::snapshot::Snapshot;
use crate::characters::{excerpt, is_invisible};
use crate::db::types::{GroupId, SandboxName, ServicePrincipalId, UserId};
use crate::error::Error;
use crate::governance::{GROUPS_MAX, Rule, RuleFault, RuleScope, VOTERS_MAX, VoterGroup, VoterSet};
use crate::resources::users::domain::Email;
use crate::role::Role;

/// Placeholder of a name that is only checked for its form.
const CHECKED_SANDBOX: &str = "any";

/// Parses the fields that name a scope on the gateway of the call.
///
/// # Errors
/// `Invalid` for a selector, and for names that are too long or have other characters.
pub fn scope(workspace: String, sandbox: String, selector: &str) -> Result<RuleScope, Error> {
    if !selector.is_empty() {
        let why = "is not available yet: name a gateway, a workspace or a sandbox";
        return Err(Error::invalid("selector", why));
    }
    match (workspace.is_empty(), sandbox.is_empty()) {
        (true, true) => Ok(RuleScope::Gateway),
        (false, true) => {
            let parsed = SandboxName::parse("", workspace, CHECKED_SANDBOX.to_owned())?;
            Ok(RuleScope::Workspace(parsed.workspace))
        }
        (_, false) => Ok(RuleScope::Sandbox(SandboxName::parse("", workspace, sandbox)?)),
    }
}

/// A rule whose voters are names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedRule {
    /// The groups.
    pub groups: Vec<NamedGroup>,
    /// Number of groups that must be met; 0 means all.
    pub required_groups: u32,
    /// Whether authors, owners and makers are excluded from approving.
    pub distinct_actors: bool,
    /// Voters that join at the escalation.
    pub escalation: Option<NamedVoters>,
    /// Minutes until the escalation.
    pub escalation_timeout_minutes: Option<u32>,
    /// Minutes until the expiry.
    pub expire_minutes: u32,
    /// Minutes from the decision to the latest write.
    pub apply_window_minutes: u32,
}

/// A group of voters that are names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedGroup {
    /// Name.
    pub name: String,
    /// Number of approvals.
    pub required: u32,
    /// The voters.
    pub voters: NamedVoters,
}

/// A set of voters that are names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamedVoters {
    /// Least role; `None`: operator, or viewer if voters are named.
    pub role: Option<Role>,
    /// E-mail addresses.
    pub users: Vec<String>,
    /// Names of groups.
    pub groups: Vec<String>,
    /// Names of service principals.
    pub service_principals: Vec<String>,
}

impl NamedRule {
    /// Replaces the names by ids, and checks all limits.
    ///
    /// # Errors
    /// `Invalid` with the path of the field: an unknown name, or a value outside its limits.
    pub fn resolve(&self, snapshot: &Snapshot) -> Result<Rule, Error> {
        let count = self.groups.len();
        if count > GROUPS_MAX {
            let why = format!("must have 1 to {GROUPS_MAX} groups, and has {count}");
            return Err(Error::invalid("rule.groups", why));
        }
        let mut groups = Vec::new();
        for (at, group) in self.groups.iter().enumerate() {
            // Stored names can be older than this check.
            let name = &group.name;
            if name.trim_matches(' ') != name || name.contains(is_invisible) {
                let why = "must have visible characters only, without spaces at its ends";
                return Err(Error::invalid(format!("rule.groups[{at}].name"), why));
            }
            let field = format!("rule.groups[{at}].voters");
            let voters = group.voters.resolve(&field, snapshot)?;
            groups.push(VoterGroup { name: group.name.clone(), required: group.required, voters });
        }
        let all = u32::try_from(count).unwrap_or(u32::MAX);
        let escalation = self.escalation.as_ref();
        let escalation =
            escalation.map(|voters| voters.resolve("rule.escalation", snapshot)).transpose()?;
        let rule = Rule {
            groups,
            required_groups: if self.required_groups == 0 { all } else { self.required_groups },
            distinct_actors: self.distinct_actors,
            escalation,
            escalation_timeout_minutes: self.escalation_timeout_minutes,
            expire_minutes: self.expire_minutes,
            apply_window_minutes: self.apply_window_minutes,
        };
        rule.check().map_err(invalid_rule)?;
        Ok(rule)
    }
}

/// Returns the error for a rule with a fault.
#[must_use]
pub fn invalid_rule(fault: RuleFault) -> Error {
    Error::invalid(format!("rule.{}", fault.field), fault.why)
}

impl NamedVoters {
    fn resolve(&self, field: &str, snapshot: &Snapshot) -> Result<VoterSet, Error> {
        let count = self.users.len() + self.groups.len() + self.service_principals.len();
        if count > VOTERS_MAX {
            let why = format!("names {count} voters, and at most {VOTERS_MAX} are possible");
            return Err(Error::invalid(field, why));
        }
        let user = |name: &str| {
            let email = Email::parse("", name).ok()?;
            snapshot.user_by_email(email.as_str()).map(UserId::get)
        };
        let group = |name: &str| snapshot.group_by_name(name).map(GroupId::get);
        let program =
            |name: &str| snapshot.service_principal_by_name(name).map(ServicePrincipalId::get);
        let default = if count > 0 { Role::Viewer } else { Role::Operator };
        Ok(VoterSet {
            role: self.role.unwrap_or(default),
            users: ids(&format!("{field}.users"), &self.users, user)?,
            groups: ids(&format!("{field}.groups"), &self.groups, group)?,
            service_principals: ids(
                &format!("{field}.service_principals"),
                &self.service_principals,
                program,
            )?,
        })
    }
}

/// Finds the ids of names, sorted.
fn ids(
    field: &str,
    names: &[String],
    find: impl Fn(&str) -> Option<i64>,
) -> Result<Vec<i64>, Error> {
    let mut ids = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let id = find(name).ok_or_else(|| {
            let shown = excerpt(name, 80);
            Error::invalid(format!("{field}[{at}]"), format!("`{shown}` does not exist"))
        })?;
        if ids.contains(&id) {
            return Err(Error::invalid(format!("{field}[{at}]"), "names a voter twice"));
        }
        ids.push(id);
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Returns a rule with the current names of its voters; principals and groups that no longer exist are shown by their
/// ids.
#[must_use]
pub fn with_names(rule: &Rule, snapshot: &Snapshot) -> NamedRule {
    let groups = rule.groups.iter().map(|group| NamedGroup {
        name: group.name.clone(),
        required: group.required,
        voters: name_voters(&group.voters, snapshot),
    });
    NamedRule {
        groups: groups.collect(),
        required_groups: rule.required_groups,
        distinct_actors: rule.distinct_actors,
        escalation: rule.escalation.as_ref().map(|voters| name_voters(voters, snapshot)),
        escalation_timeout_minutes: rule.escalation_timeout_minutes,
        expire_minutes: rule.expire_minutes,
        apply_window_minutes: rule.apply_window_minutes,
    }
}

fn name_voters(voters: &VoterSet, snapshot: &Snapshot) -> NamedVoters {
    let principal = |principal: PrincipalId| {
        let name = snapshot.principal_name(principal);
        name.map_or_else(|| principal.to_string(), |name| name.to_string())
    };
    let group = |id: i64| {
        let name = snapshot.group_name(GroupId(id));
        name.map_or_else(|| format!("group:{id}"), |name| name.to_string())
    };
    let users = voters.users.iter().map(|id| principal(PrincipalId::User(UserId(*id))));
    let programs = voters.service_principals.iter();
    let programs =
        programs.map(|id| principal(PrincipalId::ServicePrincipal(ServicePrincipalId(*id))));
    NamedVoters {
        role: Some(voters.role),
        users: users.collect(),
        groups: voters.groups.iter().map(|id| group(*id)).collect(),
        service_principals: programs.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_a_gateway_a_workspace_or_a_sandbox() {
        let parse =
            |workspace: &str, sandbox: &str| scope(workspace.to_owned(), sandbox.to_owned(), "");
        let sandbox = |workspace: &str| {
            RuleScope::Sandbox(SandboxName {
                workspace: workspace.to_owned(),
                name: "dev".to_owned(),
            })
        };
        assert_eq!(parse("", "").unwrap(), RuleScope::Gateway);
        assert_eq!(parse("team", "").unwrap(), RuleScope::Workspace("team".to_owned()));
        assert_eq!(parse("team", "dev").unwrap(), sandbox("team"));
        assert_eq!(parse("", "dev").unwrap(), sandbox("default"));
        for (workspace, name) in [("a b", ""), ("", "a/b"), (&*"w".repeat(254), "")] {
            assert!(parse(workspace, name).is_err(), "{workspace} {name}");
        }
        assert!(scope(String::new(), String::new(), "access/env=prod").is_err());
    }
}
