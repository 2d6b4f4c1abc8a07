//! Tests of the simulator over the network: a real client on loopback, in both generations.

mod drafts;
mod loads;
mod policy;
mod providers;
mod requests;
mod scripts;
mod sessions;
mod submissions;
mod tls;
mod wire;

use tonic::transport::Channel;

use super::{Generation, Simulator, SimulatorOptions};
use shoreguard_proto::v0_0::openshell::v1 as old;
use shoreguard_proto::v0_0::openshell::v1::open_shell_client::OpenShellClient as OldClient;
use shoreguard_proto::v0_1::openshell::v1 as new;
use shoreguard_proto::v0_1::openshell::v1::open_shell_client::OpenShellClient as NewClient;

async fn start(options: SimulatorOptions) -> (Simulator, Channel) {
    let simulator = Simulator::start(options).await.unwrap();
    let address = format!("http://{}", simulator.addr());
    let channel = Channel::from_shared(address).unwrap().connect_lazy();
    (simulator, channel)
}

async fn old_gateway() -> (Simulator, OldClient<Channel>) {
    let (simulator, channel) = start(SimulatorOptions::new(Generation::V0_0)).await;
    (simulator, OldClient::new(channel))
}

async fn new_gateway() -> (Simulator, NewClient<Channel>) {
    let (simulator, channel) = start(SimulatorOptions::new(Generation::V0_1)).await;
    (simulator, NewClient::new(channel))
}

/// Creates a sandbox and returns its id.
async fn old_sandbox(client: &mut OldClient<Channel>, name: &str) -> String {
    let request = old::CreateSandboxRequest {
        name: name.to_owned(),
        spec: Some(old::SandboxSpec::default()),
        ..old::CreateSandboxRequest::default()
    };
    let sandbox = client.create_sandbox(request).await.unwrap().into_inner().sandbox.unwrap();
    sandbox.metadata.unwrap().id
}

fn new_create(name: &str) -> new::CreateSandboxRequest {
    new::CreateSandboxRequest {
        name: name.to_owned(),
        spec: Some(new::SandboxSpec::default()),
        ..new::CreateSandboxRequest::default()
    }
}
