//! Request ids of generation 0.1: admission, replay, and entries that are never removed.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{new, new_create, new_gateway};

fn id(number: u32) -> String {
    format!("0199c0de-0000-7000-8000-{number:012x}")
}

fn delete(request_id: String) -> new::DeleteSandboxRequest {
    let name = "never".to_owned();
    new::DeleteSandboxRequest { name, request_id, ..Default::default() }
}

/// Returns the code and the machine-readable reason of a refusal.
fn code_and_reason(status: &Status) -> (Code, String) {
    let info = status.get_details_error_info();
    (status.code(), info.map(|info| info.reason).unwrap_or_default())
}

fn uncertain(reason: &str) -> (Code, String) {
    (Code::FailedPrecondition, reason.to_owned())
}

#[tokio::test]
async fn a_success_is_replayed_and_another_request_with_its_id_is_refused() {
    let (simulator, mut client) = new_gateway().await;
    let request = new::CreateSandboxRequest { request_id: id(1), ..new_create("") };
    let first = client.create_sandbox(request.clone()).await.unwrap();
    assert!(!first.metadata().contains_key("openshell-replayed"));
    let again = client.create_sandbox(request.clone()).await.unwrap();
    assert_eq!(again.metadata().get("openshell-replayed").unwrap(), "true");
    assert_eq!(first.into_inner(), again.into_inner());

    let other = new::CreateSandboxRequest { name: "b".to_owned(), ..request.clone() };
    let refused = client.create_sandbox(other).await.unwrap_err();
    assert_eq!(code_and_reason(&refused), uncertain("REQUEST_ID_PAYLOAD_MISMATCH"));
    for bad in ["r-1", "0199c0de000070008000000000000001", "00000000-0000-0000-0000-000000000000"] {
        let request = new::CreateSandboxRequest { request_id: bad.to_owned(), ..new_create("") };
        let refused = client.create_sandbox(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{bad}");
    }
    simulator.change_request_key();
    let refused = client.create_sandbox(request).await.unwrap_err();
    assert_eq!(code_and_reason(&refused), uncertain("REQUEST_REPLAY_UNAVAILABLE"));
    simulator.stop().await;
}

#[tokio::test]
async fn ids_of_failed_requests_are_never_evicted_and_fill_the_table() {
    let (simulator, mut client) = new_gateway().await;
    for number in 1..=1_000 {
        let failed = client.delete_sandbox(delete(id(number))).await.unwrap_err();
        assert_eq!(failed.code(), Code::NotFound);
    }
    let again = client.delete_sandbox(delete(id(1))).await.unwrap_err();
    assert_eq!(code_and_reason(&again), uncertain("REQUEST_OUTCOME_UNCERTAIN"));
    let full = client.delete_sandbox(delete(id(1_001))).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);
    let without = client.delete_sandbox(delete(String::new())).await.unwrap_err();
    assert_eq!(without.code(), Code::NotFound, "a call without an id takes no place");
    simulator.stop().await;
}

#[tokio::test]
async fn a_request_id_launches_a_command_only_once() {
    let (simulator, mut client) = new_gateway().await;
    client.create_sandbox(new_create("a")).await.unwrap();
    let request = |number, words: &[&str]| new::ExecSandboxRequest {
        sandbox: "a".to_owned(),
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        request_id: id(number),
        ..Default::default()
    };
    let sleep = request(1, &["sleep", "600"]);
    let running = client.exec_sandbox(sleep.clone()).await.unwrap();
    let again = client.exec_sandbox(sleep).await.unwrap_err();
    assert_eq!(code_and_reason(&again), uncertain("REQUEST_OUTCOME_UNCERTAIN"));
    drop(running);

    let echo = request(2, &["echo", "hi"]);
    let mut events = client.exec_sandbox(echo.clone()).await.unwrap().into_inner();
    while events.message().await.unwrap().is_some() {}
    let again = client.exec_sandbox(echo).await.unwrap_err();
    assert_eq!(code_and_reason(&again), uncertain("REQUEST_STREAM_UNAVAILABLE"));
    simulator.stop().await;
}
