//! Calls that are refused before anything reaches a gateway.

use bytes::Bytes;
use old::UpdateConfigRequest as Update;
use prost::Message;
use shoreguard::pb::v0_0::openshell::sandbox::v1 as policy;
use shoreguard::pb::v1 as pb;
use shoreguard_simulator::Generation;

use super::raw::{RawClient, add_length_prefix, encode_framed};
use super::*;

#[test]
fn t02_a_call_without_a_gateway_is_forwarded_only_if_exactly_one_is_visible() {
    run_on_sqlite(|sg| async move {
        let (a, b) =
            (start_simulator(Generation::V0_0).await, start_simulator(Generation::V0_0).await);
        sg.register_gateway("alpha", a.addr()).await;
        let admin = sg.admin();
        admin.openshell_v0_0().health(old::HealthRequest {}).await.unwrap();
        sg.register_gateway("beta", b.addr()).await;
        let many = admin.openshell_v0_0().health(old::HealthRequest {}).await;
        let many = assert_refused!(many, InvalidArgument, "GATEWAY_AMBIGUOUS");
        assert!(many.message().ends_with("one of alpha, beta"), "{}", many.message());

        let key = admin.create_key("ci", pb::Role::Viewer).await;
        admin.bind("ci", "beta", pb::Role::None).await;
        let only =
            sg.with_token(&key).openshell_v0_0().health(old::HealthRequest {}).await.unwrap();
        assert_eq!(only.metadata().get("x-shoreguard-gateway").unwrap(), "alpha");

        let hidden = sg
            .with_token(&key)
            .openshell_v0_0()
            .health(for_gateway("beta", old::HealthRequest {}))
            .await;
        let hidden = assert_refused!(hidden, NotFound, "NOT_FOUND");
        let absent = sg
            .with_token(&key)
            .openshell_v0_0()
            .health(for_gateway("bete", old::HealthRequest {}))
            .await;
        let absent = assert_refused!(absent, NotFound, "NOT_FOUND");
        assert_eq!(hidden.message().replace("beta", ""), absent.message().replace("bete", ""));
        sg.finish().await;
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn t05_the_required_role_depends_on_the_content_of_the_message() {
    run_on_sqlite(|sg| async move {
        let gateway = start_simulator(Generation::V0_0).await;
        sg.register_gateway("alpha", gateway.addr()).await;
        let admin = sg.admin();
        create_sandbox(&admin, "alpha", "one").await;
        let viewer = sg.with_token(&admin.create_key("see", pb::Role::Viewer).await);
        let operator = sg.with_token(&admin.create_key("ops", pb::Role::Operator).await);
        let made = viewer
            .openshell_v0_0()
            .create_sandbox(for_gateway("alpha", create_request("two")))
            .await;
        assert_refused!(made, PermissionDenied, "ROLE_TOO_LOW");

        let own = Update {
            name: "one".to_owned(),
            policy: Some(policy::SandboxPolicy { version: 1, ..Default::default() }),
            ..Default::default()
        };
        let (before, path) = (gateway.calls(), "/openshell.v1.OpenShell/UpdateConfig");
        assert!(!before.contains_key(path));
        // The gateway itself refuses the content of this update.
        let answer =
            operator.openshell_v0_0().update_config(for_gateway("alpha", own.clone())).await;
        let answer = answer.unwrap_err();
        assert!(answer.message().contains("live sandbox"), "{answer:?}");
        let value = policy::setting_value::Value::StringValue("auto".to_owned());
        let setting = Update {
            name: "one".to_owned(),
            setting_key: "proposal_approval_mode".to_owned(),
            setting_value: Some(policy::SettingValue { value: Some(value) }),
            ..Default::default()
        };
        for update in [setting.clone(), Update { global: true, ..own }] {
            let refused =
                operator.openshell_v0_0().update_config(for_gateway("alpha", update)).await;
            assert_refused!(refused, PermissionDenied, "ROLE_TOO_LOW");
        }
        let unknown = Update { setting_key: "launch".to_owned(), ..setting.clone() };
        let refused = admin.openshell_v0_0().update_config(for_gateway("alpha", unknown)).await;
        assert_refused!(refused, InvalidArgument, "SETTING_UNKNOWN");
        assert_eq!(gateway.calls()[path], 1);
        admin.openshell_v0_0().update_config(for_gateway("alpha", setting)).await.unwrap();
        sg.finish().await;
        gateway.stop().await;
    });
}

#[test]
fn t08_a_sandbox_id_of_another_gateway_is_not_found() {
    run_on_sqlite(|sg| async move {
        let (a, b) =
            (start_simulator(Generation::V0_0).await, start_simulator(Generation::V0_0).await);
        sg.register_gateway("alpha", a.addr()).await;
        sg.register_gateway("beta", b.addr()).await;
        let admin = sg.admin();
        let id = create_sandbox(&admin, "alpha", "one").await;
        let mut answers = Vec::new();
        for id in [id.as_str(), "never-made", ""] {
            let config = policy::GetSandboxConfigRequest { sandbox_id: id.to_owned() };
            let refused =
                admin.openshell_v0_0().get_sandbox_config(for_gateway("beta", config)).await;
            let refused = assert_refused!(refused, NotFound, "SANDBOX_UNPLACED");
            answers.push(refused.message().to_owned());
        }
        answers.dedup();
        assert_eq!(answers.len(), 1);
        let config = policy::GetSandboxConfigRequest { sandbox_id: id };
        admin.openshell_v0_0().get_sandbox_config(for_gateway("alpha", config)).await.unwrap();
        sg.finish().await;
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn the_id_of_a_sandbox_created_outside_shoreguard_is_looked_up() {
    run_on_sqlite(|sg| async move {
        let gateway = start_simulator(Generation::V0_0).await;
        sg.register_gateway("alpha", gateway.addr()).await;
        gateway.seed_demo().unwrap();
        // Created directly on the gateway, so that Shoreguard has not seen the IDs.
        let url = format!("http://{}", gateway.addr());
        let mut direct = old::open_shell_client::OpenShellClient::connect(url).await.unwrap();
        let found = old::ListSandboxesRequest { all_workspaces: true, ..Default::default() };
        let found = direct.list_sandboxes(found).await.unwrap().into_inner().sandboxes;
        for sandbox in &found {
            let sandbox_id = sandbox.metadata.as_ref().unwrap().id.clone();
            let config = policy::GetSandboxConfigRequest { sandbox_id };
            sg.admin()
                .openshell_v0_0()
                .get_sandbox_config(for_gateway("alpha", config))
                .await
                .unwrap();
        }
        assert!(found.len() >= 4);
        sg.finish().await;
        gateway.stop().await;
    });
}

#[test]
fn t09_an_ambiguous_message_is_not_forwarded() {
    run_on_sqlite(|sg| async move {
        let gateway = start_simulator(Generation::V0_0).await;
        sg.register_gateway("alpha", gateway.addr()).await;
        create_sandbox(&sg.admin(), "alpha", "one").await;
        let mut raw = RawClient::connect(&sg).await;
        let delete = old::DeleteSandboxRequest { name: "one".to_owned(), ..Default::default() };
        let (plain, encoded) = (encode_framed(&delete), delete.encode_to_vec());
        let twice = add_length_prefix(&[&encoded[..], &encoded[..]].concat());
        let mut flagged = plain.to_vec();
        flagged[0] = 1;
        let cut = plain.slice(..plain.len() - 1);
        let too_long = Bytes::from_static(&[0, 0, 0x10, 0, 1]);
        let ambiguous = ("3", "MESSAGE_AMBIGUOUS");
        for (chunks, expected) in [
            (vec![twice], ambiguous),
            (vec![plain.clone(), plain.clone()], ambiguous),
            (vec![Bytes::from(flagged)], ambiguous),
            (vec![cut], ("3", "MALFORMED_MESSAGE")),
            (vec![], ("3", "MALFORMED_MESSAGE")),
            (vec![add_length_prefix(&[0xff, 0xff])], ("3", "MALFORMED_MESSAGE")),
            (vec![too_long], ("8", "MESSAGE_TOO_LARGE")),
        ] {
            let answer = raw.call(raw.request("DeleteSandbox", "alpha"), &chunks).await;
            let (code, reason) = answer.refusal();
            assert_eq!((code, reason.as_str()), expected, "{chunks:?}");
        }
        let request = raw.request("DeleteSandbox", "alpha").header("grpc-encoding", "gzip");
        assert_eq!(
            raw.call(request, std::slice::from_ref(&plain)).await.refusal().1,
            "MESSAGE_AMBIGUOUS"
        );
        assert!(!gateway.calls().contains_key("/openshell.v1.OpenShell/DeleteSandbox"));

        let pieces: Vec<Bytes> = plain.iter().map(|byte| Bytes::from(vec![*byte])).collect();
        let answer = raw.call(raw.request("DeleteSandbox", "alpha"), &pieces).await;
        assert_eq!(answer.code(), "0");
        sg.finish().await;
        gateway.stop().await;
    });
}

#[test]
fn a_method_that_the_gateway_generation_does_not_have_is_not_forwarded() {
    run_on_sqlite(|sg| async move {
        use new::open_shell_client::OpenShellClient;
        let (a, b) =
            (start_simulator(Generation::V0_0).await, start_simulator(Generation::V0_1).await);
        sg.register_gateway("alpha", a.addr()).await;
        sg.register_gateway("beta", b.addr()).await;
        let admin = sg.admin();
        let list = || new::ListSandboxTemplatesRequest::default();
        admin.openshell_v0_1().list_sandbox_templates(for_gateway("beta", list())).await.unwrap();
        let refused =
            admin.openshell_v0_1().list_sandbox_templates(for_gateway("alpha", list())).await;
        let refused = assert_refused!(refused, Unimplemented, "METHOD_NOT_SUPPORTED");
        assert!(refused.message().contains("since version 0.1.0"), "{refused:?}");
        let mut client: OpenShellClient<_> = admin.openshell_v0_1();
        let secret = new::GetProviderCredentialsRequest::default();
        let refused = client.get_provider_credentials(for_gateway("beta", secret)).await;
        assert_refused!(refused, PermissionDenied, "METHOD_NOT_FORWARDED");
        assert!(a.calls().keys().all(|path| is_probe(path)));
        sg.finish().await;
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn no_call_is_forwarded_to_a_gateway_of_an_unknown_generation() {
    run_on_sqlite(|sg| async move {
        let gateway = start_simulator(Generation::V0_0).await;
        gateway.set_version("0.0.200");
        sg.register_gateway("alpha", gateway.addr()).await;
        let refused =
            sg.admin().openshell_v0_0().get_sandbox(for_gateway("alpha", get_request("one"))).await;
        let refused = assert_refused!(refused, FailedPrecondition, "WIRE_UNSUPPORTED");
        assert!(refused.message().contains("this server does not know the release"), "{refused:?}");
        assert_eq!(gateway.calls().len(), 1, "only its version was requested");
        sg.finish().await;
        gateway.stop().await;
    });
}
