//! Rejected values of `[oidc]`, one fault at a time.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use crate::config::Config;

const SOUND: &str = r#"
[[oidc.providers]]
name = "corp"
issuer = "https://id.example.com/realms/a"
client_id = "shoreguard"
client_secret = "hunter2"
redirect_uris = ["https://console.example.com/login"]
email_domains = ["example.com"]
role_claim = "realm_access.roles"
roles = { ops = "operator", all = "viewer" }
audience = "https://shoreguard.example.com"
accept_bearer = true

[[oidc.providers.rules]]
name = "deploy"
conditions = { repository = "acme/infra", ref = ["refs/heads/main", "refs/tags/v*"] }
role = "operator"

[[oidc.providers.rules]]
name = "robots"
conditions = { sub = "robot-*" }
service_principal = "robots"
"#;

fn faults(text: &str) -> Vec<String> {
    Config::from_toml(text).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn a_complete_provider_is_parsed_and_its_secret_is_redacted() {
    let config = Config::from_toml(SOUND).unwrap();
    let provider = &config.oidc.providers[0];
    assert_eq!(provider.secret().unwrap().unwrap().expose(), "hunter2");
    assert_eq!(provider.scopes, ["openid", "email", "profile"]);
    assert_eq!(provider.rules[0].conditions["ref"].values().len(), 2);
    let shown = config.redacted();
    assert!(!shown.contains("hunter2") && !format!("{config:?}").contains("hunter2"), "{shown}");
    assert!(shown.contains("client_secret = \"***\""), "{shown}");
    assert_eq!(Config::from_toml(&shown).unwrap().redacted(), shown);
}

#[test]
fn each_configuration_error_is_reported() {
    let long = format!("name = \"{}\"", "a".repeat(41));
    for (from, to, fault) in [
        (r#"name = "corp""#, r#"name = "Corp""#, "`oidc.providers[0].name` must be 1 to 40 lower"),
        (r#"name = "corp""#, &long, "`oidc.providers[0].name` must be 1 to 40 lowercase"),
        ("https://id.", "http://id.", "`oidc.providers[0].issuer` must begin with `https://`, as"),
        ("realms/a", "realms/a?b=c", "`oidc.providers[0].issuer` must have no query"),
        ("https://id.", "https://user@id.", "`oidc.providers[0].issuer` must name a host and no"),
        ("https://console", "http://console", "`oidc.providers[0].redirect_uris[0]` must begin"),
        ("com/login", "com/login#a", "`oidc.providers[0].redirect_uris[0]` must have no fragment"),
        (r#"["example.com"]"#, r#"["Example.com"]"#, "`oidc.providers[0].email_domains` must be"),
        (r#"["example.com"]"#, r#"["@example.com"]"#, "`oidc.providers[0].email_domains` must be"),
        (r#"ops = "operator""#, r#"ops = "admin""#, "`oidc.providers[0].roles.ops` is `admin`,"),
        (
            r#"ops = "operator""#,
            r#"ops = "owner""#,
            "`oidc.providers[0].roles.ops` cannot be read: ",
        ),
        (
            r#"role = "operator""#,
            r#"role = "owner""#,
            "`oidc.providers[0].rules[0].role` cannot be",
        ),
        (
            r#"issuer = "https://id.example.com/realms/a""#,
            "",
            "`oidc.providers[0]` cannot be read: mis",
        ),
        (
            r#"name = "robots""#,
            "",
            "`oidc.providers[0].rules[1]` cannot be read: missing field `name`",
        ),
        (
            r#"client_secret = "hunter2""#,
            "client_secret = 2",
            "`oidc.providers[0].client_secret` must be",
        ),
        (r#"role_claim = "realm_access.roles""#, "", "`oidc.providers[0].roles` and `role_claim`"),
        (r#"audience = "https://shoreguard.example.com""#, "", "`oidc.providers[0].audience` is"),
        ("\"https://shoreguard.example.com\"", "\"shoreguard\"", "`oidc.providers[0].audience` mu"),
        (
            r#"client_id = "shoreguard""#,
            "",
            "`oidc.providers[0].client_id` is required if a client",
        ),
        (r#"client_secret = "hunter2""#, r#"client_secret = """#, "`oidc.providers[0].client_secr"),
        (r#"role = "operator""#, r#"role = "admin""#, "`oidc.providers[0].rules[0].role` is `admi"),
        (r#"role = "operator""#, "", "`oidc.providers[0].rules[0]` must have either"),
        (
            r#"{ sub = "robot-*" }"#,
            "{}",
            "`oidc.providers[0].rules[1].conditions` must have 1 to 64",
        ),
        ("robot-*", "*", "`oidc.providers[0].rules[1].conditions.sub` must not be empty or"),
        ("sub = \"robot-*\"", "iss = \"a\"", "`oidc.providers[0].rules[1].conditions.iss` holds"),
        ("sub = \"robot-*\"", "sub = 3", "`oidc.providers[0].rules[1].conditions.sub` cannot be"),
        ("name = \"robots\"", "name = \"deploy\"", "`oidc.providers[0].rules[1].name` repeats"),
        (
            "accept_bearer",
            "accept_bearers",
            "`oidc.providers[0].accept_bearers` is not a key of the configuration",
        ),
    ] {
        assert!(SOUND.contains(from), "{from}");
        let found = faults(&SOUND.replace(from, to));
        assert!(found.iter().any(|found| found.starts_with(fault)), "{fault}: {found:#?}");
    }
}

#[test]
fn provider_names_and_issuers_are_unique() {
    let again = SOUND.replace("hunter2", "hunter3");
    assert_eq!(
        faults(&format!("{SOUND}{again}")),
        [
            "`oidc.providers[1].name` repeats that of an earlier one",
            "`oidc.providers[1].issuer` repeats that of an earlier one",
        ]
    );
}

#[test]
fn a_loopback_issuer_may_use_plain_http() {
    let local = SOUND.replace("https://id.example.com", "http://127.0.0.1:5556");
    assert!(Config::from_toml(&local).is_ok());
}

#[test]
fn an_error_never_quotes_the_client_secret() {
    let found = faults(&SOUND.replace("\"hunter2\"", "4242"));
    let fault = "`oidc.providers[0].client_secret` must be a string in the form that is documented";
    assert_eq!(found, [fault]);
}

#[test]
fn the_client_secret_may_be_in_a_file_that_other_users_cannot_read() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hunter2\n").unwrap();
    std::fs::set_permissions(file.path(), Permissions::from_mode(0o640)).unwrap();
    let in_file = format!("client_secret_path = '{}'", file.path().display());
    let text = SOUND.replace("client_secret = \"hunter2\"", &in_file);
    let config = Config::from_toml(&text).unwrap();
    assert_eq!(config.oidc.providers[0].secret().unwrap().unwrap().expose(), "hunter2");
    std::fs::set_permissions(file.path(), Permissions::from_mode(0o644)).unwrap();
    assert!(faults(&text)[0].starts_with("`oidc.providers[0].client_secret_path` cannot be read"));
    let both = SOUND.replace("client_id", &format!("{in_file}\nclient_id"));
    assert!(faults(&both)[0].ends_with("must not be set beside `client_secret`"));
}
