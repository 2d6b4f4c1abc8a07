//! The binary on the command line.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::limit::start_time_limit;

/// Time for a process to end, even if it first starts or drains on a busy machine.
const EXIT_TIME_MAX: Duration = Duration::from_mins(2);
const BINARY: &str = env!("CARGO_BIN_EXE_shoreguard");

pub(crate) fn shoreguard_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments).env_remove("SHOREGUARD_KEY").env_remove("SHOREGUARD_ENDPOINT");
    // The contexts of the person who runs the tests are not used.
    command.env("XDG_CONFIG_HOME", "/nonexistent");
    command
}

fn run(arguments: &[&str]) -> Output {
    shoreguard_command(arguments).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A process that is killed at the end of the test.
pub(crate) struct ChildProcess(pub(crate) Child);

impl Drop for ChildProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl ChildProcess {
    pub(crate) fn signal(&self, name: &str) {
        let done =
            Command::new("kill").args([format!("-{name}"), self.0.id().to_string()]).status();
        assert!(done.unwrap().success());
    }

    pub(crate) fn wait_exit(&mut self) -> std::process::ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < EXIT_TIME_MAX, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

pub(crate) struct DevServer {
    pub(crate) process: ChildProcess,
    pub(crate) about: serde_json::Value,
}

pub(crate) fn start_dev(data: &Path) -> DevServer {
    let mut child = shoreguard_command(&["dev", "--json", "--listen", "127.0.0.1:0", "--data"])
        .arg(data)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut line, output) = (String::new(), child.stdout.take().unwrap());
    let process = ChildProcess(child);
    BufReader::new(output).read_line(&mut line).unwrap();
    DevServer { process, about: serde_json::from_str(&line).unwrap() }
}

impl DevServer {
    fn call(&self, key: &str, arguments: &[&str]) -> Output {
        let endpoint = format!("http://{}", self.about["listen"].as_str().unwrap());
        shoreguard_command(&["call", "--endpoint", &endpoint])
            .args(arguments)
            .env("SHOREGUARD_KEY", key)
            .output()
            .unwrap()
    }

    pub(crate) fn admin(&self, arguments: &[&str]) -> serde_json::Value {
        let done = self.call(self.about["admin_key"].as_str().unwrap(), arguments);
        assert!(done.status.success(), "{}", text(&done.stderr));
        serde_json::from_slice(&done.stdout).unwrap()
    }
}

#[test]
fn dev_serves_both_generations_and_a_gateway_key_selects_its_gateway() {
    let _limit = start_time_limit();
    let data = tempfile::tempdir().unwrap();
    let mut dev = start_dev(data.path());
    let gateways = dev.about["gateways"].as_array().unwrap().clone();
    assert_eq!(gateways.len(), 2);
    for gateway in &gateways {
        let key = gateway["key"].as_str().unwrap();
        let generation = gateway["generation"].as_str().unwrap();
        let done = dev.call(key, &["--generation", generation, "OpenShell/ListSandboxes"]);
        assert!(done.status.success(), "{}", text(&done.stderr));
        assert!(text(&done.stdout).contains("coder"));
    }
    let listed = dev.admin(&["ListGateways"]);
    assert_eq!(listed["gateways"].as_array().unwrap().len(), 2);
    let draft =
        dev.admin(&["--gateway", "dev-0-1", "OpenShell/GetDraftPolicy", r#"{"sandbox":"coder"}"#]);
    assert_eq!(draft["chunks"][0]["status"], "pending");
    dev.admin(&["--gateway", "dev-0-1", "OpenShell/StopSandbox", r#"{"name":"coder"}"#]);
    // An outcome is recorded after its response was sent.
    let ended = r#"{"action":"sandbox.stop","outcome":"AUDIT_OUTCOME_OK"}"#;
    let entry = loop {
        let audit = dev.admin(&["ListAuditEntries", ended]);
        if let Some(entry) = audit["audit_entries"].get(0) {
            break entry.clone();
        }
    };
    assert_eq!(entry["resource_id"], "coder");

    let refused = dev.call("sg_nobody", &["ListGateways"]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("CREDENTIAL_INVALID"));
    let wrong = dev.call("", &["ListGateways", r#"{"page_sizes":1}"#]);
    assert!(!wrong.status.success() && text(&wrong.stderr).contains("page_sizes"));

    dev.process.signal("TERM");
    assert!(dev.process.wait_exit().success());
}

#[test]
fn dev_restarts_on_the_same_folder_and_an_open_audit_entry_survives_kill_9() {
    let _limit = start_time_limit();
    let data = tempfile::tempdir().unwrap();
    let mut first = start_dev(data.path());
    let key = first.about["gateways"][1]["key"].as_str().unwrap().to_owned();
    let endpoint = format!("http://{}", first.about["listen"].as_str().unwrap());
    let mut exec = ChildProcess(
        shoreguard_command(&[
            "call",
            "--endpoint",
            &endpoint,
            "--generation",
            "0.1",
            "OpenShell/ExecSandbox",
        ])
        .arg(r#"{"sandbox":"coder","command":["sleep","30"]}"#)
        .env("SHOREGUARD_KEY", &key)
        .stdout(Stdio::null())
        .spawn()
        .unwrap(),
    );
    let begun = Instant::now();
    loop {
        let open = first.admin(&[
            "ListAuditEntries",
            r#"{"action":"sandbox.exec","outcome":"AUDIT_OUTCOME_OPEN"}"#,
        ]);
        if open["audit_entries"].as_array().is_some_and(|entries| entries.len() == 1) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_mins(1), "no open intent");
    }
    first.process.signal("KILL");
    first.process.wait_exit();
    exec.wait_exit();

    let second = start_dev(data.path());
    let kept = second.admin(&["ListAuditEntries", r#"{"action":"sandbox.exec"}"#]);
    assert_eq!(kept["audit_entries"].as_array().unwrap().len(), 1, "{kept}");
    assert_ne!(second.about["gateways"][1]["key"].as_str().unwrap(), key);
    for kept in ["admin_key", "approver_key"] {
        assert_eq!(second.about[kept], first.about[kept]);
    }
    let locked =
        run(&["dev", "--json", "--listen", "127.0.0.1:0", "--data", data.path().to_str().unwrap()]);
    assert!(!locked.status.success(), "a second process on the same file");
}

/// Stops a server. Returns the key of its admin.
fn stop_dev(mut dev: DevServer) -> String {
    dev.process.signal("TERM");
    assert!(dev.process.wait_exit().success());
    dev.about["admin_key"].as_str().unwrap().to_owned()
}

#[test]
fn dev_keeps_its_admin_key_in_a_private_file_until_it_is_replaced() {
    let _limit = start_time_limit();
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("admin-key");
    let first = start_dev(data.path());
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    first.admin(&["RotateServicePrincipal", r#"{"service_principal":"dev-admin"}"#]);
    let first = stop_dev(first);
    // The kept key is not valid any more, so it is replaced.
    let second = start_dev(data.path());
    second.admin(&["ListGateways"]);
    let second = stop_dev(second);
    assert_ne!(first, second);
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), second);
}

#[test]
fn dev_keeps_the_role_of_its_admin_and_refuses_a_key_that_others_can_read() {
    let _limit = start_time_limit();
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("admin-key");
    // The key is that of an admin, even if its role was lowered.
    let first = start_dev(data.path());
    let lowered = r#"{"service_principal":"dev-admin","role":"ROLE_VIEWER","update_mask":"role"}"#;
    first.admin(&["UpdateServicePrincipal", lowered]);
    stop_dev(first);
    let second = start_dev(data.path());
    second.admin(&["ListUsers"]);
    let second = stop_dev(second);

    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused =
        run(&["dev", "--json", "--listen", "127.0.0.1:0", "--data", data.path().to_str().unwrap()]);
    let said = text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("other users have access"), "{said}");
    assert!(!said.contains(&second), "{said}");
}

#[test]
fn t12_dev_adds_no_keys_to_the_folder_of_a_server() {
    let _limit = start_time_limit();
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("shoreguard.db"), "").unwrap();
    let refused =
        run(&["dev", "--json", "--listen", "127.0.0.1:0", "--data", data.path().to_str().unwrap()]);
    let said = text(&refused.stderr);
    assert!(refused.status.code() == Some(2) && said.contains("use another folder"), "{said}");
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 1, "nothing is created");
}

#[test]
fn dev_has_a_second_person_who_approves_what_its_admin_proposes() {
    let _limit = start_time_limit();
    let data = tempfile::tempdir().unwrap();
    let dev = start_dev(data.path());
    let file = data.path().join("approver-key");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let approver = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    assert_eq!(dev.about["approver_key"], approver.as_str());
    let admin = dev.about["admin_key"].as_str().unwrap();
    // The people behind both keys count in reviews from now on.
    let updated = dev.admin(&["ListEvents", r#"{"names":["service_principal.updated"]}"#]);
    assert_eq!(updated["events"].as_array().unwrap().len(), 2, "{updated}");

    let rule = r#"{"gateway":"dev-0-1","sandbox":"coder","rule":{"groups":[{"name":"second","required":1,
        "voters":{"service_principals":["dev-approver"]}}]}}"#;
    dev.admin(&["SetWorkflow", rule]);
    let preset = r#"{"gateway":"dev-0-1","sandbox":"coder","policy_preset":"pypi"}"#;
    let change = dev.admin(&["ApplyPolicyPreset", preset])["policy_change"].clone();
    assert_eq!(change["outcome"], "POLICY_CHANGE_OUTCOME_PROPOSED", "{change}");
    let id = &change["approval_id"];
    let vote = serde_json::json!({
        "approval_id": id,
        "digest": change["approval_digest"],
        "decision": "VOTE_DECISION_APPROVE",
    });
    let vote = vote.to_string();
    let own = dev.call(admin, &["Vote", &vote]);
    assert!(!own.status.success() && text(&own.stderr).contains("OWN_CHANGE"));
    let voted = dev.call(&approver, &["Vote", &vote]);
    assert!(voted.status.success(), "{}", text(&voted.stderr));
    let (get, begun) = (serde_json::json!({ "approval_id": id }).to_string(), Instant::now());
    loop {
        let shown = dev.admin(&["GetApproval", &get]);
        if shown["approval_detail"]["approval"]["state"] == "APPROVAL_STATE_APPLIED" {
            break;
        }
        assert!(begun.elapsed() < EXIT_TIME_MAX, "it is not applied: {shown}");
    }
    // A weaker rule is reviewed, too.
    let deleted =
        dev.call(admin, &["DeleteWorkflow", r#"{"gateway":"dev-0-1","sandbox":"coder"}"#]);
    let said = text(&deleted.stderr);
    assert!(!deleted.status.success() && said.contains("APPROVAL_REQUIRED"), "{said}");
}

/// Writes a configuration with its data in the folder `data` beside it.
pub(crate) fn serve(folder: &Path, more: &str) -> std::path::PathBuf {
    let file = folder.join("shoreguard.toml");
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\ndata_dir = \"{}\"\n[telemetry]\nlog_format = \"json\"\nlog_level = \"info\"\nmetrics_listen = \"127.0.0.1:0\"\n{more}",
        folder.join("data").display()
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// Reads the output of a child until a line contains `what`. Returns that line.
pub(crate) fn read_line_with(output: &mut impl BufRead, what: &str) -> String {
    let mut all = String::new();
    loop {
        let mut line = String::new();
        assert!(output.read_line(&mut line).unwrap() > 0, "no `{what}` in {all}");
        if line.contains(what) {
            return line;
        }
        all.push_str(&line);
    }
}

#[test]
fn serve_prints_a_setup_token_logs_json_without_secrets_and_drains() {
    let _limit = start_time_limit();
    let folder = tempfile::tempdir().unwrap();
    let file = serve(folder.path(), CHEAP_HASHES);
    let mut child = shoreguard_command(&["serve", "--config"])
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap());
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut process = ChildProcess(child);
    let printed = read_line_with(&mut answers, "this token");
    let token_file = folder.path().join("data/setup-token");
    let token = std::fs::read_to_string(&token_file).unwrap().trim().to_owned();
    assert!(printed.contains(&token));
    assert_eq!(token_file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let serving: serde_json::Value =
        serde_json::from_str(&read_line_with(&mut log, "\"serving\"")).unwrap();
    let address = format!("http://{}", find_string(&serving, "address").unwrap());

    let call = |arguments: &[&str], key: Option<&str>| {
        let mut command = shoreguard_command(&["call", "--endpoint", &address]);
        if let Some(key) = key {
            command.env("SHOREGUARD_KEY", key);
        }
        command.args(arguments).output().unwrap()
    };
    let password = "a password of the test";
    let setup =
        serde_json::json!({"setup_token": token, "email": "ana@example.com", "password": password})
            .to_string();
    assert!(call(&["Setup", &setup], None).status.success());
    let login = serde_json::json!({"email": "ana@example.com", "password": password}).to_string();
    let session: serde_json::Value =
        serde_json::from_slice(&call(&["Login", &login], None).stdout).unwrap();
    let session = session["session_token"].as_str().unwrap().to_owned();
    assert!(call(&["GetCurrentIdentity"], Some(&session)).status.success());
    assert!(
        !call(&["GetServicePrincipal", "{\"service_principal\":\"x\"}"], Some(&session))
            .status
            .success()
    );

    process.signal("TERM");
    assert!(process.wait_exit().success());
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut log, &mut rest).unwrap();
    for secret in [token.as_str(), password, session.as_str()] {
        assert!(!rest.contains(secret), "a secret in the log");
    }
    let refused = rest
        .lines()
        .find(|line| line.contains("GetServicePrincipal"))
        .expect("the refusal is logged");
    let refused: serde_json::Value = serde_json::from_str(refused).unwrap();
    assert!(find_string(&refused, "request_id").is_some(), "{refused}");
}

pub(crate) fn find_string<'a>(value: &'a serde_json::Value, key: &str) -> Option<&'a str> {
    let map = value.as_object()?;
    map.get(key).and_then(|v| v.as_str()).or_else(|| map.values().find_map(|v| find_string(v, key)))
}

/// Section of a configuration with cheap password hashes.
pub(crate) const CHEAP_HASHES: &str = "[limits]\nbcrypt_cost = 10\n";

#[test]
fn admin_commands_work_offline_and_leave_an_audit_entry() {
    let _limit = start_time_limit();
    let folder = tempfile::tempdir().unwrap();
    let file = serve(folder.path(), CHEAP_HASHES);
    let config = file.to_str().unwrap();
    let made = run(&["admin", "--config", config, "create-user", "Ana@example.com"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert!(
        text(&made.stdout).contains("ana@example.com") && text(&made.stdout).contains("password: ")
    );
    let again = run(&["admin", "--config", config, "create-user", "ana@example.com"]);
    assert!(!again.status.success() && text(&again.stderr).contains("exists already"));
    let key =
        run(&["admin", "--config", config, "create-service-principal", "ci", "--role", "admin"]);
    assert!(text(&key.stdout).starts_with("sg_"));
    let given = with_password(config, "reset-password", "ana@example.com", "another good password");
    assert!(given.status.success());
    assert!(run(&["migrate", "--config", config]).status.success());
}

/// Runs an admin command that reads a password from its input.
fn with_password(config: &str, command: &str, email: &str, password: &str) -> Output {
    let mut child = shoreguard_command(&["admin", "--config", config, command, email])
        .arg("--password-stdin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn admin_commands_follow_the_servers_rules_for_passwords_and_addresses() {
    let _limit = start_time_limit();
    let folder = tempfile::tempdir().unwrap();
    let file = serve(folder.path(), CHEAP_HASHES);
    let config = file.to_str().unwrap();
    let made = with_password(config, "create-user", "ana@example.com", &"b".repeat(72));
    assert!(made.status.success(), "{made:?}");
    let long = format!("{}@example.com", "a".repeat(250));
    for (command, email, password, why) in [
        ("create-user", "eve@example.com", "short", "at least 12 characters"),
        ("create-user", "eve@example.com", &*"b".repeat(73), "at most 72 bytes"),
        ("reset-password", "ana@example.com", &*"b".repeat(73), "at most 72 bytes"),
        ("reset-password", "eve@example.com", "another good password", "does not exist"),
        ("create-user", &*long, "another good password", "must have 3 to 254 characters"),
    ] {
        let refused = with_password(config, command, email, password);
        assert!(!refused.status.success() && text(&refused.stderr).contains(why), "{refused:?}");
    }
}

#[test]
fn check_config_lists_every_error_and_hides_secrets() {
    let _limit = start_time_limit();
    let folder = tempfile::tempdir().unwrap();
    let key = "ab".repeat(32);
    let good = serve(folder.path(), &format!("[keys]\nmaster_key = \"{key}\"\n"));
    let shown = run(&["check-config", "--config", good.to_str().unwrap()]);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    assert!(text(&shown.stdout).contains("***") && !text(&shown.stdout).contains(&key));
    let bad = serve(
        folder.path(),
        "[limits]\nbcrypt_cost = 99\n[auth]\nnonsense = 1\n[nothing]\na = 1\n",
    );
    let refused = run(&["check-config", "--config", bad.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2));
    for fault in ["limits.bcrypt_cost", "nonsense", "nothing"] {
        assert!(text(&refused.stderr).contains(fault), "{fault}: {}", text(&refused.stderr));
    }
}

#[test]
fn check_config_reports_invalid_templates_presets_and_unsafe_hook_folders() {
    let _limit = start_time_limit();
    let folder = tempfile::tempdir().unwrap();
    let templates = folder.path().join("templates");
    let presets = folder.path().join("presets");
    let hooks = folder.path().join("hooks");
    for made in [&templates, &presets, &hooks] {
        std::fs::create_dir(made).unwrap();
    }
    std::fs::set_permissions(&hooks, std::fs::Permissions::from_mode(0o755)).unwrap();
    let file = templates.join("mine.yaml");
    std::fs::write(&file, "template: {name: mine}\nsandbox: {gpu: true}\n").unwrap();
    let said = format!(
        "[sandboxes]\ntemplates_folder = \"{}\"\n[policies]\npresets_dir = \"{}\"\n\
         [boot_hooks]\npre_create_folder = \"{}\"\n",
        templates.display(),
        presets.display(),
        hooks.display()
    );
    let config = serve(folder.path(), &said);
    let check = || run(&["check-config", "--config", config.to_str().unwrap()]);
    assert!(check().status.success(), "{}", text(&check().stderr));

    std::fs::write(&file, "template: {name: mine}\nsandbox: {gpus: true}\n").unwrap();
    std::fs::write(presets.join("own.yaml"), "preset: {name: own}\npolicy: {}\n").unwrap();
    let refused = check();
    assert_eq!(refused.status.code(), Some(2));
    let said = text(&refused.stderr);
    assert!(said.contains("`mine.yaml`") && said.contains("gpus"), "{said}");
    assert!(said.contains("`policies.presets_dir` cannot be used: `own.yaml`"), "{said}");

    std::fs::set_permissions(&hooks, std::fs::Permissions::from_mode(0o777)).unwrap();
    let refused = check();
    assert_eq!(refused.status.code(), Some(2));
    let said = text(&refused.stderr);
    assert!(said.contains("`boot_hooks.pre_create_folder` can be written by others"), "{said}");
}
