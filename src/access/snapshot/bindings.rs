//! Roles of one holder on gateways: by name and by selector.
//!
//! Selectors are matched against the labels at each check, so that no cached result can be stale.

use std::collections::HashMap;
use std::sync::Arc;

use crate::access::roles;
use crate::db::types::GatewayId;
use crate::labels::{Labels, Selector};
use crate::role::Role;

/// Data of a gateway that access checks need.
#[derive(Debug, Clone)]
pub struct GatewayFacts {
    /// Name.
    pub name: Arc<str>,
    /// Labels.
    pub labels: Labels,
}

/// Roles of one holder on gateways.
#[derive(Debug, Clone, Default)]
pub struct Bindings {
    /// Roles on gateways by id.
    pub direct: HashMap<GatewayId, Role>,
    /// Roles by selector.
    pub by_selector: Vec<SelectorRole>,
}

/// A role on every gateway that a selector matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectorRole {
    /// The selector.
    pub selector: Selector,
    /// The role on these gateways.
    pub role: Role,
}

impl Bindings {
    /// Returns the selector bindings that match these labels.
    pub(super) fn matching(&self, labels: &Labels) -> impl Iterator<Item = &SelectorRole> {
        self.by_selector.iter().filter(|by| by.selector.matches(labels))
    }

    /// Returns the role that the bindings give on a gateway with these labels, or `None` if none applies.
    pub(super) fn role_on(&self, gateway: GatewayId, labels: &Labels) -> Option<Role> {
        let picked = self.matching(labels).map(|by| by.role);
        roles::binding_role(self.direct.get(&gateway).copied(), picked)
    }
}
