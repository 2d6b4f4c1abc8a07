//! Table tests of the credential check.

use super::*;

const INFO: &str = "GetGatewayInfo";

fn user(roles: &[&str], scopes: &[&str]) -> CurrentUser {
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    CurrentUser { roles: owned(roles), scopes: owned(scopes) }
}

#[test]
fn roles_and_scopes_prove_a_credential_only_if_openshell_defines_them() {
    let table = [
        (user(&["openshell-admin"], &[]), true),
        (user(&["offline_access", "openshell-user"], &[]), true),
        (user(&["openshell-user"], &["openid", "sandbox:read"]), true),
        (user(&["openshell-admin"], &["openshell:all"]), true),
        (user(&[], &[]), false),
        (user(&[""], &[]), false),
        (user(&["offline_access", "uma_authorization"], &[]), false),
        (user(&["OPENSHELL-ADMIN"], &[]), false),
        (user(&["openshell-admin"], &["openid", "email"]), false),
        (user(&[], &["openshell:all"]), false),
    ];
    for (user, proof) in table {
        assert_eq!(user.is_proof(), proof, "{user:?}");
    }
}

#[test]
fn a_denied_platform_method_proves_nothing_without_a_known_role() {
    let denied =
        |user: &CurrentUser, said| user.check_info_error(INFO, Code::PermissionDenied, said);
    let (role, scope) = ("role 'openshell-admin' required", "scope 'config:read' required");
    let usable = Some(true);
    assert_eq!(denied(&user(&["openshell-user"], &["openid"]), role).is_usable(), usable);
    for (user, said) in [
        (user(&["openshell-user"], &["openid"]), scope),
        (user(&["openshell-admin"], &["openid"]), scope),
        (user(&["offline_access"], &[]), role),
        (user(&[], &[]), role),
    ] {
        assert_eq!(denied(&user, said).is_usable(), Some(false), "{user:?}");
    }
    let nobody = user(&[], &[]).check_info_error(INFO, Code::Unimplemented, "");
    assert_eq!(nobody.is_usable(), Some(false));
    let away = user(&[], &[]).check_info_error(INFO, Code::Unavailable, "busy");
    assert_eq!(away.is_usable(), None);
    let gone = user(&["openshell-user"], &["x"]).check_info_error(INFO, Code::Unauthenticated, "");
    assert_eq!(gone.is_usable(), Some(false));
}

#[test]
fn only_a_verdict_of_the_gateway_makes_a_credential_unusable() {
    let of = |code| CredentialCheck::from_error("GetCurrentUser", code, "no").is_usable();
    assert_eq!([of(Code::Unauthenticated), of(Code::PermissionDenied)], [Some(false); 2]);
    for code in [Code::Unavailable, Code::Internal, Code::ResourceExhausted, Code::NotFound] {
        assert_eq!(of(code), None, "{code:?}");
    }
}

#[test]
fn roles_and_texts_of_a_gateway_are_truncated_and_sanitized() {
    let long = "r\u{1b}[31m".repeat(1_000);
    let many = vec![long.as_str(); 1_000];
    let check = user(&many, &[]).check_info_error(INFO, Code::PermissionDenied, &long);
    let shown = check.problem().unwrap();
    assert!(shown.len() < 1_500 && !shown.contains('\u{1b}'), "{shown}");
}

#[test]
fn a_refused_credential_and_a_refused_session_token_have_different_reasons() {
    let ours = unauthenticated_error("edge", "invalid token: ExpiredSignature");
    assert!(
        matches!(ours, Error::Refused { reason: Reason::GatewayCredentialRefused, .. }),
        "{ours}"
    );
    let session = unauthenticated_error("edge", "invalid or expired SSH session token");
    assert!(
        matches!(session, Error::Gateway { refusal: GatewayRefusal::Refused, .. }),
        "{session}"
    );
}
