//! The token service as the stock client uses it: discovery, then a token, then calls with the token; and misuse.

mod bound;
mod derived;
mod device_exchange;
mod device_limits;
mod device_logins;
mod devices;
mod keys;

use shoreguard::pb::v0_1::openshell::v1 as new;
use shoreguard::pb::v1 as pb;
use shoreguard_simulator::{Generation, Simulator, SimulatorOptions};
use tonic::{Request, Status};

use crate::support::http::{HttpResponse, get, post};
use crate::support::server::{Caller, TestServer};

/// Client ID of the stock client.
const CLIENT: (&str, &str) = ("client_id", "openshell-cli");

/// Starts a gateway with sandboxes and registers it.
async fn start_gateway(sg: &TestServer, name: &str) -> Simulator {
    let simulator = Simulator::start(SimulatorOptions::new(Generation::V0_1)).await.unwrap();
    simulator.seed_demo().unwrap();
    sg.register_gateway(name, simulator.addr()).await;
    simulator
}

/// Returns the issuer of a gateway, as entered on the command line.
fn issuer(sg: &TestServer, gateway: &str) -> String {
    format!("http://{}/gateways/{gateway}", sg.address)
}

/// Returns the path of an endpoint in the discovery document. The endpoint must be at this server.
fn url_path(sg: &TestServer, url: &str) -> String {
    let path = url.strip_prefix(&format!("http://{}", sg.address));
    path.unwrap_or_else(|| panic!("{url} is elsewhere")).to_owned()
}

/// Discovers as the stock client does: the issuer must equal the entered one.
async fn discover(sg: &TestServer, gateway: &str) -> serde_json::Value {
    let issuer = issuer(sg, gateway);
    let path = url_path(sg, &format!("{issuer}/.well-known/openid-configuration"));
    let answer = get(sg.address, &path).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers["content-type"], "application/json");
    let document = answer.json();
    assert_eq!(document["issuer"], issuer);
    assert!(document["authorization_endpoint"].is_string());
    document
}

/// Sends a request to the token endpoint of the discovery document.
async fn request_token(sg: &TestServer, gateway: &str, form: &[(&str, &str)]) -> HttpResponse {
    let endpoint = discover(sg, gateway).await["token_endpoint"].as_str().unwrap().to_owned();
    post(sg.address, &url_path(sg, &endpoint), form, &[("accept", "application/json")]).await
}

/// Requests a token with a key, as `gateway add` does if the key is in the environment.
async fn token_by_key(sg: &TestServer, gateway: &str, key: &str) -> HttpResponse {
    request_token(
        sg,
        gateway,
        &[("grant_type", "client_credentials"), CLIENT, ("client_secret", key)],
    )
    .await
}

async fn token_by_refresh(sg: &TestServer, gateway: &str, token: &str) -> HttpResponse {
    request_token(sg, gateway, &[("grant_type", "refresh_token"), ("refresh_token", token), CLIENT])
        .await
}

/// Returns the token for a key.
async fn access_token(sg: &TestServer, gateway: &str, key: &str) -> String {
    let answer = token_by_key(sg, gateway, key).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.text("token_type"), "Bearer");
    answer.text("access_token")
}

/// Makes a proxied call that names a gateway or none. Returns the gateway that responded.
async fn list_names(caller: &Caller, gateway: Option<&str>) -> Result<String, Status> {
    let mut request = Request::new(new::ListSandboxesRequest::default());
    if let Some(gateway) = gateway {
        request.metadata_mut().insert("x-shoreguard-gateway", gateway.parse().unwrap());
    }
    let answer = caller.openshell_v0_1().list_sandboxes(request).await?;
    Ok(answer.metadata().get("x-shoreguard-gateway").unwrap().to_str().unwrap().to_owned())
}

/// Creates a service principal whose only role is operator on these gateways. Returns its key.
async fn create_key_for(sg: &TestServer, name: &str, gateways: &[&str]) -> String {
    let admin = sg.admin();
    let key = admin.create_key(name, pb::Role::None).await;
    for gateway in gateways {
        admin.bind(name, gateway, pb::Role::Operator).await;
    }
    key
}

async fn entries(sg: &TestServer, action: &str) -> Vec<pb::AuditEntry> {
    sg.app.audit.wait_settled().await;
    let request = pb::ListAuditEntriesRequest {
        action: action.into(),
        page_size: 1000,
        ..Default::default()
    };
    sg.admin().audit().list_audit_entries(request).await.unwrap().into_inner().audit_entries
}
