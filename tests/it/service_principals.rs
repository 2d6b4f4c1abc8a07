//! Service principals, over the wire.

use shoreguard::pb::v1 as pb;

served! {
    async fn a_key_works_until_it_is_rotated_and_then_the_new_one_does(sg: TestServer) {
        let admin = sg.admin();
        let key = admin.key("ci", pb::Role::Operator).await;
        let who = sg.with(&key).auth().get_current_identity(pb::GetCurrentIdentityRequest {}).await.unwrap().into_inner();
        assert_eq!((who.actor.as_str(), who.role()), ("sp:ci", pb::Role::Operator));

        let request = pb::RotateServicePrincipalRequest { name: "ci".into(), ..Default::default() };
        let rotated = admin.service_principals().rotate_service_principal(request).await.unwrap().into_inner();
        let refused = sg.with(&key).auth().get_current_identity(pb::GetCurrentIdentityRequest {}).await;
        assert_refused!(refused, Unauthenticated, "CREDENTIAL_INVALID");
        sg.with(&rotated.key).auth().get_current_identity(pb::GetCurrentIdentityRequest {}).await.unwrap();

        let request = pb::DeleteServicePrincipalRequest { name: "ci".into(), etag: "v1".into(), ..Default::default() };
        assert_refused!(admin.service_principals().delete_service_principal(request).await, Aborted, "CONCURRENT_CHANGE");
        let request = pb::DeleteServicePrincipalRequest { name: "ci".into(), etag: "v2".into(), ..Default::default() };
        admin.service_principals().delete_service_principal(request).await.unwrap();
        let refused = sg.with(&rotated.key).auth().get_current_identity(pb::GetCurrentIdentityRequest {}).await;
        assert_refused!(refused, Unauthenticated, "CREDENTIAL_INVALID");
        sg.finish().await;
    }

    async fn an_expired_key_is_dead(sg: TestServer) {
        let at = sg.app.clock.now().plus(std::time::Duration::from_mins(1));
        let request = pb::CreateServicePrincipalRequest {
            name: "brief".into(),
            role: pb::Role::Viewer.into(),
            expire_time: Some(shoreguard::transport::wire::time(at)),
            ..Default::default()
        };
        let key = sg.admin().service_principals().create_service_principal(request).await.unwrap().into_inner().key;
        let caller = sg.with(&key);
        caller.auth().get_current_identity(pb::GetCurrentIdentityRequest {}).await.unwrap();
        sg.app.clock.advance(std::time::Duration::from_secs(61));
        shoreguard::resources::access_bindings::feed::refresh(&sg.app).await.unwrap();
        let refused = caller.auth().get_current_identity(pb::GetCurrentIdentityRequest {}).await;
        assert_refused!(refused, Unauthenticated, "CREDENTIAL_INVALID");
        sg.finish().await;
    }

    async fn names_are_unique_and_lists_page(sg: TestServer) {
        let admin = sg.admin();
        for n in 0..5 {
            admin.key(&format!("p{n}"), pb::Role::Viewer).await;
        }
        let again = pb::CreateServicePrincipalRequest { name: "p0".into(), role: pb::Role::Viewer.into(), ..Default::default() };
        assert_refused!(admin.service_principals().create_service_principal(again).await, AlreadyExists, "ALREADY_EXISTS");

        let mut names = Vec::new();
        let mut token = String::new();
        loop {
            let request = pb::ListServicePrincipalsRequest { page_size: 2, page_token: token.clone() };
            let page = admin.service_principals().list_service_principals(request).await.unwrap().into_inner();
            assert!(page.service_principals.len() <= 2);
            names.extend(page.service_principals.into_iter().map(|p| p.name));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(names, ["p0", "p1", "p2", "p3", "p4", "root"]);
        sg.finish().await;
    }

    async fn a_repeat_with_the_same_request_id_gets_the_first_answer(sg: TestServer) {
        let admin = sg.admin();
        let id = "8c5b0f6e-7d1d-4f0c-9c57-3d9a6f2f1a01".to_owned();
        let request = pb::CreateServicePrincipalRequest {
            name: "once".into(),
            role: pb::Role::Viewer.into(),
            request_id: id.clone(),
            ..Default::default()
        };
        let first = admin.service_principals().create_service_principal(request.clone()).await.unwrap().into_inner();
        let again = admin.service_principals().create_service_principal(request.clone()).await.unwrap().into_inner();
        assert_eq!(first, again);
        let other = pb::CreateServicePrincipalRequest { name: "other".into(), ..request.clone() };
        assert_refused!(admin.service_principals().create_service_principal(other).await, InvalidArgument, "REQUEST_ID_REUSED");
        let bad = pb::CreateServicePrincipalRequest { request_id: "1".into(), ..request };
        assert_refused!(admin.service_principals().create_service_principal(bad).await, InvalidArgument, "INVALID_FIELD");
        sg.finish().await;
    }

    async fn only_a_global_admin_makes_keys(sg: TestServer) {
        let key = sg.admin().key("op", pb::Role::Operator).await;
        let request = pb::CreateServicePrincipalRequest { name: "x".into(), role: pb::Role::Viewer.into(), ..Default::default() };
        assert_refused!(sg.with(&key).service_principals().create_service_principal(request.clone()).await, PermissionDenied, "ROLE_TOO_LOW");
        assert_refused!(sg.anonymous().service_principals().create_service_principal(request).await, Unauthenticated, "CREDENTIAL_MISSING");
        sg.finish().await;
    }
}
