//! Changes of sandboxes that no caller watches. The tests run each pass of the follower themselves.

use std::net::Ipv4Addr;

use shoreguard::resources::followers::follow_once;
use shoreguard::resources::followers::memory::Memory;
use shoreguard_simulator::{Script, Times};
use tonic::transport::Channel;

use super::*;
use crate::approvals::events;

server_tests_without_jobs! {
    e17_changes_on_0_0_are_reported_once_without_a_caller,
    e17_changes_on_0_1_are_reported_once_without_a_caller,
    changes_through_shoreguard_are_not_reported_again,
    sandboxes_of_a_gateway_that_is_followed_for_the_first_time_cause_no_event,
    a_gateway_that_restarts_or_does_not_answer_loses_no_sandbox,
}

/// A gateway `edge`, and what its follower remembers.
pub(super) struct Followed {
    pub(super) simulator: Simulator,
    generation: Generation,
    memory: Memory,
}

impl Followed {
    /// Starts the gateway.
    pub(super) async fn start(sg: &TestServer, generation: Generation) -> Self {
        Self::start_on(sg, generation, Ipv4Addr::LOCALHOST).await
    }

    /// Starts the gateway on an address of this host.
    pub(super) async fn start_on(sg: &TestServer, generation: Generation, on: Ipv4Addr) -> Self {
        let options =
            SimulatorOptions { listen: (on, 0).into(), ..SimulatorOptions::new(generation) };
        let simulator = Simulator::start(options).await.unwrap();
        sg.register_gateway("edge", simulator.addr()).await;
        Self { simulator, generation, memory: Memory::new(&sg.app.config.gateways) }
    }

    /// Stops the gateway, and starts it again with its sandboxes and their logs.
    pub(super) async fn restart(self) -> Self {
        let options = SimulatorOptions::new(self.generation);
        let simulator = self.simulator.restart(options).await.unwrap();
        Self { simulator, ..self }
    }

    /// Runs one pass.
    pub(super) async fn follow(&mut self, sg: &TestServer) {
        assert!(self.try_follow(sg).await.unwrap(), "it holds the lease");
    }

    async fn try_follow(&mut self, sg: &TestServer) -> Result<bool, shoreguard::error::Error> {
        let mut targets = sg.app.fleet.targets.all().into_iter();
        let edge = targets.find(|target| &*target.name == "edge").unwrap().gateway();
        follow_once(&sg.app, edge, &mut self.memory).await
    }

    /// Lets another replica continue, which remembers nothing.
    pub(super) fn take_over(&mut self, sg: &TestServer) {
        self.memory = Memory::new(&sg.app.config.gateways);
    }

    async fn direct(&self) -> Channel {
        let endpoint = format!("http://{}", self.simulator.addr());
        Channel::from_shared(endpoint).unwrap().connect().await.unwrap()
    }

    /// Creates a sandbox on the gateway, without Shoreguard.
    pub(super) async fn create(&self, sg: &TestServer, name: &str) {
        let direct = self.direct().await;
        match self.generation {
            Generation::V0_0 => {
                use shoreguard::pb::v0_0::openshell::v1 as old;
                let request = old::CreateSandboxRequest {
                    name: name.to_owned(),
                    spec: Some(old::SandboxSpec::default()),
                    ..Default::default()
                };
                let mut client = old::open_shell_client::OpenShellClient::new(direct);
                client.create_sandbox(request).await.unwrap();
            }
            Generation::V0_1 => {
                use shoreguard::pb::v0_1::openshell::v1 as new;
                let request = new::CreateSandboxRequest {
                    name: name.to_owned(),
                    spec: Some(new::SandboxSpec::default()),
                    ..Default::default()
                };
                let mut client = new::open_shell_client::OpenShellClient::new(direct);
                client.create_sandbox(request).await.unwrap();
            }
        }
        wait_until("it is ready", || async {
            let found = get_sandbox(&sg.admin(), "edge", name).await;
            found.is_ok_and(|found| found.phase() == pb::SandboxPhase::Ready)
        })
        .await;
    }

    /// Stops a sandbox on the gateway, without Shoreguard.
    pub(super) async fn stop(&self, sg: &TestServer, name: &str) {
        let direct = self.direct().await;
        match self.generation {
            Generation::V0_0 => {
                use shoreguard::pb::v0_0::openshell::v1 as old;
                let mut client = old::open_shell_client::OpenShellClient::new(direct);
                let stop = old::StopSandboxRequest { name: name.into(), ..Default::default() };
                client.stop_sandbox(stop).await.unwrap();
            }
            Generation::V0_1 => {
                use shoreguard::pb::v0_1::openshell::v1 as new;
                let mut client = new::open_shell_client::OpenShellClient::new(direct);
                let stop = new::StopSandboxRequest { name: name.into(), ..Default::default() };
                client.stop_sandbox(stop).await.unwrap();
            }
        }
        wait_until("it is stopped", || async {
            let found = get_sandbox(&sg.admin(), "edge", name).await.unwrap();
            found.phase() == pb::SandboxPhase::Stopped
        })
        .await;
    }

    /// Deletes a sandbox on the gateway, without Shoreguard.
    async fn delete(&self, sg: &TestServer, name: &str) {
        let direct = self.direct().await;
        match self.generation {
            Generation::V0_0 => {
                use shoreguard::pb::v0_0::openshell::v1 as old;
                let mut client = old::open_shell_client::OpenShellClient::new(direct);
                let delete = old::DeleteSandboxRequest { name: name.into(), ..Default::default() };
                client.delete_sandbox(delete).await.unwrap();
            }
            Generation::V0_1 => {
                use shoreguard::pb::v0_1::openshell::v1 as new;
                let mut client = new::open_shell_client::OpenShellClient::new(direct);
                let delete = new::DeleteSandboxRequest { name: name.into(), ..Default::default() };
                client.delete_sandbox(delete).await.unwrap();
            }
        }
        wait_until("it is deleted", || async {
            get_sandbox(&sg.admin(), "edge", name).await.is_err()
        })
        .await;
    }
}

/// Returns the numbers of events about created and deleted sandboxes, and changed phases.
pub(super) async fn reported(sg: &TestServer) -> (usize, usize, usize) {
    let created = events(sg, "sandbox.created").await;
    let deleted = events(sg, "sandbox.deleted").await;
    (created, deleted, events(sg, "sandbox.phase_changed").await)
}

async fn changes_are_reported_once(sg: TestServer, generation: Generation) {
    let mut edge = Followed::start(&sg, generation).await;
    edge.follow(&sg).await;
    edge.create(&sg, "box").await;
    edge.follow(&sg).await;
    assert_eq!(reported(&sg).await, (0, 0, 0), "it may be a creation whose call still runs");
    for _ in 0..2 {
        edge.follow(&sg).await;
        assert_eq!(reported(&sg).await, (1, 0, 0));
    }
    edge.stop(&sg, "box").await;
    for _ in 0..2 {
        edge.follow(&sg).await;
        edge.take_over(&sg);
        assert_eq!(reported(&sg).await, (1, 0, 1));
    }
    edge.delete(&sg, "box").await;
    edge.follow(&sg).await;
    assert_eq!(reported(&sg).await, (1, 0, 1), "one list without it proves nothing");
    sg.pass(Duration::from_hours(1)).await;
    for _ in 0..2 {
        edge.follow(&sg).await;
        assert_eq!(reported(&sg).await, (1, 1, 1));
    }
    let noticed = "\"noticed\":true";
    let list = pb::ListEventsRequest { page_size: 1_000, ..Default::default() };
    shoreguard::workers::run_once(&sg.app, &shoreguard::resources::events::worker::SEQUENCER)
        .await
        .unwrap();
    let found = sg.admin().events().list_events(list).await.unwrap().into_inner().events;
    for name in ["sandbox.created", "sandbox.deleted"] {
        let event = found.iter().find(|event| event.name == name).unwrap();
        assert!(event.payload_json.contains(noticed), "{event:?}");
    }
    assert_eq!(audit_entries(&sg, "sandbox.clean_up").await.len(), 1);
    sg.finish().await;
}

async fn e17_changes_on_0_0_are_reported_once_without_a_caller(sg: TestServer) {
    changes_are_reported_once(sg, Generation::V0_0).await;
}

async fn e17_changes_on_0_1_are_reported_once_without_a_caller(sg: TestServer) {
    changes_are_reported_once(sg, Generation::V0_1).await;
}

async fn changes_through_shoreguard_are_not_reported_again(sg: TestServer) {
    let mut edge = Followed::start(&sg, Generation::V0_1).await;
    edge.follow(&sg).await;
    let request = create_request(&sg, "edge", "box");
    sg.admin().sandboxes().create_sandbox(request).await.unwrap();
    wait_until("it is created", || async { events(&sg, "sandbox.created").await == 1 }).await;
    wait_until("it is ready", || async {
        let found = get_sandbox(&sg.admin(), "edge", "box").await.unwrap();
        found.phase() == pb::SandboxPhase::Ready
    })
    .await;
    for _ in 0..3 {
        edge.follow(&sg).await;
        let (created, deleted, _) = reported(&sg).await;
        assert_eq!((created, deleted), (1, 0));
    }
    delete_sandbox(&sg, "edge", "box").await;
    for _ in 0..3 {
        edge.follow(&sg).await;
        let (created, deleted, _) = reported(&sg).await;
        assert_eq!((created, deleted), (1, 1));
    }
    sg.finish().await;
}

async fn sandboxes_of_a_gateway_that_is_followed_for_the_first_time_cause_no_event(sg: TestServer) {
    let mut edge = Followed::start(&sg, Generation::V0_1).await;
    edge.create(&sg, "box").await;
    for _ in 0..3 {
        edge.follow(&sg).await;
        assert_eq!(reported(&sg).await, (0, 0, 0));
    }
    edge.stop(&sg, "box").await;
    edge.follow(&sg).await;
    assert_eq!(reported(&sg).await, (0, 0, 1));
    sg.finish().await;
}

async fn a_gateway_that_restarts_or_does_not_answer_loses_no_sandbox(sg: TestServer) {
    let mut edge = Followed::start(&sg, Generation::V0_1).await;
    edge.create(&sg, "box").await;
    edge.follow(&sg).await;
    let failure = Script::TrailersOnly { code: tonic::Code::Unavailable, message: "no".to_owned() };
    edge.simulator.script("ListSandboxes", failure, Times::All);
    assert!(edge.try_follow(&sg).await.is_err());
    sg.pass(Duration::from_hours(1)).await;
    assert!(edge.try_follow(&sg).await.is_err());
    edge.simulator.clear_scripts();
    edge.follow(&sg).await;
    assert_eq!(reported(&sg).await, (0, 0, 0));
    sg.finish().await;
}
