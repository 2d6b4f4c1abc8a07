//! Roles on gateways of one holder: on gateways by name, and on those that a selector picks.
//!
//! What a selector picks is asked of the labels at each check, so that no copy of the answer can be stale.

use std::collections::HashMap;
use std::sync::Arc;

use crate::access::roles;
use crate::db::types::GatewayId;
use crate::labels::{Labels, Selector};
use crate::role::Role;

/// What access needs to know of a gateway.
#[derive(Debug, Clone)]
pub struct GatewayFacts {
    /// Name.
    pub name: Arc<str>,
    /// Its labels.
    pub labels: Labels,
}

/// The roles of one holder on gateways.
#[derive(Debug, Clone, Default)]
pub struct Bindings {
    /// On named gateways.
    pub direct: HashMap<GatewayId, Role>,
    /// On whatever a selector picks, by its text.
    pub by_selector: Vec<SelectorRole>,
}

/// A role on every gateway that a selector picks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectorRole {
    /// The selector.
    pub selector: Selector,
    /// The role there.
    pub role: Role,
}

impl Bindings {
    /// Those by selectors that pick what has these labels.
    pub(super) fn picking(&self, labels: &Labels) -> impl Iterator<Item = &SelectorRole> {
        self.by_selector.iter().filter(|by| by.selector.picks(labels))
    }

    /// What they say of a gateway that has these labels.
    pub(super) fn on(&self, gateway: GatewayId, labels: &Labels) -> Option<Role> {
        let picked = self.picking(labels).map(|by| by.role);
        roles::bound(self.direct.get(&gateway).copied(), picked)
    }
}
