//! Demo content for an empty gateway.

use std::collections::BTreeMap;
use std::sync::Arc;

use tonic::Status;

use super::state::{
    ConfigChange, ConfigUpdate, Core, MergeOperation, NewSandbox, ObjectKey, Phase, Proposal,
    Provider, State,
};
use shoreguard_proto::v0_0::openshell::v1 as pb;

/// The second workspace.
const TEAM: &str = "team-a";

/// Adds the demo content to the gateway.
pub(super) fn seed(core: &Arc<Core>) -> Result<(), Status> {
    core.with(|state| {
        state.create_workspace(TEAM, BTreeMap::new())?;
        let mut provider = Provider { kind: "github".to_owned(), ..Provider::default() };
        "github".clone_into(&mut provider.meta.name);
        provider.credentials.insert("token".to_owned(), "demo".to_owned());
        state.create_provider("", Some(provider))?;
        Ok(())
    })?;
    let coder = sandbox(core, "", "coder", &["github"])?;
    let builder = sandbox(core, "", "builder", &[])?;
    let broken = sandbox(core, "", "broken", &[])?;
    sandbox(core, TEAM, "research", &[])?;
    core.with(|state| {
        state.set_phase(&coder, Phase::Ready);
        state.simulate_supervisor(&coder);
        state.set_phase(&builder, Phase::Stopped);
        state.set_phase(&broken, Phase::Error);
        allow(state, &coder, Proposal::allow("api.github.com", 443, "/usr/bin/git"))?;
        let wanted = Proposal::allow("registry.npmjs.org", 443, "/usr/bin/node");
        state.submit(&coder, vec![wanted]).map(|_| ())
    })
}

fn sandbox(
    core: &Arc<Core>,
    workspace: &str,
    name: &str,
    providers: &[&str],
) -> Result<ObjectKey, Status> {
    let new = NewSandbox {
        workspace: workspace.to_owned(),
        name: name.to_owned(),
        spec: Some(pb::SandboxSpec {
            providers: providers.iter().map(|name| (*name).to_owned()).collect(),
            template: Some(pb::SandboxTemplate {
                image: "ghcr.io/example/agent:latest".to_owned(),
                ..pb::SandboxTemplate::default()
            }),
            ..pb::SandboxSpec::default()
        }),
        image: String::new(),
        labels: BTreeMap::from([("demo".to_owned(), "true".to_owned())]),
        annotations: BTreeMap::new(),
    };
    core.with(|state| state.create_sandbox(new)).map(|sandbox| sandbox.key())
}

fn allow(state: &mut State, at: &ObjectKey, proposal: Proposal) -> Result<(), Status> {
    let update = ConfigUpdate {
        sandbox: Some(at.clone()),
        change: ConfigChange::Merge(vec![MergeOperation::AddRule(
            proposal.rule_name,
            proposal.rule,
        )]),
        expected_version: 0,
        annotations: BTreeMap::new(),
    };
    state.update_config(update).map(|_| ())
}
