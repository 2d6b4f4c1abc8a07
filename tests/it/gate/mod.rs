//! The gate: what pins and approval workflows refuse, through Shoreguard's own API and through the proxy.

mod creation;
mod evasion;
mod facts;
mod own_walk;
mod providers;
mod settings;
mod stored;
mod timing;
mod walk;

use std::time::Duration;

use prost::Message;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use shoreguard::access::policy::{UPSTREAM_V0_0, UPSTREAM_V0_1, UpstreamMethod};
use shoreguard::pb::descriptors::{self, Descriptors};
use shoreguard::pb::v1 as pb;
use shoreguard_simulator::{Generation, Simulator, SimulatorOptions};
use tonic::Status;

use crate::support::pause;
use crate::support::server::{Caller, TestServer, facts, reason};

/// A gateway of each generation.
const GATEWAYS: [(&str, Generation); 2] = [("old", Generation::V0_0), ("new", Generation::V0_1)];

/// The sandbox to which rules apply.
const BOX: &str = "box";

/// A gateway, with the sandbox `box`, which has the provider `github`.
struct Scene {
    name: &'static str,
    generation: Generation,
    simulator: Simulator,
    caller: Caller,
}

fn schema(generation: Generation) -> (&'static Descriptors, &'static [UpstreamMethod]) {
    match generation {
        Generation::V0_0 => (&descriptors::V0_0, UPSTREAM_V0_0),
        Generation::V0_1 => (&descriptors::V0_1, UPSTREAM_V0_1),
    }
}

fn row(generation: Generation, method: &str) -> &'static UpstreamMethod {
    let rows = schema(generation).1;
    rows.iter().find(|row| row.path.ends_with(&format!("/{method}"))).unwrap()
}

/// Encodes a message of a generation.
fn encode(generation: Generation, message: &str, content: &Value) -> Vec<u8> {
    let descriptor = schema(generation).0.pool().get_message_by_name(message).unwrap();
    DynamicMessage::deserialize(descriptor, content).unwrap().encode_to_vec()
}

/// Returns the request of a method about `box` with this content.
fn request(generation: Generation, method: &str, content: &Value) -> Vec<u8> {
    let row = row(generation, method);
    let mut content = content.clone();
    let guard = row.policy.as_ref().unwrap();
    let descriptor = schema(generation).0.pool().get_message_by_name(row.request).unwrap();
    let is_global = content["global"] == json!(true);
    if let ([number], false) = (guard.sandbox_path, is_global) {
        let field = descriptor.get_field(*number).unwrap().name().to_owned();
        let content = content.as_object_mut().unwrap();
        content.entry(field).or_insert_with(|| json!(BOX));
    }
    encode(generation, row.request, &content)
}

impl Scene {
    /// Starts a gateway and registers it.
    async fn start(sg: &TestServer, name: &'static str, generation: Generation) -> Self {
        let simulator = Simulator::start(SimulatorOptions::new(generation)).await.unwrap();
        sg.register_gateway(name, simulator.addr()).await;
        let scene = Self { name, generation, simulator, caller: sg.admin() };
        let provider = json!({
            "metadata": { "name": "github" },
            "type": "github",
            "credentials": { "token": "secret" },
            "config": { "host": "github.com" },
        });
        scene.call("CreateProvider", &json!({ "provider": provider })).await.unwrap();
        let spec = json!({ "providers": ["github"], "template": { "image": "plain" } });
        scene.call("CreateSandbox", &json!({ "spec": spec })).await.unwrap();
        sg.operations_ended().await;
        scene
    }

    /// Calls a method through the proxy.
    async fn call(&self, method: &str, content: &Value) -> Result<Vec<u8>, Status> {
        self.send(method, request(self.generation, method, content)).await
    }

    /// Sends an encoded request through the proxy.
    async fn send(&self, method: &str, message: Vec<u8>) -> Result<Vec<u8>, Status> {
        let row = row(self.generation, method);
        let to = [("x-shoreguard-gateway", self.name)];
        let answer = self.caller.call_raw(row.path, row.streaming, message, &to).await?;
        Ok(answer.unwrap_or_default())
    }

    /// Returns the reason for which a call is refused; empty if it reached the gateway.
    async fn verdict(&self, method: &str, content: &Value) -> String {
        let path = row(self.generation, method).path;
        let count = || self.simulator.calls().get(path).copied().unwrap_or_default();
        let before = count();
        let answer = self.call(method, content).await;
        if count() > before {
            return String::new();
        }
        reason(&answer.unwrap_err())
    }

    /// Returns a request to pin `box`.
    async fn pin_request(&self, expires_in: Option<i64>, sg: &TestServer) -> pb::PinPolicyRequest {
        let mut conn = sg.app.db.read().await.unwrap();
        let now = sg.app.db.now(&mut conn).await.unwrap().unix_seconds();
        let expire_time =
            expires_in.map(|seconds| prost_types::Timestamp { seconds: now + seconds, nanos: 0 });
        pb::PinPolicyRequest {
            gateway: self.name.to_owned(),
            sandbox: BOX.to_owned(),
            reason: "an incident".to_owned(),
            expire_time,
            ..Default::default()
        }
    }

    /// Pins `box`.
    async fn pin(&self, expires_in: Option<i64>, sg: &TestServer) -> pb::PinPolicyResponse {
        let request = self.pin_request(expires_in, sg).await;
        self.caller.policies().pin_policy(request).await.unwrap().into_inner()
    }

    /// Pins `box` while writes are in flight: advances the clock until the call has ended.
    async fn pin_in_flight(&self, sg: &TestServer) -> pb::PinPolicyResponse {
        let (caller, request) = (self.caller.clone(), self.pin_request(None, sg).await);
        let pinning = sg.app.spawn(async move { caller.policies().pin_policy(request).await });
        while !pinning.is_finished() {
            pause().await;
            sg.app.clock.advance(Duration::from_secs(1));
        }
        pinning.await.unwrap().unwrap().into_inner()
    }

    /// Stores a workflow of one approval for `box`.
    async fn govern_box(&self, sg: &TestServer) {
        stored::add_workflow(sg, self.name, Some("default"), Some(BOX)).await;
    }

    /// Returns the names of the network rules in force for a sandbox.
    async fn rules(&self, sandbox: &str) -> Vec<String> {
        let request = pb::GetPolicyRequest {
            gateway: self.name.to_owned(),
            sandbox: sandbox.to_owned(),
            view: pb::PolicyView::Effective.into(),
            ..Default::default()
        };
        let found = self.caller.policies().get_policy(request).await.unwrap().into_inner();
        let policy = found.policy.unwrap();
        let document = policy.yaml;
        ["from_the_image", "of_the_caller"]
            .into_iter()
            .filter(|name| document.contains(name))
            .map(str::to_owned)
            .collect()
    }
}
