//! The rule of a workflow: who must approve.
//!
//! Invariants
//! - a [`Rule`] is within its limits: [`Rule::check`] runs before a rule is stored and after it is read;
//! - a rule names voters by their ids, so that a new principal or group of the same name does not match.

use serde::{Deserialize, Serialize};

use crate::role::Role;

/// Maximum number of groups in a rule.
pub const GROUPS_MAX: usize = 8;
/// Maximum number of approvals that a group, and a whole rule, can require.
pub const REQUIRED_MAX: u32 = 20;
/// Maximum number of names in a set of voters.
pub const VOTERS_MAX: usize = 50;
/// Maximum length of the name of a group of voters, in characters.
const GROUP_NAME_CHARACTERS_MAX: usize = 64;
/// Range of the time until the escalation, in minutes.
const ESCALATION_MINUTES: (u32, u32) = (1, 10_080);
/// Range of the time for voting, in minutes.
const EXPIRE_MINUTES: (u32, u32) = (5, 129_600);
/// Time for voting if a rule does not specify it, in minutes: seven days.
pub const EXPIRE_MINUTES_DEFAULT: u32 = 10_080;
/// Range of the time from the decision to the write, in minutes.
const APPLY_WINDOW_MINUTES: (u32, u32) = (5, 10_080);
/// Time from the decision to the write if a rule does not specify it, in minutes: one day.
pub const APPLY_WINDOW_MINUTES_DEFAULT: u32 = 1_440;
/// Name of the only group of a rule whose group has no name.
pub const GROUP_NAME_DEFAULT: &str = "approvers";

/// Who must approve a change. Its JSON is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Groups of voters: 1 to [`GROUPS_MAX`].
    pub groups: Vec<VoterGroup>,
    /// Number of groups that must be met: 1 to the number of groups.
    pub required_groups: u32,
    /// Whether authors, owners and makers are excluded from approving.
    pub distinct_actors: bool,
    /// Voters that join every group at the escalation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub escalation: Option<VoterSet>,
    /// Minutes from the opening of a round to its escalation; `None`: it does not escalate.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub escalation_timeout_minutes: Option<u32>,
    /// Minutes from the opening of a round to its expiry.
    pub expire_minutes: u32,
    /// Minutes from the decision to the latest write.
    pub apply_window_minutes: u32,
}

/// A group of voters of whom a number must approve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoterGroup {
    /// Name, unique in the rule.
    pub name: String,
    /// Number of approvals: 1 to [`REQUIRED_MAX`].
    pub required: u32,
    /// Who can give them.
    pub voters: VoterSet,
}

/// A set of voters: active principals with a role, restricted to those that are named if any are named. A service
/// principal is in it only if it is named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoterSet {
    /// Least role on the gateway of the round. A higher one is sufficient.
    pub role: Role,
    /// Ids of users, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub users: Vec<i64>,
    /// Ids of groups of users, sorted. A member that joined after the opening of the round does not vote through it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub groups: Vec<i64>,
    /// Ids of service principals, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub service_principals: Vec<i64>,
}

impl VoterSet {
    /// Returns every active user with a role.
    #[must_use]
    pub fn of_role(role: Role) -> Self {
        Self { role, users: Vec::new(), groups: Vec::new(), service_principals: Vec::new() }
    }

    /// Returns whether it names voters, and so is restricted to them.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.names() > 0
    }

    /// Returns the number of names.
    #[must_use]
    pub fn names(&self) -> usize {
        self.users.len() + self.groups.len() + self.service_principals.len()
    }
}

/// A fault of a rule: the path of the field in the rule, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFault {
    /// Path in the rule, such as `groups[1].required`.
    pub field: String,
    /// What is wrong with it, including the limit.
    pub why: String,
}

impl RuleFault {
    fn new(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self { field: field.into(), why: why.into() }
    }
}

impl Rule {
    /// Returns the least number of approvals with which the rule can be met.
    #[must_use]
    pub fn least_approvals(&self) -> u32 {
        let mut required: Vec<u32> = self.groups.iter().map(|group| group.required).collect();
        required.sort_unstable();
        required.iter().take(self.required_groups as usize).sum()
    }

    /// Returns the roles that the rule names, without duplicates, from least to most.
    #[must_use]
    pub fn roles(&self) -> Vec<Role> {
        let mut roles: Vec<Role> = self.voter_sets().map(|(_, set)| set.role).collect();
        roles.sort_unstable();
        roles.dedup();
        roles
    }

    /// Returns the sets of voters with their paths: those of the groups, then the escalation.
    pub fn voter_sets(&self) -> impl Iterator<Item = (String, &VoterSet)> {
        let groups = self.groups.iter().enumerate();
        let groups = groups.map(|(at, group)| (format!("groups[{at}].voters"), &group.voters));
        groups.chain(self.escalation.iter().map(|set| ("escalation".to_owned(), set)))
    }

    /// Checks all limits.
    ///
    /// # Errors
    /// The first fault, with its field.
    pub fn check(&self) -> Result<(), RuleFault> {
        let groups = self.groups.len();
        if groups == 0 || groups > GROUPS_MAX {
            let why = format!("must have 1 to {GROUPS_MAX} groups, and has {groups}");
            return Err(RuleFault::new("groups", why));
        }
        for (at, group) in self.groups.iter().enumerate() {
            self.check_group(at, group)?;
        }
        if !(1..=groups).contains(&(self.required_groups as usize)) {
            let why =
                format!("must be at most the number of groups, {groups}; 0 means all of them");
            return Err(RuleFault::new("required_groups", why));
        }
        let least = self.least_approvals();
        if least > REQUIRED_MAX {
            let why = format!(
                "require at least {least} approvals together, and at most {REQUIRED_MAX} are possible"
            );
            return Err(RuleFault::new("groups", why));
        }
        for (field, set) in self.voter_sets() {
            check_voters(&field, set)?;
        }
        self.check_clocks()
    }

    fn check_group(&self, at: usize, group: &VoterGroup) -> Result<(), RuleFault> {
        let length = group.name.chars().count();
        if !(1..=GROUP_NAME_CHARACTERS_MAX).contains(&length)
            || group.name.chars().any(char::is_control)
        {
            let why = format!(
                "must be 1 to {GROUP_NAME_CHARACTERS_MAX} characters, without control characters"
            );
            return Err(RuleFault::new(format!("groups[{at}].name"), why));
        }
        if self.groups[..at].iter().any(|other| other.name == group.name) {
            let why = format!("`{}` is the name of two groups", group.name);
            return Err(RuleFault::new(format!("groups[{at}].name"), why));
        }
        if !(1..=REQUIRED_MAX).contains(&group.required) {
            let why = format!("must be 1 to {REQUIRED_MAX}");
            return Err(RuleFault::new(format!("groups[{at}].required"), why));
        }
        Ok(())
    }

    fn check_clocks(&self) -> Result<(), RuleFault> {
        if self.escalation.is_some() && self.escalation_timeout_minutes.is_none() {
            let why = "must be set, since the rule has voters for an escalation";
            return Err(RuleFault::new("escalation_timeout_minutes", why));
        }
        let clocks = [
            ("escalation_timeout_minutes", self.escalation_timeout_minutes, ESCALATION_MINUTES),
            ("expire_minutes", Some(self.expire_minutes), EXPIRE_MINUTES),
            ("apply_window_minutes", Some(self.apply_window_minutes), APPLY_WINDOW_MINUTES),
        ];
        for (field, minutes, (least, most)) in clocks {
            if minutes.is_some_and(|minutes| !(least..=most).contains(&minutes)) {
                return Err(RuleFault::new(field, format!("must be {least} to {most} minutes")));
            }
        }
        Ok(())
    }
}

fn check_voters(field: &str, set: &VoterSet) -> Result<(), RuleFault> {
    if set.role == Role::None {
        let why = "must be viewer, operator or admin";
        return Err(RuleFault::new(format!("{field}.role"), why));
    }
    let names = set.names();
    if names > VOTERS_MAX {
        let why = format!("names {names} voters, and at most {VOTERS_MAX} are possible");
        return Err(RuleFault::new(field, why));
    }
    for (kind, ids) in [
        ("users", &set.users),
        ("groups", &set.groups),
        ("service_principals", &set.service_principals),
    ] {
        if !ids.is_sorted_by(|one, next| one < next) {
            return Err(RuleFault::new(format!("{field}.{kind}"), "names a voter twice"));
        }
    }
    Ok(())
}
