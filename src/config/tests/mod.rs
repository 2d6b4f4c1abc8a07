//! Sources of the configuration, and rejected configurations.

mod keys;

use std::ffi::OsString;
use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{Config, DatabaseUrl, Faults, Sources};

const HEX_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn with(
    text: &str,
    environment: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Config, Faults> {
    let environment: Vec<(OsString, OsString)> =
        environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
    let flags: Vec<(String, String)> =
        flags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Config::assemble(Some(text), environment, &flags)
}

fn faults(text: &str) -> Vec<String> {
    with(text, &[], &[]).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn an_empty_configuration_is_valid() {
    let config = Config::from_toml("").unwrap();
    assert!(config.server.listen.ip().is_loopback());
    assert_eq!(config.server.public_url(), "http://127.0.0.1:8443");
    assert_eq!(config.sqlite_path().unwrap(), Path::new("shoreguard-data/shoreguard.db"));
}

#[test]
fn flags_override_the_environment_and_the_environment_overrides_the_file() {
    let file = "[audit]\nretention_days = 1\nbatch_max = 1\n[events]\nretention_days = 1";
    let environment =
        [("SHOREGUARD_AUDIT_RETENTION_DAYS", "2"), ("SHOREGUARD_AUDIT_BATCH_MAX", "2")];
    let config = with(file, &environment, &[("audit.retention_days", "3")]).unwrap();
    assert_eq!(config.audit.retention_days, 3);
    assert_eq!(config.audit.batch_max, 2);
    assert_eq!(config.events.retention_days, 1);
}

#[test]
fn a_variable_can_hold_a_list_a_boolean_an_address_or_be_empty() {
    let config = with(
        "",
        &[
            ("SHOREGUARD_GATEWAYS_ALLOWED_NETWORKS", "127.0.0.0/8, fd00::/8"),
            ("SHOREGUARD_SERVER_ALLOW_PLAINTEXT", "true"),
            ("SHOREGUARD_SERVER_LISTEN", "0.0.0.0:80"),
            ("SHOREGUARD_TELEMETRY_METRICS_LISTEN", ""),
            ("SHOREGUARD_KEYS_MASTER_KEY", HEX_KEY),
        ],
        &[],
    )
    .unwrap();
    assert_eq!(config.gateways.allowed_networks.len(), 2);
    assert_eq!(config.server.listen.port(), 80);
    assert_eq!(config.telemetry.metrics_listen, None);
    assert!(config.keys.load().unwrap().is_some());
}

#[test]
fn an_unknown_key_is_refused_with_its_path() {
    let found = faults("[server]\nlisten_on = 1\n[server.tls]\ncert = 'x'\n[bogus]\na = 1");
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(
        found[0].starts_with("`server.listen_on` is not a key of the configuration"),
        "{found:#?}"
    );
    assert!(found[1].starts_with("`server.tls.cert` is not a key of"), "{found:#?}");
    assert_eq!(found[2], "`bogus` is not a section of the configuration");
}

#[test]
fn an_unknown_variable_is_refused_unless_kubernetes_injected_it() {
    let made = [
        ("SHOREGUARD_SERVICE_HOST", "10.0.0.1"),
        ("SHOREGUARD_SERVICE_PORT_GRPC", "8443"),
        ("SHOREGUARD_PORT", "tcp://10.0.0.1:8443"),
        ("SHOREGUARD_PORT_8443_TCP_ADDR", "10.0.0.1"),
        ("SHOREGUARD_POSTGRES_SERVICE_HOST", "10.0.0.1"),
        ("SHOREGUARD_CONFIG", "x"),
        ("PATH", "/bin"),
    ];
    assert!(with("", &made, &[]).is_ok());
    let refused = with("", &[("SHOREGUARD_SERVER_LISTENING", "x")], &[]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "`SHOREGUARD_SERVER_LISTENING` is not a variable of the configuration"
    );
}

#[test]
fn every_configuration_error_is_listed() {
    let found = faults(
        "[server]\nlisten = 'here'\ncores = 'two'\ntrusted_proxies = ['10.0.0.0/8', 'all']\n\
         [audit]\nretention_days = 0\nbatch_max = 5000\n\
         [database]\nurl = 'postgres://u:p@h/d'\n\
         [telemetry]\nlog_level = 'a=b=c'\n[access]\nstale_after_seconds = 6",
    );
    let keys: Vec<&str> = found.iter().map(|fault| fault.split('`').nth(1).unwrap()).collect();
    assert_eq!(
        keys,
        [
            "server.cores",
            "server.listen",
            "server.trusted_proxies[1]",
            "access.stale_after_seconds",
            "audit.retention_days",
            "audit.batch_max",
            "telemetry.log_level",
            "keys.master_key",
        ],
        "{found:#?}"
    );
    assert_eq!(found[4], "`audit.retention_days` must be 1 to 3650, got 0");
}

#[test]
fn discovery_needs_valid_domains_and_settings_in_range() {
    let sound =
        "[discovery]\nenabled = true\ndomains = ['fleet.example', 'corp']\ninterval_seconds = 30";
    assert!(!Config::from_toml(sound).unwrap().discovery.auto_register);
    let found = faults(
        "[discovery]\ndomains = ['Fleet.example', 'a..b', 'a.', '', 'corp', 'corp']\ninterval_seconds = 29\n\
         timeout_seconds = 0\nscheme = 'grpc+tls'\n[gateways]\ndns_servers = ['10.0.0.53']",
    );
    let keys: Vec<&str> = found.iter().map(|fault| fault.split('`').nth(1).unwrap()).collect();
    assert_eq!(
        keys,
        [
            "gateways.dns_servers[0]",
            "discovery.domains[0]",
            "discovery.domains[1]",
            "discovery.domains[2]",
            "discovery.domains[3]",
            "discovery.domains[5]",
            "discovery.interval_seconds",
            "discovery.timeout_seconds",
            "discovery.scheme",
        ],
        "{found:#?}"
    );
    let idle = faults("[discovery]\nenabled = true");
    assert_eq!(idle, ["`discovery.domains` must name a domain where discovery is enabled"]);
}

#[test]
fn the_request_id_limit_per_principal_has_a_valid_range() {
    let of = |ids: u32| format!("[gateways]\nrequest_ids_per_principal = {ids}");
    assert_eq!(Config::from_toml("").unwrap().gateways.request_ids_per_principal, 500);
    for good in [1, 1_000_000] {
        let config = Config::from_toml(&of(good)).unwrap();
        assert_eq!(config.gateways.request_ids_per_principal, good);
    }
    for bad in [0, 1_000_001] {
        let why = format!("`gateways.request_ids_per_principal` must be 1 to 1000000, got {bad}");
        assert_eq!(faults(&of(bad)), [why]);
    }
}

#[test]
fn the_registration_role_cannot_be_admin() {
    for role in ["none", "viewer", "operator"] {
        let config = Config::from_toml(&format!("[auth]\nregistration_role = '{role}'")).unwrap();
        assert_eq!(config.auth.registration_role_value().unwrap().as_str(), role);
        assert!(!config.auth.self_registration);
    }
    for role in ["admin", "owner", "Viewer", ""] {
        let found = faults(&format!("[auth]\nregistration_role = '{role}'"));
        assert_eq!(found, ["`auth.registration_role` must be none, viewer or operator"], "{role}");
    }
    assert_eq!(faults("[auth]\ninvite_hours = 0").len(), 1);
    assert_eq!(faults("[auth]\ninvite_hours = 721").len(), 1);
}

#[test]
fn each_connection_limit_has_a_valid_range() {
    for (key, least, most) in [
        ("connections_max", 16_u64, 1_000_000_u64),
        ("address_connections_max", 1, 1_000_000),
        ("connection_idle_seconds", 10, 86_400),
    ] {
        let config = |value: u64| with(&format!("[limits]\n{key} = {value}"), &[], &[]);
        assert!(config(least).is_ok() && config(most).is_ok(), "{key}");
        for past in [least - 1, most + 1] {
            let found = config(past).unwrap_err().to_string();
            let expected = format!("`limits.{key}` must be {least} to {most}, got {past}");
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn a_network_address_requires_tls_or_allow_plaintext() {
    let found = faults("[server]\nlisten = '0.0.0.0:8443'");
    assert!(found[0].starts_with("`server.listen` is not loopback"), "{found:#?}");
    assert!(with("[server]\nlisten = '0.0.0.0:1'\nallow_plaintext = true", &[], &[]).is_ok());
}

#[test]
fn the_public_url_must_be_https_or_loopback_without_a_path() {
    let url = |url: &str| with(&format!("[server]\npublic_url = '{url}'"), &[], &[]);
    for good in [
        "https://sg.example.com",
        "https://sg.example.com:8443",
        "http://127.0.0.1:8443",
        "http://[::1]:8443",
        "http://localhost",
    ] {
        assert_eq!(url(good).unwrap().server.public_url(), good);
    }
    for bad in [
        "",
        "sg.example.com",
        "ftp://sg.example.com",
        "https://",
        "https://ana@sg.example.com",
        "https://sg.example.com/",
        "https://sg.example.com/path",
        "https://sg.example.com?a=b",
        "http://sg.example.com",
        "http://localhost.example.com",
        "http://10.0.0.1",
    ] {
        assert!(url(bad).is_err(), "{bad}");
    }
}

#[test]
fn client_identities_require_a_ca_numeric_ids_and_must_be_unique() {
    let found = faults(
        "[[server.tls.client_identities]]\nissuer = 'CN=a'\nsan = 'DNS:x'\nprincipal = 'user:3'\n\
         [[server.tls.client_identities]]\nissuer = 'CN=a'\nsan = 'DNS:x'\nprincipal = 'ana'\n\
         [[server.tls.client_identities]]\nissuer = 'CN=a'\nsan = 'DNS:y'\nprincipal = 'service_principal:ci'\n\
         [[server.tls.client_identities]]\nissuer = 'CN=a'\nsan = 'DNS:z'\nprincipal = 'service_principal:7'",
    );
    assert_eq!(
        found,
        [
            "`server.tls.client_identities` needs `client_ca_path`",
            "`server.tls.client_identities[1].principal` must be `user:<id>` or `service_principal:<id>` \
             with the numeric id, not a name; GetUser and GetServicePrincipal show it as `id`",
            "`server.tls.client_identities[1]` repeats the issuer and san of an earlier one",
            "`server.tls.client_identities[2].principal` must be `user:<id>` or `service_principal:<id>` \
             with the numeric id, not a name; GetUser and GetServicePrincipal show it as `id`",
        ]
    );
}

#[test]
fn secrets_are_redacted_in_shown_configuration_and_debug_output() {
    let text = format!(
        "[database]\nurl = 'postgres://sg:hunter2@db:5432/sg?password=hunter3'\n\
         [keys]\nmaster_key = '{HEX_KEY}'\nolder_master_keys = ['{HEX_KEY}']"
    );
    let config = Config::from_toml(&text).unwrap();
    let (shown, debug) = (config.redacted(), format!("{config:?}"));
    for secret in ["hunter2", "hunter3", HEX_KEY] {
        assert!(!shown.contains(secret) && !debug.contains(secret), "{shown}\n{debug}");
    }
    assert!(shown.contains("url = \"postgres://sg:***@db:5432/sg?***\""), "{shown}");
    assert!(shown.contains("master_key = \"***\""), "{shown}");
}

#[test]
fn a_password_is_redacted_at_any_position_in_the_database_url() {
    for (url, shown) in [
        ("postgres://h/d", "postgres://h/d"),
        ("postgres://sg@h/d", "postgres://sg@h/d"),
        ("postgresql://sg:hunter2@h:1/d", "postgresql://sg:***@h:1/d"),
        ("postgres://sg:hunt@er2@h/d", "postgres://sg:***@h/d"),
        ("postgres://sg:hunter2/@h/d", "postgres://***"),
        ("postgres://h/d?password=hunt@er2", "postgres://***"),
        ("postgres://h/d?password=hunter2", "postgres://h/d?***"),
    ] {
        let url = DatabaseUrl::Postgres(crate::secret::Secret::new(url.to_owned()));
        assert_eq!(format!("{url:?}"), shown);
    }
}

#[test]
fn a_configuration_error_never_quotes_a_secret() {
    for text in [
        "[keys]\nmaster_key = 'hunter2'",
        "[keys]\nmaster_key = 'hunter2",
        "[keys]\nolder_master_keys = ['hunter2']",
        "[keys]\nmaster_key = ['hunter2']",
        "[database]\nurl = 'mysql://hunter2'",
    ] {
        let found = faults(text);
        assert!(!found.is_empty());
        assert!(!found.iter().any(|fault| fault.contains("hunter2")), "{found:?}");
    }
}

#[test]
fn a_secret_cannot_be_set_by_a_flag() {
    let refused = with("", &[], &[("keys.master_key", HEX_KEY)]).unwrap_err().to_string();
    assert!(refused.contains("`SHOREGUARD_KEYS_MASTER_KEY`"), "{refused}");
    assert!(!refused.contains(HEX_KEY));
}

#[test]
fn the_redacted_configuration_can_be_parsed_again() {
    let shown = Config::from_toml("").unwrap().redacted();
    assert_eq!(Config::from_toml(&shown).unwrap().redacted(), shown);
}

#[test]
fn a_master_key_can_be_read_from_a_private_file() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
    let path = file.path().display();
    let in_file = Config::from_toml(&format!("[keys]\nmaster_key_path = '{path}'")).unwrap();
    let written = Config::from_toml(&format!("[keys]\nmaster_key = '{HEX_KEY}'")).unwrap();
    let id = |config: &Config| config.keys.load().unwrap().unwrap().current_id().to_owned();
    assert_eq!(id(&in_file), id(&written));

    std::fs::set_permissions(file.path(), Permissions::from_mode(0o644)).unwrap();
    let found = faults(&format!("[keys]\nmaster_key_path = '{path}'\nmaster_key = 'x'"));
    assert_eq!(
        found,
        [
            "`keys.master_key_path` must not be set beside `keys.master_key`",
            "`keys.master_key` must be 32 bytes in hexadecimal or base64",
            "`keys.master_key_path` cannot be read: other users have access: chmod 640",
        ]
    );
}

#[test]
fn a_database_is_a_file_or_a_postgres_url() {
    let url = |url: &str| Config::from_toml(&format!("[database]\nurl = '{url}'"));
    assert_eq!(url("sqlite:/a/b.db").unwrap().database.url, DatabaseUrl::Sqlite("/a/b.db".into()));
    assert_eq!(url("").unwrap().database.url, DatabaseUrl::DataDir);
    assert!(url("sqlite::memory:").is_err());
    assert!(url("/a/b.db").is_err());
}

#[test]
fn a_missing_configuration_file_is_reported_with_its_path() {
    let missing = Sources { file: Some(Path::new("/nowhere.toml")), flags: &[] };
    let refused = Config::load(&missing).unwrap_err().to_string();
    assert!(refused.starts_with("`/nowhere.toml` cannot be read"), "{refused}");
}
