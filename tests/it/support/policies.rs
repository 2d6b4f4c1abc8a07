//! Policies that tests write to a gateway without Shoreguard.

use shoreguard::pb::v0_0::openshell::sandbox::v1 as old_sandbox;
use shoreguard::pb::v0_0::openshell::v1 as old;
use shoreguard_simulator::Simulator;

use crate::policies::{change_directly, endpoint, with_rule};

/// Writes a revision of the policy of `coder` with the rule `site`. Its endpoint has the mark of an agent's proposal.
pub(crate) async fn write_mark(simulator: &Simulator) {
    let proposed = old_sandbox::NetworkEndpoint {
        advisor_proposed: true,
        ..endpoint("intranet.example", 443)
    };
    let change = old::UpdateConfigRequest {
        name: "coder".to_owned(),
        policy: Some(with_rule("site", proposed)),
        ..Default::default()
    };
    change_directly(simulator, change).await;
}
