//! Roles and how they combine. Pure: no clock, no database.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a caller may do, from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Nothing: locks a caller out, globally or of one gateway.
    None,
    /// May look.
    Viewer,
    /// May work with sandboxes.
    Operator,
    /// May change who may do what.
    Admin,
}

impl Role {
    /// Every role, from least to most.
    pub const ALL: [Self; 4] = [Self::None, Self::Viewer, Self::Operator, Self::Admin];

    /// The role as it is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A role that is none of the four.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownRole(String);

impl fmt::Display for UnknownRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a role: none, viewer, operator or admin", self.0)
    }
}

impl std::error::Error for UnknownRole {}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(s: &str) -> Result<Self, UnknownRole> {
        match s {
            "none" => Ok(Self::None),
            "viewer" => Ok(Self::Viewer),
            "operator" => Ok(Self::Operator),
            "admin" => Ok(Self::Admin),
            other => Err(UnknownRole(other.to_owned())),
        }
    }
}

/// The role where no gateway is concerned: the higher of the caller's own and the highest of its groups.
#[must_use]
pub fn global(own: Role, groups: impl IntoIterator<Item = Role>) -> Role {
    groups.into_iter().fold(own, Role::max)
}

/// What the bindings of one holder say of a gateway: the direct one, else the lowest of those by selectors that pick it
/// (T07).
#[must_use]
pub fn bound(direct: Option<Role>, picked: impl IntoIterator<Item = Role>) -> Option<Role> {
    direct.or_else(|| picked.into_iter().min())
}

/// The role on one gateway, of what [`bound`] says of the caller and of each of its groups.
///
/// A global admin can't be locked out of a gateway by a binding (T06); else the caller's own binding counts, else the
/// highest binding of its groups, else the global role. A binding beats the global role up or down.
#[must_use]
pub fn on_gateway(
    global: Role,
    own_binding: Option<Role>,
    group_bindings: impl IntoIterator<Item = Role>,
) -> Role {
    if global == Role::Admin {
        return Role::Admin;
    }
    own_binding.or_else(|| group_bindings.into_iter().max()).unwrap_or(global)
}

#[cfg(test)]
mod tests {
    use super::Role::{Admin, None as Nothing, Operator, Viewer};
    use super::*;

    #[test]
    fn the_table_of_the_design_holds() {
        type Row = (Role, Option<Role>, &'static [Role], &'static [Role], Role);
        // own, own binding, group bindings, group roles -> on the gateway
        let table: &[Row] = &[
            (Viewer, None, &[], &[], Viewer),
            (Viewer, Some(Operator), &[], &[], Operator),
            (Admin, Some(Viewer), &[], &[], Admin),
            (Operator, Some(Viewer), &[], &[], Viewer),
            (Operator, Some(Nothing), &[], &[], Nothing),
            (Operator, Some(Nothing), &[Admin], &[], Nothing),
            (Viewer, Some(Viewer), &[Admin], &[], Viewer),
            (Viewer, None, &[Operator, Admin], &[], Admin),
            (Operator, None, &[Viewer], &[], Viewer),
            (Viewer, None, &[], &[Operator], Operator),
            (Viewer, Some(Nothing), &[], &[Admin], Admin),
            (Nothing, Some(Viewer), &[], &[], Viewer),
        ];
        for (own, binding, group_bindings, group_roles, expected) in table {
            let global = global(*own, group_roles.iter().copied());
            let role = on_gateway(global, *binding, group_bindings.iter().copied());
            assert_eq!(role, *expected, "{own} {binding:?} {group_bindings:?} {group_roles:?}");
        }
    }

    #[test]
    fn an_unknown_role_is_an_error_and_never_the_weakest() {
        for known in [Nothing, Viewer, Operator, Admin] {
            assert_eq!(known.as_str().parse(), Ok(known));
        }
        assert!("owner".parse::<Role>().is_err());
        assert!("".parse::<Role>().is_err());
        assert!("Admin".parse::<Role>().is_err());
    }
}
