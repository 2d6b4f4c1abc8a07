//! The principals of a run, and the rules that are set.

use shoreguard::pb::v1::ApprovalRule;

use crate::approval_workflows::{named, rule};

/// The principals. Those from [`PROGRAMS`] on are service principals that `eve` has made.
pub(super) const NAMES: [&str; 7] = ["ana", "ben", "cleo", "dora", "eve", "bot", "bit"];
/// The maker of the service principals, an admin.
pub(super) const EVE: usize = 4;
/// Position of the first service principal.
pub(super) const PROGRAMS: usize = 5;
/// Group of users that [`RULES`] name.
pub(super) const GROUP: &str = "reviewers";

/// Voters of whom a number must approve: members of [`GROUP`] and principals by name, or all operators.
pub(super) struct Voters {
    pub(super) required: u32,
    pub(super) names: &'static [usize],
    pub(super) of_group: bool,
}

/// Groups that must all be met, and whether those concerned are excluded.
pub(super) struct Workflow {
    pub(super) groups: &'static [Voters],
    pub(super) distinct: bool,
}

const fn operators(required: u32) -> Voters {
    Voters { required, names: &[], of_group: false }
}

/// The rules that are set.
pub(super) static RULES: [Workflow; 5] = [
    Workflow { groups: &[operators(1)], distinct: true },
    Workflow { groups: &[operators(2)], distinct: true },
    Workflow {
        groups: &[
            Voters { required: 1, names: &[], of_group: true },
            Voters { required: 1, names: &[0, 1, 5], of_group: false },
        ],
        distinct: true,
    },
    Workflow {
        groups: &[Voters { required: 2, names: &[0, 2, 4, 5, 6], of_group: false }],
        distinct: true,
    },
    Workflow { groups: &[operators(2)], distinct: false },
];

/// Returns the person behind a principal.
pub(super) fn person(principal: usize) -> usize {
    if principal >= PROGRAMS { EVE } else { principal }
}

/// Returns the name of a principal in rules and requests.
pub(super) fn name(principal: usize) -> String {
    let name = NAMES[principal];
    if principal < PROGRAMS { format!("{name}@example.com") } else { name.to_owned() }
}

/// Returns the principal with a name as reviews show it.
pub(super) fn parse_name(shown: &str) -> Option<usize> {
    let short = shown.strip_prefix("sp:").or(shown.strip_suffix("@example.com"))?;
    NAMES.iter().position(|name| *name == short)
}

/// Returns a rule as a request has it.
pub(super) fn request(workflow: &Workflow) -> ApprovalRule {
    let groups = workflow.groups.iter().zip(["first", "second"]).map(|(of, title)| {
        let names: Vec<String> = of.names.iter().map(|of| name(*of)).collect();
        let (users, programs): (Vec<&str>, Vec<&str>) =
            names.iter().map(String::as_str).partition(|name| name.contains('@'));
        let groups: &[&str] = if of.of_group { &[GROUP] } else { &[] };
        (title, of.required, named(&users, groups, &programs))
    });
    let groups: Vec<_> = groups.collect();
    ApprovalRule { distinct_actors: Some(workflow.distinct), ..rule(&groups) }
}
