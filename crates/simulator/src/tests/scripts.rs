//! Refused callers, and scripted failures.

use std::time::Duration;

use bytes::Bytes;
use tonic::{Code, Request};

use super::{OldClient, new, new_gateway, old, old_gateway, old_sandbox, start};
use crate::{Generation, Hold, Script, SimulatorOptions, Times, TokenPermissions};

fn with_bearer<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

#[tokio::test]
async fn a_bearer_token_is_refused_if_no_token_is_configured() {
    let (simulator, mut client) = old_gateway().await;
    let request = || old::GetCurrentUserRequest {};
    let user = client.get_current_user(request()).await.unwrap().into_inner();
    assert_eq!(user.identity_provider, "local-dev");
    let refused = client.get_current_user(with_bearer(request(), "x")).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unauthenticated, "invalid token"));
    client.health(with_bearer(old::HealthRequest {}, "x")).await.unwrap();
    let seen = simulator.last_headers("GetCurrentUser").unwrap();
    assert_eq!(seen["authorization"], "Bearer x");
    assert_eq!(simulator.calls()["/openshell.v1.OpenShell/GetCurrentUser"], 2);
    simulator.stop().await;
}

#[tokio::test]
async fn only_the_required_bearer_token_is_accepted() {
    let options = SimulatorOptions {
        require_bearer: Some("secret".to_owned()),
        ..SimulatorOptions::new(Generation::V0_0)
    };
    let (simulator, channel) = start(options).await;
    let mut client = OldClient::new(channel);
    let request = || old::GetCurrentUserRequest {};
    let missing = client.get_current_user(request()).await.unwrap_err();
    assert_eq!(missing.message(), "missing authorization header");
    assert!(client.get_current_user(with_bearer(request(), "other")).await.is_err());
    client.get_current_user(with_bearer(request(), "secret")).await.unwrap();
    simulator.stop().await;
}

#[tokio::test]
async fn a_bearer_token_permits_the_methods_of_its_role() {
    let (simulator, mut client) = old_gateway().await;
    let tokens = [
        ("admin", TokenPermissions::Admin),
        ("user", TokenPermissions::User),
        ("weak", TokenPermissions::Nothing),
        ("old", TokenPermissions::Expired),
    ];
    simulator.require_tokens(&tokens);
    let ok = Code::Ok;
    let denied = Code::PermissionDenied;
    let unknown = Code::Unauthenticated;
    for (token, roles, codes) in [
        ("admin", Some(vec!["openshell-admin"]), [ok, ok, ok]),
        ("user", Some(vec!["openshell-user"]), [ok, denied, ok]),
        ("weak", Some(vec![]), [ok, denied, denied]),
        ("old", None, [unknown; 3]),
    ] {
        client.health(with_bearer(old::HealthRequest {}, token)).await.unwrap();
        let user = client.get_current_user(with_bearer(old::GetCurrentUserRequest {}, token)).await;
        let info = client.get_gateway_info(with_bearer(old::GetGatewayInfoRequest {}, token)).await;
        let list = with_bearer(old::ListSandboxesRequest::default(), token);
        let list = client.list_sandboxes(list).await;
        let code = |error: Option<tonic::Status>| error.map_or(ok, |status| status.code());
        let told = user.as_ref().ok().map(|user| user.get_ref().roles.clone());
        let met = [code(user.err()), code(info.err()), code(list.err())];
        assert_eq!(met, codes, "{token}");
        assert_eq!(told, roles.map(|roles| roles.into_iter().map(str::to_owned).collect()));
    }
    simulator.stop().await;
}

#[tokio::test]
async fn releases_before_0_0_95_do_not_implement_get_current_user() {
    let (simulator, mut client) = old_gateway().await;
    for (version, known) in [("0.0.94", false), ("0.0.95", true), ("nightly", true)] {
        simulator.set_version(version);
        let asked = client.get_current_user(old::GetCurrentUserRequest {}).await;
        assert_eq!(asked.is_ok(), known, "{version}: {asked:?}");
        assert!(known || asked.unwrap_err().code() == Code::Unimplemented);
    }
    simulator.stop().await;
}

#[tokio::test]
async fn methods_of_sandboxes_peers_and_operators_are_refused() {
    let (simulator, mut client) = new_gateway().await;
    let request = new::GetProviderCredentialsRequest::default();
    let refused = client.get_provider_credentials(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let request = new::SubmitPolicyAnalysisRequest::default();
    let refused = client.submit_policy_analysis(request).await.unwrap_err();
    assert_eq!(refused.message(), "this method requires a sandbox principal");
    simulator.stop().await;
}

#[tokio::test]
async fn a_message_over_a_mebibyte_is_out_of_range() {
    let (simulator, mut client) = old_gateway().await;
    let request = |bytes| old::GetSandboxRequest { name: "n".repeat(bytes), ..Default::default() };
    let refused = client.get_sandbox(request(1024 * 1024)).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
    let read = client.get_sandbox(request(1024 * 1024 - 4)).await.unwrap_err();
    assert_eq!(read.code(), Code::NotFound);
    simulator.stop().await;
}

#[tokio::test]
async fn scripts_apply_to_the_given_number_of_calls_and_calls_are_counted() {
    let (simulator, mut client) = old_gateway().await;
    let fail = Script::Fail {
        code: Code::Aborted,
        message: "scripted".to_owned(),
        details: Bytes::from_static(b"\x08\x0a"),
    };
    simulator.script("Health", fail, Times::Next(1));
    let failed = client.health(old::HealthRequest {}).await.unwrap_err();
    assert_eq!((failed.code(), failed.message()), (Code::Aborted, "scripted"));
    assert_eq!(failed.details(), b"\x08\x0a");
    client.health(old::HealthRequest {}).await.unwrap();
    let path = "/openshell.v1.OpenShell/Health";
    let only = Script::TrailersOnly { code: Code::Unavailable, message: "away".to_owned() };
    simulator.script(path, only, Times::All);
    for _ in 0..2 {
        let failed = client.health(old::HealthRequest {}).await.unwrap_err();
        assert_eq!(failed.code(), Code::Unavailable);
    }
    simulator.clear_scripts();
    simulator.set_version("9.9.9");
    let health = client.health(old::HealthRequest {}).await.unwrap().into_inner();
    assert_eq!(health.version, "9.9.9");
    assert_eq!(simulator.calls()[path], 5);
    simulator.stop().await;
}

#[tokio::test]
async fn a_script_can_delay_slow_down_break_or_withhold_a_response() {
    let (simulator, mut client) = old_gateway().await;
    let every = Duration::from_millis(1);
    simulator.script("Health", Script::Drip { bytes: 1, every }, Times::Next(1));
    client.health(old::HealthRequest {}).await.unwrap();
    simulator.script("Health", Script::Delay(every), Times::Next(1));
    client.health(old::HealthRequest {}).await.unwrap();
    simulator.script("Health", Script::Reset, Times::Next(1));
    client.health(old::HealthRequest {}).await.unwrap_err();
    client.health(old::HealthRequest {}).await.unwrap();
    simulator.script("Health", Script::Disconnect, Times::Next(1));
    client.health(old::HealthRequest {}).await.unwrap_err();
    client.health(old::HealthRequest {}).await.unwrap();
    simulator.script("Health", Script::Hang, Times::Next(1));
    let mut hung = Request::new(old::HealthRequest {});
    hung.set_timeout(Duration::from_millis(50));
    client.health(hung).await.unwrap_err();
    client.health(old::HealthRequest {}).await.unwrap();
    simulator.stop().await;
}

#[tokio::test]
async fn a_stream_is_reset_in_the_middle_of_a_message() {
    let (simulator, mut client) = old_gateway().await;
    let id = old_sandbox(&mut client, "a").await;
    simulator.script("WatchSandbox", Script::Reset, Times::All);
    let watch = old::WatchSandboxRequest { id, follow_status: true, ..Default::default() };
    let mut told = client.watch_sandbox(watch).await.unwrap().into_inner();
    told.message().await.unwrap_err();
    simulator.stop().await;
}

#[tokio::test]
async fn a_lost_response_comes_before_or_after_the_effect() {
    let (simulator, mut client) = old_gateway().await;
    let request =
        |name: &str| old::CreateWorkspaceRequest { name: name.to_owned(), ..Default::default() };
    let get = |name: &str| old::GetWorkspaceRequest { name: name.to_owned() };
    simulator.script("CreateWorkspace", Script::DisconnectBefore, Times::Next(1));
    client.create_workspace(request("a")).await.unwrap_err();
    assert_eq!(client.get_workspace(get("a")).await.unwrap_err().code(), Code::NotFound);
    let replace = Script::ReplaceAnswer {
        code: Code::DeadlineExceeded,
        message: "too late".to_owned(),
        details: Bytes::new(),
    };
    simulator.script("CreateWorkspace", replace, Times::Next(1));
    let lost = client.create_workspace(request("a")).await.unwrap_err();
    assert_eq!((lost.code(), lost.message()), (Code::DeadlineExceeded, "too late"));
    client.get_workspace(get("a")).await.unwrap();
    simulator.stop().await;
}

#[tokio::test]
async fn a_held_call_waits_before_or_after_its_effect_until_it_is_released() {
    let (simulator, mut client) = old_gateway().await;
    for (name, is_before) in [("a", true), ("b", false)] {
        let hold = Hold::default();
        let script = if is_before {
            Script::HoldBefore(hold.clone())
        } else {
            Script::HoldAfter(hold.clone())
        };
        simulator.script("CreateWorkspace", script, Times::Next(1));
        let create = old::CreateWorkspaceRequest { name: name.to_owned(), ..Default::default() };
        let get = old::GetWorkspaceRequest { name: name.to_owned() };
        let mut caller = client.clone();
        let look = async {
            hold.wait_reached(1).await;
            let exists = client.get_workspace(get).await.is_ok();
            hold.release();
            exists
        };
        let (created, existed) = tokio::join!(caller.create_workspace(create), look);
        created.unwrap();
        assert_eq!(existed, !is_before, "{name}");
    }
    simulator.stop().await;
}

#[tokio::test]
async fn a_held_call_ends_when_the_gateway_stops() {
    let (simulator, mut client) = old_gateway().await;
    let hold = Hold::default();
    simulator.script("Health", Script::HoldBefore(hold.clone()), Times::All);
    let stop = async {
        hold.wait_reached(1).await;
        simulator.stop().await;
    };
    let (ended, ()) = tokio::join!(client.health(old::HealthRequest {}), stop);
    ended.unwrap_err();
}
