//! `check-config` finds what `serve` would refuse, and `serve` refuses it before it changes anything.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use rcgen::generate_simple_self_signed;

use crate::commands::{shoreguard_command, text};
use crate::support::limit::start_time_limit;

/// An encrypted key as `openssl pkcs8 -topk8` writes it; its content does not matter.
const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3\n-----END ENCRYPTED PRIVATE KEY-----\n";

/// A folder for a configuration and its files.
struct Setup(tempfile::TempDir);

impl Setup {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// Runs a command with a configuration whose data folder does not exist yet.
    fn run(&self, command: &str, more: &str) -> Output {
        let data = self.path("data");
        let text = format!(
            "server.listen = \"127.0.0.1:0\"\nserver.data_dir = \"{}\"\n\
             telemetry.metrics_listen = \"\"\n{more}",
            data.display()
        );
        let file = self.put("shoreguard.toml", text);
        shoreguard_command(&[command, "--config", file.to_str().unwrap()]).output().unwrap()
    }

    /// Asserts that both commands refuse a configuration with the same text, and that `serve` has created nothing.
    #[track_caller]
    fn assert_refused(&self, more: &str, expected: &str) {
        let [checked, served] = ["check-config", "serve"].map(|command| self.run(command, more));
        let why = text(&checked.stderr);
        assert_eq!(checked.status.code(), Some(2), "{more}: {why}");
        assert!(why.contains(expected), "{more}: {why}");
        assert_eq!(served.status.code(), Some(2), "{more}: {}", text(&served.stderr));
        assert!(text(&served.stderr).contains(expected), "{more}: {}", text(&served.stderr));
        assert!(served.stdout.is_empty() && !self.path("data").exists(), "{more}");
    }
}

fn tls(cert: &Path, key: &Path, client_ca: Option<&Path>) -> String {
    let client_ca = client_ca
        .map(|path| format!("server.tls.client_ca_path = \"{}\"\n", path.display()))
        .unwrap_or_default();
    format!(
        "server.tls.cert_path = \"{}\"\nserver.tls.key_path = \"{}\"\n{client_ca}",
        cert.display(),
        key.display()
    )
}

#[test]
fn every_tls_file_that_the_listener_would_refuse_is_named() {
    let _limit = start_time_limit();
    let setup = Setup::new();
    let [made, other] =
        [(); 2].map(|()| generate_simple_self_signed(["localhost".to_owned()]).unwrap());
    let cert = setup.put("cert.pem", made.cert.pem());
    let key = setup.put("key.pem", made.signing_key.serialize_pem());
    let other_key = setup.put("other.pem", other.signing_key.serialize_pem());
    let encrypted = setup.put("encrypted.pem", ENCRYPTED);
    let der = setup.put("cert.der", made.cert.der());
    let empty = setup.put("empty.pem", "");

    let checked = setup.run("check-config", &tls(&cert, &key, Some(&cert)));
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    for (section, expected) in [
        (tls(&cert, &encrypted, None), "`server.tls.key_path` is encrypted"),
        (tls(&cert, &other_key, None), "`server.tls.key_path` is the key of another certificate"),
        (tls(&der, &key, None), "`server.tls.cert_path` is in DER, not in PEM"),
        (tls(&cert, &key, Some(&empty)), "`server.tls.client_ca_path` is empty"),
        (tls(&setup.path("none"), &key, None), "`server.tls.cert_path` cannot be read"),
    ] {
        setup.assert_refused(&section, expected);
    }
}

#[test]
fn a_database_or_data_folder_that_the_server_cannot_use_is_named() {
    let _limit = start_time_limit();
    let setup = Setup::new();
    let master = format!("keys.master_key = \"{}\"\n", "5a".repeat(32));
    let file = setup.put("file", "");
    let key = setup.put("sg.key", "not a key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    for (section, expected) in [
        (
            format!("{master}database.url = \"postgres://a:b@127.0.0.1/c?sslmode=verify-ca\"\n"),
            "`database.url` has `sslmode=verify-ca`",
        ),
        (
            format!("{master}database.url = \"postgres://a:b@127.0.0.1/c?pgbouncer=true\"\n"),
            "`database.url` has the option `pgbouncer`, which is not known",
        ),
        (
            format!("database.url = \"sqlite:{}\"\n", setup.path("none/sg.db").display()),
            "`database.url` cannot be used: the folder",
        ),
        (
            format!("database.url = \"sqlite:{}\"\n", setup.path("sg.db").display()),
            "must be keys of 32 bytes each",
        ),
        (
            "telemetry.otlp_endpoint = \"collector:4317\"\n".to_owned(),
            "`telemetry.otlp_endpoint` must be",
        ),
    ] {
        setup.assert_refused(&section, expected);
    }
    let more = format!("--set=server.data_dir={}", file.join("data").display());
    let checked = shoreguard_command(&["check-config", &more]).output().unwrap();
    assert_eq!(checked.status.code(), Some(2));
    let why = text(&checked.stderr);
    assert!(why.contains("`server.data_dir` cannot be used"), "{why}");
}

#[test]
fn t12_a_server_does_not_use_a_folder_of_dev() {
    let _limit = start_time_limit();
    let setup = Setup::new();
    let expected = "is a folder of `shoreguard dev`";
    let key = setup.put("approver-key", "");
    let beside = format!("database.url = \"sqlite:{}\"\n", setup.path("sg.db").display());
    setup.assert_refused(&beside, expected);
    fs::remove_file(key).unwrap();
    let data = setup.path("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("admin-key"), "").unwrap();
    for command in ["check-config", "serve"] {
        let refused = setup.run(command, "");
        let why = text(&refused.stderr);
        assert!(refused.status.code() == Some(2) && why.contains(expected), "{why}");
    }
    assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "nothing is created");
}

#[test]
fn two_listeners_on_one_address_are_refused() {
    let _limit = start_time_limit();
    let arguments = ["check-config", "--set=telemetry.metrics_listen=127.0.0.1:8443"];
    let checked = shoreguard_command(&arguments).output().unwrap();
    assert_eq!(checked.status.code(), Some(2));
    let why = text(&checked.stderr);
    assert!(why.contains("`telemetry.metrics_listen` must not be the address of"), "{why}");
}

#[test]
fn serve_changes_nothing_if_its_address_is_in_use() {
    let _limit = start_time_limit();
    let setup = Setup::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = setup.path("data");
    let served = shoreguard_command(&["serve", "--set=telemetry.metrics_listen="])
        .arg(format!("--set=server.listen={address}"))
        .arg(format!("--set=server.data_dir={}", data.display()))
        .output()
        .unwrap();
    assert_eq!(served.status.code(), Some(1));
    let why = text(&served.stderr);
    assert!(why.contains(&format!("`server.listen`: `{address}` cannot be listened on")), "{why}");
    assert!(served.stdout.is_empty() && !data.exists());
}
