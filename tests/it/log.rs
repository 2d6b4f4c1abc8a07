//! The log of a server process: at each level, in a full or closed pipe, and on a full disk.

use std::io::{Read as _, pipe};
use std::process::Stdio;

use shoreguard::pb::v1 as pb;
use tonic::Code;

use crate::support::child::{ChildServer, ChildSetup, full_disk, get};
use crate::support::{eventually, soon};

const DROPPED: &str = "shoreguard_log_lines_dropped_total";
/// Limits that the calls of public methods do not reach.
const NO_LIMITS: &str = "[limits]\naddress_requests_per_second = 1000000\naddress_burst = 1000000\n\
    anonymous_requests_per_minute = 1000000\nanonymous_burst = 1000000";

fn at_level(level: &str) -> String {
    format!("{NO_LIMITS}\n[telemetry]\nlog_level = \"{level}\"")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Makes calls that are refused. Each of them is logged.
async fn refused_calls(child: &ChildServer, count: usize) {
    let caller = child.caller(None);
    for n in 0..count {
        let mut auth = caller.auth();
        let refused = auth.get_current_identity(pb::GetCurrentIdentityRequest {});
        let refused = soon("the call is answered", refused).await;
        assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated, "call {n}");
    }
}

async fn good_call(child: &ChildServer) {
    let info = child.caller(None).auth().get_server_info(pb::GetServerInfoRequest {}).await;
    info.unwrap();
}

#[test]
fn the_server_works_and_stops_at_every_log_level() {
    runtime().block_on(async {
        let levels = ["off", "error", "warn", "info", "debug", "trace", "warn,shoreguard=off"];
        let servers = levels.map(|level| async move {
            let setup = ChildSetup::new(&at_level(level));
            let mut command = setup.command(&["serve"]);
            command.stdout(Stdio::null()).stderr(std::fs::File::create(setup.log_path()).unwrap());
            let mut child = setup.serve(command).await;
            good_call(&child).await;
            refused_calls(&child, 1).await;
            assert!(child.process.0.try_wait().unwrap().is_none(), "{level}: it ended by itself");
            assert_eq!(child.stop().await.code(), Some(0), "{level}");
        });
        futures_util::future::join_all(servers).await;
    });
}

#[test]
fn an_unread_log_pipe_blocks_neither_calls_nor_the_exit() {
    runtime().block_on(async {
        // At this level, the calls soon log more than the pipe holds.
        let setup = ChildSetup::new(&at_level("trace"));
        let (mut reading, writing) = pipe().unwrap();
        let mut command = setup.command(&["serve"]);
        command.stdout(Stdio::null()).stderr(writing);
        let child = setup.serve(command).await;
        let dropped = format!("{DROPPED}{{reason=\"queue_full\"}}");
        while child.metric(&dropped).await == 0 {
            futures_util::future::join_all((0..8).map(|_| refused_calls(&child, 20))).await;
        }
        good_call(&child).await;
        assert!(get(child.metrics, "/readyz").await.unwrap().starts_with("HTTP/1.1 200"));
        assert_eq!(child.stop().await.code(), Some(0));
        let mut log = Vec::new();
        reading.read_to_end(&mut log).unwrap();
        let log = String::from_utf8_lossy(&log);
        let whole = log.lines().rev().skip(1).collect::<Vec<_>>();
        assert!(whole.len() > 100 && whole.iter().all(|line| line.starts_with('{')), "{log}");
    });
}

#[test]
fn a_log_that_is_read_again_reports_the_number_of_dropped_lines() {
    runtime().block_on(async {
        let setup = ChildSetup::new(&at_level("trace"));
        let (reading, writing) = pipe().unwrap();
        let mut command = setup.command(&["serve"]);
        command.stdout(Stdio::null()).stderr(writing);
        let child = setup.serve(command).await;
        let dropped = format!("{DROPPED}{{reason=\"queue_full\"}}");
        while child.metric(&dropped).await == 0 {
            futures_util::future::join_all((0..8).map(|_| refused_calls(&child, 20))).await;
        }
        let reads = tokio::task::spawn_blocking(move || {
            let lines = std::io::BufRead::lines(std::io::BufReader::new(reading));
            lines.map_while(Result::ok).find(|line| line.contains("lines of the log were dropped"))
        });
        let told = soon("the log is read", reads).await.unwrap();
        let told: serde_json::Value =
            serde_json::from_str(&told.expect("the number of dropped lines is logged")).unwrap();
        assert!(told["dropped"].as_u64().unwrap() > 0, "{told}");
        // The reader of the pipe is closed by now.
        assert_eq!(child.stop().await.code(), Some(0));
    });
}

#[test]
fn a_closed_log_pipe_drops_lines_and_fails_no_call() {
    runtime().block_on(async {
        let setup = ChildSetup::new(NO_LIMITS);
        let (reading, writing) = pipe().unwrap();
        let mut command = setup.command(&["serve"]);
        command.stdout(Stdio::null()).stderr(writing);
        let child = setup.serve(command).await;
        drop(reading);
        refused_calls(&child, 20).await;
        good_call(&child).await;
        let dropped = format!("{DROPPED}{{reason=\"write_failed\"}}");
        eventually("lost lines are counted", || async { child.metric(&dropped).await >= 20 }).await;
        assert_eq!(child.stop().await.code(), Some(0));
    });
}

#[test]
fn a_full_disk_under_stdout_and_stderr_fails_neither_start_nor_calls() {
    runtime().block_on(async {
        let setup = ChildSetup::new(NO_LIMITS);
        let mut command = setup.command(&["serve"]);
        command.stdout(full_disk()).stderr(full_disk());
        let child = setup.serve(command).await;
        assert!(setup.data_dir().join("setup-token").exists(), "the token is in its file");
        refused_calls(&child, 20).await;
        let dropped = format!("{DROPPED}{{reason=\"write_failed\"}}");
        eventually("lost lines are counted", || async { child.metric(&dropped).await > 0 }).await;
        assert_eq!(child.stop().await.code(), Some(0));
    });
}

#[test]
fn a_failed_start_is_never_ready_and_logs_its_reason() {
    runtime().block_on(async {
        let setup = ChildSetup::new("[telemetry]\nlog_level = \"error\"");
        let mut command = setup.command(&["serve"]);
        let log = std::fs::File::create(setup.log_path()).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let taken = std::net::TcpListener::bind(setup.address()).unwrap();
        let mut process = crate::commands::ChildProcess(command.spawn().unwrap());
        let ended = loop {
            if let Ok(answer) = get(setup.metrics_address(), "/readyz").await {
                assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
            }
            if let Some(ended) = process.0.try_wait().unwrap() {
                break ended;
            }
        };
        assert_eq!(ended.code(), Some(1));
        let log = std::fs::read_to_string(setup.log_path()).unwrap();
        assert!(log.contains("cannot be listened on"), "{log}");
        drop(taken);
    });
}
