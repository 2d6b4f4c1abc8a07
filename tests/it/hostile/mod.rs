//! Hostile messages for every method, own and proxied: each gets a response, and none causes an internal error.

mod messages;

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use prost_reflect::MessageDescriptor;
use shoreguard::access::policy::{
    METHODS, Method as OwnMethod, StreamingMode, UPSTREAM_V0_0, UPSTREAM_V0_1, UpstreamMethod,
};
use shoreguard::db::Engine;
use shoreguard::pb::descriptors::{self, Descriptors};
use shoreguard::pb::v1 as sg_v1;
use shoreguard_simulator::{Generation, Simulator, SimulatorOptions};
use tonic::{Code, Status};

use self::messages::{Random, random_message, with_nul};
use crate::support::server::{Caller, TestServer, reason};

/// Seed of the pseudo-random numbers. A failed test prints it with the message.
const SEED: u64 = 0x5eed_0000_2026_1128;
/// Messages per method and engine. Each engine gets other messages.
const MESSAGES: usize = 5;
/// Time limit of all calls of one engine.
const TIME_MAX: Duration = Duration::from_mins(3);
/// Maximum number of concurrent calls.
const CALLS_MAX: usize = 16;
/// Deadline of a call that may wait for its end, as in `grpc-timeout`.
const WAITING_CALL_TIME: &str = "1S";
/// Deadline of a call that must be refused, as in `grpc-timeout`.
const REFUSED_CALL_TIME: &str = "60S";
/// Time in which an accepted stream can fail.
const STREAM_TIME: Duration = Duration::from_millis(50);

/// One call of a method.
struct Call {
    path: &'static str,
    streaming: StreamingMode,
    message: Vec<u8>,
    gateway: &'static str,
    /// Description that is printed if the call fails the test.
    about: String,
}

impl Call {
    async fn run(self, caller: Caller, time: &str) -> (Self, Result<Option<Vec<u8>>, Status>) {
        let to = [("x-shoreguard-gateway", self.gateway), ("grpc-timeout", time)];
        let message = self.message.clone();
        let call = caller.call_raw_within(STREAM_TIME, self.path, self.streaming, message, &to);
        let answer = call.await;
        (self, answer)
    }
}

/// Runs calls, several at once. Returns a description of each call that does not pass.
async fn failed_calls(
    caller: &Caller,
    time: &str,
    calls: Vec<Call>,
    passes: impl Fn(&Call, &Result<Option<Vec<u8>>, Status>) -> bool,
) -> Vec<String> {
    let (mut running, mut failed) = (FuturesUnordered::new(), Vec::new());
    let mut calls = calls.into_iter();
    loop {
        while running.len() < CALLS_MAX
            && let Some(call) = calls.next()
        {
            running.push(call.run(caller.clone(), time));
        }
        let Some((call, answer)) = running.next().await else { return failed };
        if !passes(&call, &answer) {
            let Call { path, gateway, about, .. } = call;
            let status = answer.err().map(|status| format!("{:?} {status}", status.code()));
            failed.push(format!("{path} on {gateway}: {about}: {status:?}"));
        }
    }
}

/// Starts two gateways for calls, one of each generation, and one for changes.
async fn start_fleet(sg: &TestServer) -> Vec<Simulator> {
    let mut fleet = Vec::new();
    for (name, generation) in
        [("edge", Generation::V0_1), ("old", Generation::V0_0), ("spare", Generation::V0_1)]
    {
        let simulator = Simulator::start(SimulatorOptions::new(generation)).await.unwrap();
        simulator.seed_demo().unwrap();
        sg.register_gateway(name, simulator.addr()).await;
        fleet.push(simulator);
    }
    sg.admin().create_key("box", sg_v1::Role::None).await;
    fleet
}

/// A method and the gateway that its calls name.
struct Method {
    path: &'static str,
    streaming: StreamingMode,
    descriptors: &'static Descriptors,
    request: &'static str,
    gateway: &'static str,
}

/// Methods that a test calls.
#[derive(Clone, Copy)]
enum MethodGroup {
    /// Shoreguard's own.
    Own,
    /// Those that are forwarded to a gateway of generation 0.1.
    New,
    /// Those that are forwarded to a gateway of generation 0.0.
    Old,
}

/// Returns every method of a group.
fn methods(group: MethodGroup) -> Vec<Method> {
    let of = |rows: &'static [UpstreamMethod], descriptors, gateway| {
        let forwarded = rows.iter().filter(|row| row.policy.is_some());
        let methods = forwarded.map(|row| Method {
            path: row.path,
            streaming: row.streaming,
            descriptors,
            request: row.request,
            gateway,
        });
        methods.collect::<Vec<_>>()
    };
    match group {
        MethodGroup::Own => METHODS.iter().map(own_method).collect(),
        MethodGroup::New => of(UPSTREAM_V0_1, &descriptors::V0_1, "edge"),
        MethodGroup::Old => of(UPSTREAM_V0_0, &descriptors::V0_0, "old"),
    }
}

fn own_method(method: &'static OwnMethod) -> Method {
    // Methods that change or remove a gateway get the name of a gateway that no other call uses.
    let spare = method.path.contains("GatewayService") || method.path.contains("Access");
    Method {
        path: method.path,
        streaming: method.streaming,
        descriptors: &descriptors::OWN,
        request: method.request,
        gateway: if spare { "spare" } else { "edge" },
    }
}

/// Returns the calls of every method of a group, with messages built for the type of its request.
fn calls(
    group: MethodGroup,
    messages: impl Fn(&MessageDescriptor, &str) -> Vec<(String, Vec<u8>)>,
) -> Vec<Call> {
    let mut calls = Vec::new();
    for Method { path, streaming, descriptors, request, gateway } in methods(group) {
        let pool = descriptors.pool();
        let made = messages(&pool.get_message_by_name(request).unwrap(), gateway);
        let call = |(about, message)| Call { path, streaming, message, gateway, about };
        calls.extend(made.into_iter().map(call));
    }
    calls
}

fn seed(engine: Engine) -> u64 {
    match engine {
        Engine::Sqlite => SEED,
        Engine::Postgres => SEED + 1,
    }
}

/// Formats the start of a message for the output of a failed test.
fn describe(engine: Engine, message: &[u8]) -> String {
    let start = &message[..message.len().min(160)];
    let (seed, bytes) = (seed(engine), message.len());
    format!("seed {seed:#x}, {bytes} bytes: {}", shoreguard::seal::hex(start))
}

server_tests! {
    no_random_message_causes_an_internal_error,
    no_random_message_to_a_v0_0_gateway_causes_an_internal_error,
    no_random_message_to_a_v0_1_gateway_causes_an_internal_error,
}

// Without the server's own jobs, which call gateways, too.
server_tests_without_jobs! {
    nul_in_any_string_is_an_invalid_argument_and_no_gateway_is_called,
    nul_in_any_string_to_a_v0_0_gateway_is_an_invalid_argument_and_no_gateway_is_called,
    nul_in_any_string_to_a_v0_1_gateway_is_an_invalid_argument_and_no_gateway_is_called,
}

async fn no_random_message_causes_an_internal_error(sg: TestServer) {
    send_random_messages(sg, MethodGroup::Own).await;
}

async fn no_random_message_to_a_v0_0_gateway_causes_an_internal_error(sg: TestServer) {
    send_random_messages(sg, MethodGroup::Old).await;
}

async fn no_random_message_to_a_v0_1_gateway_causes_an_internal_error(sg: TestServer) {
    send_random_messages(sg, MethodGroup::New).await;
}

async fn nul_in_any_string_is_an_invalid_argument_and_no_gateway_is_called(sg: TestServer) {
    send_nul(sg, MethodGroup::Own).await;
}

async fn nul_in_any_string_to_a_v0_0_gateway_is_an_invalid_argument_and_no_gateway_is_called(
    sg: TestServer,
) {
    send_nul(sg, MethodGroup::Old).await;
}

async fn nul_in_any_string_to_a_v0_1_gateway_is_an_invalid_argument_and_no_gateway_is_called(
    sg: TestServer,
) {
    send_nul(sg, MethodGroup::New).await;
}

async fn send_random_messages(sg: TestServer, group: MethodGroup) {
    let fleet = start_fleet(&sg).await;
    let random = std::cell::RefCell::new(Random::new(seed(sg.engine)));
    let calls = calls(group, |of, gateway| {
        let mut random = random.borrow_mut();
        let made = (0..MESSAGES).map(|_| random_message(of, &mut random, gateway));
        made.map(|message| (describe(sg.engine, &message), message)).collect()
    });
    let admin = sg.admin();
    let failed = failed_calls(&admin, WAITING_CALL_TIME, calls, |_, answer| {
        let code = answer.as_ref().map_or_else(Status::code, |_| Code::Ok);
        !matches!(code, Code::Internal | Code::Unknown | Code::DataLoss)
    });
    let failed = tokio::time::timeout(TIME_MAX, failed).await.expect("a call hangs");
    assert!(failed.is_empty(), "{} calls failed:\n{}", failed.len(), failed.join("\n"));
    admin.auth().get_current_identity(sg_v1::GetCurrentIdentityRequest {}).await.unwrap();
    drop(admin);
    for simulator in fleet {
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn send_nul(sg: TestServer, group: MethodGroup) {
    let fleet = start_fleet(&sg).await;
    let asked = |fleet: &[Simulator]| -> u64 {
        let calls = fleet.iter().flat_map(Simulator::calls);
        // Each connection is probed when it is opened.
        calls.filter(|(path, _)| !path.ends_with("/Health")).map(|(_, count)| count).sum()
    };
    let calls = calls(group, |of, _| with_nul(of));
    assert!(calls.len() > 60, "{}", calls.len());
    let before = asked(&fleet);
    let failed = failed_calls(&sg.admin(), REFUSED_CALL_TIME, calls, |_, answer| {
        let Err(status) = answer else { return false };
        let reason = reason(status);
        let not_there = ["METHOD_NOT_SUPPORTED", "METHOD_UNKNOWN"].contains(&reason.as_str());
        // The admin is a service principal: methods for users are refused before the message is read.
        let not_for_it = status.message() == "only users can do this, not service principals";
        status.code() == Code::InvalidArgument && reason == "INVALID_FIELD"
            || not_there
            || not_for_it
    })
    .await;
    assert!(failed.is_empty(), "{} calls failed:\n{}", failed.len(), failed.join("\n"));
    // Calls that background jobs make in the meantime.
    let jobs = u64::try_from(fleet.len() * 4).unwrap();
    let more = asked(&fleet) - before;
    assert!(more <= jobs, "gateways were asked {more} times");
    for simulator in fleet {
        simulator.stop().await;
    }
    sg.finish().await;
}
