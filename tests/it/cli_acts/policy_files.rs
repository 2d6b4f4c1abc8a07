//! `policy export`, `diff` and `apply`: exit codes and effects.

use std::path::PathBuf;

use shoreguard::pb::v1 as pb;
use shoreguard_simulator::{Hold, Script, Simulator, Times};

use crate::policies::{GATEWAYS, get_version, seeded};
use crate::policy_writes::{addition, merge};
use crate::proposals::{Staff, govern};
use crate::support::eventually;
use crate::support::server::TestServer;

use super::{Ended, command, run_to_end, start};

sqlite_tests! {
    a_change_under_a_workflow_is_a_vote,
    a_replacement_of_a_policy_that_has_changed_fails,
    an_addition_to_a_policy_that_has_changed_is_waited_for,
    errors_of_policy_commands_exit_with_2,
}

sqlite_tests! {
    tuned |config| config.policies.load_timeout_seconds = 1;
    a_wait_for_a_stopped_sandbox_ends_when_the_policy_is_not_loaded_in_time,
}

/// Writes a document.
fn write(folder: &tempfile::TempDir, text: &str) -> PathBuf {
    let file = folder.path().join("policy.yaml");
    std::fs::write(&file, text).unwrap();
    file
}

/// Returns the newest version of the policy of `coder`.
async fn newest(sg: &TestServer, gateway: &str) -> u32 {
    let policy = get_version(&sg.admin(), gateway, 0).await.unwrap();
    policy.revision.unwrap().version
}

/// Runs `policy VERB` as the admin.
async fn policy(sg: &TestServer, arguments: &[&str]) -> Ended {
    run_to_end(sg, &sg.admin_key, &[&["policy"][..], arguments].concat()).await
}

each_generation! { sqlite_tests, GATEWAYS; a_policy_is_exported_changed_and_applied }

async fn a_policy_is_exported_changed_and_applied(
    sg: TestServer,
    (name, generation): (&'static str, shoreguard_simulator::Generation),
) {
    let folder = tempfile::tempdir().unwrap();
    let simulator = seeded(&sg, name, generation).await;
    let place = format!("{name}/coder");
    let exported = policy(&sg, &["export", &place]).await;
    assert_eq!(exported.code, Some(0), "{exported:?}");
    let file = write(&folder, &exported.stdout);
    let file = file.to_str().unwrap();

    let named = policy(&sg, &["diff", &place, "-f", file, "-o", "name"]).await;
    assert_eq!(named.stdout, format!("{name}/default/coder\n"), "{named:?}");

    // The document names its sandbox.
    for same in [&["diff", "-f", file][..], &["diff", &place, "-f", file]] {
        let same = policy(&sg, same).await;
        assert_eq!(same.code, Some(0), "{same:?}");
    }
    let same = policy(&sg, &["apply", "-f", file, "--wait"]).await;
    assert_eq!(same.code, Some(0), "{same:?}");
    assert_eq!(newest(&sg, name).await, 2);

    let changed = exported.stdout.replace("host: api.github.com", "host: other.example");
    assert_ne!(changed, exported.stdout);
    write(&folder, &changed);
    let drift = policy(&sg, &["diff", "-f", file]).await;
    assert_eq!(drift.code, Some(1), "{drift:?}");
    assert!(drift.stdout.contains("other.example"), "{drift:?}");
    assert!(!drift.stdout.contains('\u{1b}'), "no color without a terminal");
    let dry = policy(&sg, &["apply", "-f", file, "--dry-run"]).await;
    assert_eq!(dry.code, Some(1), "{dry:?}");
    assert!(dry.stdout.ends_with("would be written\n"), "{dry:?}");
    assert_eq!(newest(&sg, name).await, 2);

    let dry = policy(&sg, &["apply", "-f", file, "--dry-run", "-o", "name"]).await;
    assert_eq!(dry.stdout, format!("{name}/default/coder\n"), "{dry:?}");

    let from_input = start(command(&sg, &sg.admin_key, &["policy", "apply", "-f", "-", "--wait"]));
    let applied = from_input.finish(changed.as_bytes()).await;
    assert_eq!(applied.code, Some(0), "{applied:?}");
    let newest = get_version(&sg.admin(), name, 0).await.unwrap();
    assert_eq!(newest.active_version, 3, "it is in force");
    assert!(newest.yaml.contains("other.example"));
    let same = policy(&sg, &["diff", "-f", file]).await;
    assert_eq!(same.code, Some(0), "{same:?}");
    let old = policy(&sg, &["export", &place, "--revision", "2", "-o", "json"]).await;
    let old: serde_json::Value = serde_json::from_str(&old.stdout).unwrap();
    assert_eq!(old["version"], 2, "{old}");
    simulator.stop().await;
    sg.finish().await;
}

async fn a_change_under_a_workflow_is_a_vote(sg: TestServer) {
    let (name, generation) = GATEWAYS[1];
    let simulator = seeded(&sg, name, generation).await;
    let Staff { dora, .. } = govern(&sg, name, 1).await;
    let dora = dora.bearer.0.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let rule = "network_policies: {one: {endpoints: [{host: one.example, port: 443}], binaries: [{path: /usr/bin/git}]}}";
    let file = write(&folder, rule);
    let apply = ["policy", "apply", "new/coder", "--merge", "-f", file.to_str().unwrap()];
    let dry = run_to_end(&sg, &dora, &[&apply[..], &["--dry-run"]].concat()).await;
    assert!(dry.code == Some(1) && dry.stdout.contains("would be reviewed"), "{dry:?}");
    let proposed = run_to_end(&sg, &dora, &[&apply[..], &["--wait"]].concat()).await;
    assert_eq!(proposed.code, Some(1), "{proposed:?}");
    let (_, id) = proposed.stdout.trim_end().split_once("under review as approval ").unwrap();
    assert_eq!(newest(&sg, name).await, 2);
    let drift = policy(&sg, &["diff", "new/coder", "--approval", id]).await;
    assert!(drift.code == Some(1) && drift.stdout.contains("one.example"), "{drift:?}");
    simulator.stop().await;
    sg.finish().await;
}

async fn a_wait_for_a_stopped_sandbox_ends_when_the_policy_is_not_loaded_in_time(sg: TestServer) {
    let (name, generation) = GATEWAYS[1];
    let simulator = seeded(&sg, name, generation).await;
    let stop = pb::StopSandboxRequest {
        gateway: name.to_owned(),
        sandbox: "coder".to_owned(),
        ..Default::default()
    };
    sg.admin().sandboxes().stop_sandbox(stop).await.unwrap();
    let apply = ["policy", "apply", "new/coder", "--merge", "--wait", "-f", "-"];
    let waiting = start(command(&sg, &sg.admin_key, &apply));
    let ended = waiting.finish(addition("one.example").as_bytes()).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("new/coder: version 3 is written"), "{ended:?}");
    assert!(ended.stderr.contains("timeout: written as revision 3, not loaded yet"), "{ended:?}");
    let policy = get_version(&sg.admin(), name, 0).await.unwrap();
    assert_eq!((policy.revision.unwrap().version, policy.active_version), (3, 2));
    simulator.stop().await;
    sg.finish().await;
}

/// Applies a document and waits, while another change of the sandbox is being written.
async fn apply_meanwhile(sg: &TestServer, simulator: &Simulator, arguments: &[&str]) -> Ended {
    let ben = sg.create_user("ben@example.com", pb::Role::Operator).await;
    let hold = Hold::default();
    simulator.script("UpdateConfig", Script::HoldBefore(hold.clone()), Times::Next(1));
    merge(&sg.admin(), GATEWAYS[1].0, "one.example").await.unwrap();
    hold.wait_reached(1).await;
    let arguments = [&["policy", "apply", "--wait"][..], arguments].concat();
    let running = start(command(sg, &ben, &arguments));
    // Counts the rows without changing them.
    let count = || sg.sql("UPDATE approval_rounds SET attempts = attempts");
    eventually("the change has its approval", || async { count().await == 2 }).await;
    hold.release();
    running.finish(b"").await
}

async fn a_replacement_of_a_policy_that_has_changed_fails(sg: TestServer) {
    let (name, generation) = GATEWAYS[1];
    let simulator = seeded(&sg, name, generation).await;
    let exported = policy(&sg, &["export", "new/coder"]).await.stdout;
    let folder = tempfile::tempdir().unwrap();
    let file = write(&folder, &exported.replace("api.github.com", "two.example"));
    let ended = apply_meanwhile(&sg, &simulator, &["-f", file.to_str().unwrap()]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("has changed since it was reviewed"), "{ended:?}");
    assert!(ended.stderr.contains("export the policy again"), "{ended:?}");
    let newest = get_version(&sg.admin(), name, 0).await.unwrap().yaml;
    assert!(newest.contains("one.example") && !newest.contains("two.example"), "{newest}");
    simulator.stop().await;
    sg.finish().await;
}

async fn an_addition_to_a_policy_that_has_changed_is_waited_for(sg: TestServer) {
    let (name, generation) = GATEWAYS[1];
    let simulator = seeded(&sg, name, generation).await;
    let folder = tempfile::tempdir().unwrap();
    let file = write(&folder, &addition("two.example"));
    let add = ["new/coder", "--merge", "-f", file.to_str().unwrap()];
    let ended = apply_meanwhile(&sg, &simulator, &add).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("is in force"), "{ended:?}");
    let newest = get_version(&sg.admin(), name, 0).await.unwrap().yaml;
    assert!(newest.contains("one.example") && newest.contains("two.example"), "{newest}");
    simulator.stop().await;
    sg.finish().await;
}

async fn errors_of_policy_commands_exit_with_2(sg: TestServer) {
    let (name, generation) = GATEWAYS[1];
    let _simulator = seeded(&sg, name, generation).await;
    let folder = tempfile::tempdir().unwrap();
    let exported = policy(&sg, &["export", "new/coder"]).await.stdout;
    let file = write(&folder, &exported);
    let file = file.to_str().unwrap();
    for (wrong, said) in [
        (&["diff", "new/other", "-f", file][..], "the document is of the sandbox `coder`"),
        (&["apply", "new/other", "-f", file][..], "the document is of the sandbox `coder`"),
        (&["export", "new/nothing"][..], "NOT_FOUND"),
        (&["diff", "new/coder", "-f", "/nonexistent"][..], "cannot be read"),
        (&["apply", "new/coder", "-f", file, "--etag", "stale"][..], "CONCURRENT_CHANGE"),
        (&["diff", "-f"][..], "--file"),
        (&["diff", "new/coder"][..], "--file"),
        (&["diff", "new/coder", "-f", file, "--approval", "1"][..], "cannot be used with"),
        (&["diff", "new/coder", "--approval", "0"][..], "--approval"),
        (&["diff", "new/coder", "--approval", "99"][..], "NOT_FOUND"),
        (&["diff", "--approval", "99"][..], "name the sandbox"),
    ] {
        let ended = policy(&sg, wrong).await;
        assert_eq!(ended.code, Some(2), "{wrong:?} {ended:?}");
        assert!(ended.stderr.contains(said), "{wrong:?} {ended:?}");
    }
    let broken = write(&folder, "network_policies: [");
    let broken = broken.to_str().unwrap();
    for verb in ["diff", "apply"] {
        let ended = policy(&sg, &[verb, "new/coder", "-f", broken]).await;
        assert!(ended.code == Some(2) && ended.stderr.contains("is not valid"), "{ended:?}");
    }
    let ended = run_to_end(&sg, "sg_unknown", &["policy", "export", "new/coder"]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    sg.finish().await;
}
