//! The proxy through the API of the released server: the upstream's own clients, and gateways that behave correctly or
//! not.

mod actors;
mod audited;
mod credential;
mod dedicated;
mod front_end;
mod one_caller;
mod overrun;
mod passing;
pub(crate) mod raw;
mod refused;
pub(crate) mod rogue;
mod skew;
mod starved;
mod statuses;
mod streams;
mod targets;
mod unanswered;
mod untaken;

use std::future::Future;
use std::time::Duration;

use shoreguard::pb::v0_0::openshell::v1 as old;
use shoreguard::pb::v0_1::openshell::v1 as new;
use shoreguard_simulator::{Generation, Simulator, SimulatorOptions};
use tonic::Request;

use crate::support::server::{Caller, TestServer, run};
use crate::support::{CONDITION_TIME_MAX, eventually as wait_until};

/// Runs a test on SQLite only, since none of these tests depends on the engine.
fn run_on_sqlite<F: Future<Output = ()>>(test: impl FnOnce(TestServer) -> F) {
    run(shoreguard::db::Engine::Sqlite, |_| {}, test);
}

async fn start_simulator(generation: Generation) -> Simulator {
    Simulator::start(SimulatorOptions::new(generation)).await.unwrap()
}

/// Returns whether a path is of a method that probes call.
fn is_probe(path: &str) -> bool {
    path.ends_with("/Health") || path.ends_with("/GetCurrentUser")
}

/// Adds the header that selects the gateway.
pub(crate) fn for_gateway<M>(gateway: &str, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-shoreguard-gateway", gateway.parse().unwrap());
    request
}

fn create_request(name: &str) -> old::CreateSandboxRequest {
    let spec = Some(old::SandboxSpec::default());
    old::CreateSandboxRequest { name: name.to_owned(), spec, ..Default::default() }
}

fn create_request_v0_1(name: &str) -> new::CreateSandboxRequest {
    let spec = Some(new::SandboxSpec::default());
    new::CreateSandboxRequest { name: name.to_owned(), spec, ..Default::default() }
}

/// Creates a sandbox on a gateway of generation 0.0. Returns its ID.
async fn create_sandbox(caller: &Caller, gateway: &str, name: &str) -> String {
    let made = caller
        .openshell_v0_0()
        .create_sandbox(for_gateway(gateway, create_request(name)))
        .await
        .unwrap();
    made.into_inner().sandbox.unwrap().metadata.unwrap().id
}

fn get_request(name: &str) -> old::GetSandboxRequest {
    old::GetSandboxRequest { name: name.to_owned(), ..Default::default() }
}

fn watch_request(id: &str) -> old::WatchSandboxRequest {
    old::WatchSandboxRequest { id: id.to_owned(), follow_status: true, ..Default::default() }
}
