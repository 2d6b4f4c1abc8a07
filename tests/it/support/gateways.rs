//! Simulated gateways, what agents propose on them, and time that passes.

use std::time::Duration;

use shoreguard::feed;
use shoreguard::pb::v0_1::openshell::v1::{self as new, open_shell_client::OpenShellClient};
use shoreguard_simulator::{Generation, Proposal, Simulator, SimulatorOptions};
use tonic::transport::Channel;

use super::eventually;
use super::server::TestServer;

/// Columns of a gateway that its copies have, too.
const GATEWAY_COLUMNS: &str = "endpoint, scheme, auth_mode, registered_at, last_seen, last_status, \
                               wire_generation, gateway_version, latency_us, probed_at, version";

impl TestServer {
    /// Starts a simulated gateway of a generation and registers it.
    pub(crate) async fn start_gateway(&self, name: &str, generation: Generation) -> Simulator {
        let simulator = Simulator::start(SimulatorOptions::new(generation)).await.unwrap();
        self.register_gateway(name, simulator.addr()).await;
        simulator
    }

    /// Stores copies of a registered gateway without labels and credentials, as if they had been registered at the same
    /// time. To register many takes most of the time of a test.
    pub(crate) async fn copy_gateway(&self, name: &str, copies: impl Iterator<Item = String>) {
        let copies: Vec<String> = copies.map(|copy| format!("('{copy}')")).collect();
        let columns = GATEWAY_COLUMNS;
        let insert = format!(
            "INSERT INTO gateways (name, {columns}) WITH copies (copy) AS (VALUES {}) \
             SELECT copies.copy, {columns} FROM gateways CROSS JOIN copies WHERE name = '{name}'",
            copies.join(", ")
        );
        assert_eq!(self.sql(&insert).await, copies.len());
        let log = format!(
            "INSERT INTO access_changes (subject_kind, subject_id, changed_at) \
             SELECT 'gateway', id, registered_at FROM gateways WHERE name IN ({})",
            copies.join(", ")
        );
        assert_eq!(self.sql(&log).await, copies.len());
        feed::refresh(&self.app).await.unwrap();
    }

    /// Advances all clocks, including timers and the clock of leases, and reads the access data again.
    pub(crate) async fn pass(&self, time: Duration) {
        self.app.clock.advance(time);
        self.app.db.advance_clock(time);
        feed::refresh(&self.app).await.unwrap();
    }
}

/// Lets the agent of a sandbox propose a rule for a host. Returns the id of the chunk.
pub(crate) fn propose_host(simulator: &Simulator, sandbox: &str, host: &str) -> String {
    simulator.propose("default", sandbox, Proposal::allow(host, 443, "/usr/bin/node")).unwrap()
}

/// Begins the deletion of the sandbox `coder` without Shoreguard. Returns a client of the gateway.
async fn delete(simulator: &Simulator) -> OpenShellClient<Channel> {
    let address = format!("http://{}", simulator.addr());
    let mut client = OpenShellClient::connect(address).await.unwrap();
    let delete = new::DeleteSandboxRequest { name: "coder".to_owned(), ..Default::default() };
    client.delete_sandbox(delete).await.unwrap();
    client
}

/// Deletes the sandbox `coder` without Shoreguard.
pub(crate) async fn remove(simulator: &Simulator) {
    let client = delete(simulator).await;
    eventually("the sandbox was removed", || {
        let mut client = client.clone();
        async move {
            let get = new::GetSandboxRequest { name: "coder".to_owned(), ..Default::default() };
            client.get_sandbox(get).await.is_err()
        }
    })
    .await;
}

/// Deletes the sandbox `coder` without Shoreguard, and creates another one of its name.
pub(crate) async fn recreate(simulator: &Simulator) {
    let client = delete(simulator).await;
    eventually("the name is free again", || {
        let mut client = client.clone();
        async move {
            let create = new::CreateSandboxRequest {
                name: "coder".to_owned(),
                spec: Some(new::SandboxSpec::default()),
                ..Default::default()
            };
            client.create_sandbox(create).await.is_ok()
        }
    })
    .await;
}
