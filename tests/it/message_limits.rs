//! Limits: a message in a stream, a name, and writes below the disk reserve.

use shoreguard::pb::v0_0::openshell::v1 as old;
use shoreguard::pb::v0_1::openshell::v1 as new;
use shoreguard::pb::v1 as pb;
use shoreguard::workers;
use shoreguard_simulator::{Generation, Simulator, SimulatorOptions};
use tonic::{Request, Status};

use crate::support::server::TestServer;

/// The default of `server.message_bytes_max`.
const LIMIT: usize = 4 << 20;

async fn gateway(sg: &TestServer, name: &str, generation: Generation) -> Simulator {
    let simulator = Simulator::start(SimulatorOptions::new(generation)).await.unwrap();
    simulator.seed_demo().unwrap();
    sg.register_gateway(name, simulator.addr()).await;
    simulator
}

fn to<M>(gateway: &str, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-shoreguard-gateway", gateway.parse().unwrap());
    request
}

fn assert_too_large(refused: Status) {
    let refused = assert_refused!(Err::<(), _>(refused), ResourceExhausted, "MESSAGE_TOO_LARGE");
    assert!(refused.message().contains(&LIMIT.to_string()), "{refused:?}");
}

sqlite_tests! {
    an_oversized_message_is_refused_in_unary_and_streaming_calls,
    the_length_of_a_proxied_sandbox_name_is_checked_before_the_gateway_is_called,
}

async fn an_oversized_message_is_refused_in_unary_and_streaming_calls(sg: TestServer) {
    let edge = gateway(&sg, "edge", Generation::V0_1).await;
    let admin = sg.admin();
    let large = || bytes::Bytes::from(vec![b' '; LIMIT + 1]);
    let first = pb::UploadSbomRequest {
        gateway: "edge".into(),
        sandbox: "box".into(),
        ..Default::default()
    };
    // In the first message, and in a later one.
    let whole = pb::UploadSbomRequest { chunk: large(), ..first.clone() };
    let upload = admin.sboms().upload_sbom(tokio_stream::once(whole)).await;
    assert_too_large(upload.unwrap_err());
    let chunk = pb::UploadSbomRequest { chunk: large(), ..Default::default() };
    let upload = admin.sboms().upload_sbom(tokio_stream::iter([first, chunk])).await;
    assert_too_large(upload.unwrap_err());
    // In a bidirectional stream.
    let stdin = pb::ExecSandboxRequest {
        input: Some(pb::exec_sandbox_request::Input::Stdin(large())),
        ..Default::default()
    };
    let exec = admin.sandboxes().exec_sandbox(tokio_stream::once(stdin)).await;
    assert_too_large(exec.unwrap_err());
    // In a unary call.
    let name = String::from_utf8(large().to_vec()).unwrap();
    let get = pb::GetServicePrincipalRequest { service_principal: name };
    let get = admin.service_principals().get_service_principal(get).await;
    assert_too_large(get.unwrap_err());
    edge.stop().await;
    sg.finish().await;
}

async fn the_length_of_a_proxied_sandbox_name_is_checked_before_the_gateway_is_called(
    sg: TestServer,
) {
    let edge = gateway(&sg, "edge", Generation::V0_1).await;
    let before = gateway(&sg, "old", Generation::V0_0).await;
    let admin = sg.admin();
    for (length, good) in [(253, true), (254, false)] {
        let name = "n".repeat(length);
        let create = new::CreateSandboxRequest {
            name: name.clone(),
            spec: Some(new::SandboxSpec::default()),
            ..Default::default()
        };
        let created = admin.openshell_v0_1().create_sandbox(to("edge", create)).await.map(drop);
        let create = old::CreateSandboxRequest {
            name,
            spec: Some(old::SandboxSpec::default()),
            ..Default::default()
        };
        let before = admin.openshell_v0_0().create_sandbox(to("old", create)).await.map(drop);
        for created in [created, before] {
            let refused = created.as_ref().err().map(crate::support::server::reason);
            let ours = refused.as_deref() == Some("INVALID_FIELD");
            assert_eq!(ours, !good, "{length}: {created:?}");
            assert!(created.err().is_none_or(|status| status.code() != tonic::Code::Internal));
        }
    }
    edge.stop().await;
    before.stop().await;
    sg.finish().await;
}

sqlite_tests! {
    tuned |config| {
        config.limits.disk_reserve_mib = 1 << 40;
        config.auth.self_registration = true;
        config.auth.device_login = true;
    };
    t16_below_the_disk_reserve_registration_is_refused_and_an_admin_can_log_in,
}

async fn t16_below_the_disk_reserve_registration_is_refused_and_an_admin_can_log_in(
    sg: TestServer,
) {
    workers::run_once(&sg.app, &workers::disk::WORKER).await.unwrap();
    let email = "ana@example.com".to_owned();
    let register = pb::RegisterRequest { email, password: "a long enough password".into() };
    let registered = sg.anonymous().auth().register(register).await;
    assert_refused!(registered, ResourceExhausted, "DISK_LOW");
    let begun = sg.anonymous().auth().begin_device_login(pb::BeginDeviceLoginRequest {}).await;
    assert_refused!(begun, ResourceExhausted, "DISK_LOW");
    let complete = pb::CompleteDeviceLoginRequest { device_code: "sgd_".into() };
    let completed = sg.anonymous().auth().complete_device_login(complete).await;
    assert_refused!(completed, ResourceExhausted, "DISK_LOW");
    let login = pb::LoginRequest {
        email: crate::support::server::ADMIN_EMAIL.into(),
        password: crate::support::server::ADMIN_PASSWORD.into(),
    };
    sg.anonymous().auth().login(login).await.unwrap();
    sg.finish().await;
}
