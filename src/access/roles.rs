//! Roles and how they combine. Pure: no clock, no database.

use std::sync::Arc;

use crate::role::Role;

/// Returns the global role: the higher of the caller's own and the highest of its groups.
#[must_use]
pub fn global_role(own: Role, groups: impl IntoIterator<Item = Role>) -> Role {
    groups.into_iter().fold(own, Role::max)
}

/// Returns the role that the bindings of one holder give on a gateway: the direct one, otherwise the lowest of the
/// matching selector bindings (T07).
#[must_use]
pub fn binding_role(direct: Option<Role>, picked: impl IntoIterator<Item = Role>) -> Option<Role> {
    direct.or_else(|| picked.into_iter().min())
}

/// Returns the role on one gateway, given the results of [`binding_role`] for the caller and for each of its groups.
///
/// A global admin cannot be locked out of a gateway by a binding (T06). Otherwise the caller's own binding decides,
/// then the highest binding of its groups, then the global role. A binding overrides the global role in both
/// directions.
#[must_use]
pub fn gateway_role(
    global: Role,
    own_binding: Option<Role>,
    group_bindings: impl IntoIterator<Item = Role>,
) -> Role {
    if global == Role::Admin {
        return Role::Admin;
    }
    own_binding.or_else(|| group_bindings.into_iter().max()).unwrap_or(global)
}

/// The part of a principal, or of one of its groups, in the role on one gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolderRoles {
    /// Global role.
    pub role: Role,
    /// Role by a binding on the gateway itself.
    pub direct: Option<Role>,
    /// Roles by selectors that match the gateway.
    pub matching: Vec<Role>,
}

impl HolderRoles {
    fn binding_role(&self) -> Option<Role> {
        binding_role(self.direct, self.matching.iter().copied())
    }
}

/// Returns the effective role on one gateway of a principal with these groups.
#[must_use]
pub fn effective_role(own: &HolderRoles, groups: &[HolderRoles]) -> Role {
    let everywhere = global_role(own.role, groups.iter().map(|group| group.role));
    gateway_role(
        everywhere,
        own.binding_role(),
        groups.iter().filter_map(HolderRoles::binding_role),
    )
}

/// Roles of one holder on a gateway: a caller, or a group that it is a member of.
#[derive(Debug, Clone)]
pub struct HolderBindings {
    /// Name of the holder.
    pub name: Arc<str>,
    /// Global role.
    pub role: Role,
    /// Role by a binding on the gateway itself.
    pub direct: Option<Role>,
    /// Selectors that match the gateway, with their roles.
    pub by_selector: Vec<(Arc<str>, Role)>,
}

/// Kind of a step to a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleStepKind {
    /// The caller's global role.
    OwnRole,
    /// The global role of one of its groups.
    GroupRole,
    /// The caller's binding on the gateway itself.
    OwnBinding,
    /// A selector binding of the caller.
    OwnSelector,
    /// A group's binding on the gateway itself.
    GroupBinding,
    /// A selector binding of a group.
    GroupSelector,
}

/// One input of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleStep {
    /// Kind of the step.
    pub kind: RoleStepKind,
    /// The group, if the step is that of a group.
    pub group: Option<Arc<str>>,
    /// The selector, if the step is a selector binding.
    pub selector: Option<Arc<str>>,
    /// The role that it gives.
    pub role: Role,
}

/// The rule that decided, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleRule {
    /// A global admin cannot be locked out: bindings are ignored (T06).
    GlobalAdmin,
    /// The caller's own binding: that on the gateway itself, otherwise the lowest of its matching selector bindings.
    Own,
    /// The highest role that the bindings of its groups give.
    Groups,
    /// The higher of the caller's global role and the highest of its groups.
    Global,
}

/// Explanation of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleExplanation {
    /// The role.
    pub role: Role,
    /// The global role.
    pub global: Role,
    /// The rule that decided.
    pub rule: RoleRule,
    /// All inputs of the role.
    pub steps: Vec<RoleStep>,
    /// Index of the step that decided.
    pub deciding_index: usize,
}

impl RoleExplanation {
    /// Returns the step that decided.
    #[must_use]
    pub fn deciding_step(&self) -> &RoleStep {
        &self.steps[self.deciding_index]
    }
}

/// Returns the role of [`gateway_role`], or of [`global_role`] if `gateway` is false, with the steps that led to it. Of
/// steps with the same role, the first decides.
#[must_use]
pub fn explain(own: &HolderBindings, groups: &[HolderBindings], gateway: bool) -> RoleExplanation {
    let mut steps = Vec::new();
    let step = |kind, group, selector, role| RoleStep { kind, group, selector, role };
    steps.push(step(RoleStepKind::OwnRole, None, None, own.role));
    for group in groups {
        steps.push(step(RoleStepKind::GroupRole, Some(Arc::clone(&group.name)), None, group.role));
    }
    let highest = |steps: &[RoleStep], among: &[usize]| {
        among.iter().copied().reduce(|a, b| if steps[b].role > steps[a].role { b } else { a })
    };
    let by_roles: Vec<usize> = (0..steps.len()).collect();
    let by_role = highest(&steps, &by_roles).unwrap_or_default();
    let global = steps[by_role].role;
    if !gateway {
        return RoleExplanation {
            role: global,
            global,
            rule: RoleRule::Global,
            steps,
            deciding_index: by_role,
        };
    }
    let own_at = add_binding_steps(&mut steps, own, None);
    let of_groups: Vec<usize> = groups
        .iter()
        .filter_map(|group| add_binding_steps(&mut steps, group, Some(&group.name)))
        .collect();
    let (rule, decided) = match (own_at, highest(&steps, &of_groups)) {
        _ if global == Role::Admin => (RoleRule::GlobalAdmin, by_role),
        (Some(at), _) => (RoleRule::Own, at),
        (None, Some(at)) => (RoleRule::Groups, at),
        (None, None) => (RoleRule::Global, by_role),
    };
    RoleExplanation { role: steps[decided].role, global, rule, steps, deciding_index: decided }
}

/// Adds the bindings of a holder. Returns the index of the deciding one: the binding on the gateway itself, otherwise
/// the lowest.
fn add_binding_steps(
    steps: &mut Vec<RoleStep>,
    of: &HolderBindings,
    group: Option<&Arc<str>>,
) -> Option<usize> {
    let (direct, selector) = match group {
        None => (RoleStepKind::OwnBinding, RoleStepKind::OwnSelector),
        Some(_) => (RoleStepKind::GroupBinding, RoleStepKind::GroupSelector),
    };
    let mut add = |kind, selector, role| {
        steps.push(RoleStep { kind, group: group.cloned(), selector, role });
        steps.len() - 1
    };
    let named = of.direct.map(|role| add(direct, None, role));
    let mut lowest: Option<(Role, usize)> = None;
    for (text, role) in &of.by_selector {
        let at = add(selector, Some(Arc::clone(text)), *role);
        if lowest.is_none_or(|(low, _)| *role < low) {
            lowest = Some((*role, at));
        }
    }
    named.or(lowest.map(|(_, at)| at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::role::Role::{Admin, None as Nothing, Operator, Viewer};

    /// Global role, role on the gateway itself, roles by matching selectors.
    type Says = (Role, Option<Role>, &'static [Role]);

    fn holding(at: usize, (role, direct, picked): Says) -> HolderBindings {
        let selector = |(at, role): (usize, &Role)| (format!("access/n={at}").into(), *role);
        let picked = picked.iter().enumerate().map(selector).collect();
        HolderBindings { name: format!("group {at}").into(), role, direct, by_selector: picked }
    }

    /// Roles of the caller and of its groups -> the role on the gateway, the rule, and the deciding step.
    const TABLE: &[(Says, &[Says], Role, RoleRule, RoleStepKind)] = &[
        ((Viewer, None, &[]), &[], Viewer, RoleRule::Global, RoleStepKind::OwnRole),
        ((Viewer, Some(Operator), &[]), &[], Operator, RoleRule::Own, RoleStepKind::OwnBinding),
        ((Admin, Some(Viewer), &[]), &[], Admin, RoleRule::GlobalAdmin, RoleStepKind::OwnRole),
        ((Admin, None, &[Nothing]), &[], Admin, RoleRule::GlobalAdmin, RoleStepKind::OwnRole),
        ((Operator, Some(Viewer), &[]), &[], Viewer, RoleRule::Own, RoleStepKind::OwnBinding),
        ((Operator, Some(Nothing), &[]), &[], Nothing, RoleRule::Own, RoleStepKind::OwnBinding),
        (
            (Operator, Some(Nothing), &[]),
            &[(Nothing, Some(Admin), &[])],
            Nothing,
            RoleRule::Own,
            RoleStepKind::OwnBinding,
        ),
        (
            (Viewer, None, &[]),
            &[(Nothing, Some(Operator), &[]), (Nothing, Some(Admin), &[])],
            Admin,
            RoleRule::Groups,
            RoleStepKind::GroupBinding,
        ),
        (
            (Operator, None, &[]),
            &[(Nothing, Some(Viewer), &[])],
            Viewer,
            RoleRule::Groups,
            RoleStepKind::GroupBinding,
        ),
        (
            (Viewer, None, &[]),
            &[(Operator, None, &[])],
            Operator,
            RoleRule::Global,
            RoleStepKind::GroupRole,
        ),
        (
            (Viewer, Some(Nothing), &[]),
            &[(Admin, None, &[])],
            Admin,
            RoleRule::GlobalAdmin,
            RoleStepKind::GroupRole,
        ),
        ((Nothing, Some(Viewer), &[]), &[], Viewer, RoleRule::Own, RoleStepKind::OwnBinding),
        // The binding on the gateway itself precedes selectors, of which the lowest decides.
        (
            (Nothing, Some(Operator), &[Viewer]),
            &[],
            Operator,
            RoleRule::Own,
            RoleStepKind::OwnBinding,
        ),
        (
            (Admin, Some(Operator), &[Viewer]),
            &[],
            Admin,
            RoleRule::GlobalAdmin,
            RoleStepKind::OwnRole,
        ),
        (
            (Viewer, None, &[Operator, Viewer, Admin]),
            &[],
            Viewer,
            RoleRule::Own,
            RoleStepKind::OwnSelector,
        ),
        // The caller's own binding, even by selector, precedes those of its groups, of which the highest decides.
        (
            (Nothing, None, &[Viewer]),
            &[(Nothing, Some(Admin), &[])],
            Viewer,
            RoleRule::Own,
            RoleStepKind::OwnSelector,
        ),
        (
            (Nothing, None, &[]),
            &[(Nothing, Some(Viewer), &[Admin]), (Nothing, None, &[Admin, Operator])],
            Operator,
            RoleRule::Groups,
            RoleStepKind::GroupSelector,
        ),
    ];

    #[test]
    fn the_role_is_computed_as_the_design_table_specifies() {
        for (own, groups, expected, rule, kind) in TABLE {
            let all = global_role(own.0, groups.iter().map(|group| group.0));
            let of = |says: &Says| binding_role(says.1, says.2.iter().copied());
            let role = gateway_role(all, of(own), groups.iter().filter_map(of));
            assert_eq!(role, *expected, "{own:?} {groups:?}");
            let share = |says: &Says| HolderRoles {
                role: says.0,
                direct: says.1,
                matching: says.2.to_vec(),
            };
            let shares: Vec<HolderRoles> = groups.iter().map(share).collect();
            assert_eq!(effective_role(&share(own), &shares), *expected, "{own:?} {groups:?}");
            let groups: Vec<HolderBindings> =
                groups.iter().enumerate().map(|(at, says)| holding(at, *says)).collect();
            let told = explain(&holding(0, *own), &groups, true);
            let decided = (told.role, told.global, told.rule, told.deciding_step().kind);
            assert_eq!(decided, (*expected, all, *rule, *kind), "{own:?} {groups:?}");
        }
    }

    #[test]
    fn every_step_is_explained_and_the_first_of_equal_steps_decides() {
        let own = holding(0, (Viewer, None, &[]));
        let groups =
            [holding(1, (Viewer, None, &[Operator])), holding(2, (Nothing, Some(Operator), &[]))];
        let told = explain(&own, &groups, true);
        let shown: Vec<String> = told
            .steps
            .iter()
            .map(|s| format!("{:?} {:?} {:?} {}", s.kind, s.group, s.selector, s.role))
            .collect();
        assert_eq!(
            shown,
            [
                "OwnRole None None viewer",
                "GroupRole Some(\"group 1\") None viewer",
                "GroupRole Some(\"group 2\") None none",
                "GroupSelector Some(\"group 1\") Some(\"access/n=0\") operator",
                "GroupBinding Some(\"group 2\") None operator",
            ]
        );
        assert_eq!(told.deciding_index, 3);
        let globally = explain(&own, &groups, false);
        let decided = (globally.role, globally.rule, globally.steps.len(), globally.deciding_index);
        assert_eq!(decided, (Viewer, RoleRule::Global, 3, 0));
    }

    #[test]
    fn an_unknown_role_is_an_error_instead_of_the_weakest_role() {
        for known in [Nothing, Viewer, Operator, Admin] {
            assert_eq!(known.as_str().parse(), Ok(known));
        }
        assert!("owner".parse::<Role>().is_err());
        assert!("".parse::<Role>().is_err());
        assert!("Admin".parse::<Role>().is_err());
    }
}
