//! Sandboxes whose drafts or policy may have changed, because a call through this process concerned them. The follower
//! of the gateway reads them first; nothing depends on a hint, and another replica does not have it.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;

use crate::app::App;
use crate::db::types::{GatewayId, SandboxName};

/// Maximum number of hints that are kept for a gateway. More say as little as none.
const HINTS_MAX: usize = 1_000;

/// The hints of this process.
#[derive(Debug, Default)]
pub struct DraftHints(Mutex<HashMap<GatewayId, HashSet<SandboxName>>>);

impl DraftHints {
    fn add(&self, gateway: GatewayId, sandbox: &SandboxName) {
        let mut hints = self.0.lock();
        let of_gateway = hints.entry(gateway).or_default();
        if of_gateway.len() < HINTS_MAX {
            of_gateway.insert(sandbox.clone());
        }
    }

    fn take(&self, gateway: GatewayId) -> HashSet<SandboxName> {
        self.0.lock().remove(&gateway).unwrap_or_default()
    }
}

/// Says that the drafts or the policy of a sandbox may have changed.
pub fn hint(app: &App, gateway: GatewayId, sandbox: &SandboxName) {
    app.part::<DraftHints>().add(gateway, sandbox);
}

/// Removes the hints about a gateway and returns them.
#[must_use]
pub fn take(app: &App, gateway: GatewayId) -> HashSet<SandboxName> {
    app.part::<DraftHints>().take(gateway)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_taken_once_and_their_number_is_limited() {
        let (hints, edge) = (DraftHints::default(), GatewayId(1));
        for n in 0..HINTS_MAX + 5 {
            let name = SandboxName { workspace: "default".to_owned(), name: n.to_string() };
            hints.add(edge, &name);
        }
        assert!(hints.take(GatewayId(2)).is_empty());
        assert_eq!(hints.take(edge).len(), HINTS_MAX);
        assert!(hints.take(edge).is_empty());
    }
}
