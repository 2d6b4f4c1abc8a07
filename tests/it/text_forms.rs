//! Texts that look alike: e-mail addresses, names and passwords in different forms of Unicode.

use shoreguard::pb::v1 as pb;
use shoreguard::role::Role;
use tonic::{Response, Status};

use crate::support::people::PASSWORD;
use crate::support::server::TestServer;

const COMPOSED: &str = "p\u{e4}ssword long 1";
const DECOMPOSED: &str = "pa\u{308}ssword long 1";

server_tests! {
    an_address_with_a_letter_of_another_case_rule_is_not_that_of_an_account,
    a_name_with_an_invisible_character_is_refused,
    a_password_is_accepted_in_every_form_in_which_it_is_typed,
    a_password_hash_of_an_earlier_release_is_accepted,
}

async fn login(sg: &TestServer, email: &str, password: &str) -> Result<pb::LoginResponse, Status> {
    let request = pb::LoginRequest { email: email.to_owned(), password: password.to_owned() };
    sg.anonymous().auth().login(request).await.map(Response::into_inner)
}

async fn an_address_with_a_letter_of_another_case_rule_is_not_that_of_an_account(sg: TestServer) {
    sg.create_user("kim@corp.example", Role::Viewer).await;
    for same in ["kim@corp.example", "KIM@Corp.Example", " kim@corp.example "] {
        login(&sg, same, PASSWORD).await.unwrap();
    }
    // KELVIN SIGN, whose lower case is `k` in Unicode, and characters that are not displayed.
    let admin = sg.admin();
    for other in [
        "\u{212a}im@corp.example",
        "kim\u{200b}@corp.example",
        "\u{a0}kim@corp.example",
        "ki\u{3164}m@corp.example",
    ] {
        assert_refused!(login(&sg, other, PASSWORD).await, Unauthenticated, "LOGIN_FAILED");
        let request = pb::GetUserRequest { user: other.to_owned() };
        let got = admin.users().get_user(request).await;
        assert_refused!(got, InvalidArgument, "INVALID_FIELD");
        let request = pb::InviteUserRequest {
            email: other.to_owned(),
            role: pb::Role::Viewer.into(),
            ..Default::default()
        };
        let invited = admin.users().invite_user(request).await;
        assert_refused!(invited, InvalidArgument, "INVALID_FIELD");
        let subject = pb::subject::Subject::User(other.to_owned());
        let request = pb::ExplainAccessRequest {
            subject: Some(pb::Subject { subject: Some(subject) }),
            ..Default::default()
        };
        assert!(admin.access().explain_access(request).await.is_err(), "{other:?}");
    }
    sg.finish().await;
}

async fn a_name_with_an_invisible_character_is_refused(sg: TestServer) {
    let admin = sg.admin();
    admin.create_key("L\u{fc}beck", pb::Role::Viewer).await;
    for name in ["Lu\u{308}beck", "L\u{fc}beck\u{3164}", "L\u{fc}\u{ad}beck", "\u{212a}iel"] {
        let request = pb::CreateServicePrincipalRequest {
            name: name.to_owned(),
            role: pb::Role::Viewer.into(),
            ..Default::default()
        };
        let created = admin.service_principals().create_service_principal(request).await;
        assert_refused!(created, InvalidArgument, "INVALID_FIELD");
        let request = pb::CreateGroupRequest {
            name: name.to_owned(),
            role: pb::Role::Viewer.into(),
            ..Default::default()
        };
        let created = admin.groups().create_group(request).await;
        assert_refused!(created, InvalidArgument, "INVALID_FIELD");
    }
    sg.finish().await;
}

async fn a_password_is_accepted_in_every_form_in_which_it_is_typed(sg: TestServer) {
    for (email, set) in [("ana@corp.example", COMPOSED), ("bo@corp.example", DECOMPOSED)] {
        let invite_token = sg.admin().invite(email, pb::Role::Viewer).await;
        let accept = pb::AcceptInviteRequest { invite_token, password: set.to_owned() };
        sg.anonymous().auth().accept_invite(accept).await.unwrap();
        for typed in [COMPOSED, DECOMPOSED] {
            login(&sg, email, typed).await.unwrap();
        }
        let refused = login(&sg, email, "password long 1").await;
        assert_refused!(refused, Unauthenticated, "LOGIN_FAILED");
    }
    sg.finish().await;
}

async fn a_password_hash_of_an_earlier_release_is_accepted(sg: TestServer) {
    sg.create_user("ana@corp.example", Role::Viewer).await;
    // The hash of the decomposed text, which an earlier release stored.
    let stored = "$2b$04$k7mQxV2c9LrTz5uN8wBpEeModhyppPhLSFuEYPDpp.ShHPvkJ/bUK";
    let set =
        format!("UPDATE users SET hashed_password = '{stored}' WHERE email = 'ana@corp.example'");
    assert_eq!(sg.sql(&set).await, 1);
    login(&sg, "ana@corp.example", DECOMPOSED).await.unwrap();
    let refused = login(&sg, "ana@corp.example", "password long 1").await;
    assert_refused!(refused, Unauthenticated, "LOGIN_FAILED");
    sg.finish().await;
}
