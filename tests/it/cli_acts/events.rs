//! `event watch`: what it prints, and how it continues.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::commands::ChildProcess;
use crate::support::eventually;
use crate::support::server::TestServer;

use super::{command, run_to_end, start};

sqlite_tests! {
    a_watch_continues_where_the_connection_was_lost,
    a_watch_prints_what_its_filters_select,
    a_watch_ends_if_events_were_deleted,
}

/// A proxy in front of the server that can cut all connections.
pub(super) struct Relay {
    pub(super) address: std::net::SocketAddr,
    pub(super) cuts: watch::Sender<()>,
    _tasks: JoinSet<()>,
}

impl Relay {
    pub(super) async fn start(server: std::net::SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = watch::Sender::new(());
        let subscribe = cuts.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                clients.spawn(relay(client, server, subscribe.subscribe()));
            }
        });
        Self { address, cuts, _tasks: tasks }
    }
}

async fn relay(mut client: TcpStream, server: std::net::SocketAddr, mut cut: watch::Receiver<()>) {
    let mut server = TcpStream::connect(server).await.unwrap();
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = cut.changed() => {}
    }
}

/// Lines that a command has printed.
pub(super) type Lines = Arc<Mutex<Vec<String>>>;

/// Starts a command, and collects its lines.
pub(super) fn start_lines(mut command: std::process::Command) -> (ChildProcess, Lines) {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let lines = Lines::default();
    let sink = Arc::clone(&lines);
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            sink.lock().unwrap().push(line);
        }
    });
    (ChildProcess(child), lines)
}

pub(super) async fn until_lines(lines: &Lines, count: usize) -> Vec<String> {
    eventually("the lines are printed", || async { lines.lock().unwrap().len() >= count }).await;
    lines.lock().unwrap().clone()
}

async fn a_watch_continues_where_the_connection_was_lost(sg: TestServer) {
    let relay = Relay::start(sg.address).await;
    let mut watch = command(&sg, &sg.admin_key, &["event", "watch", "--after", "0", "-o", "jsonl"]);
    watch.args(["--name", "gateway.registered"]);
    watch.env("SHOREGUARD_ENDPOINT", format!("http://{}", relay.address));
    let (mut process, lines) = start_lines(watch);
    for round in 1..=3 {
        sg.register_unreachable(&format!("before-{round}")).await;
        until_lines(&lines, 2 * round - 1).await;
        relay.cuts.send_replace(());
        sg.register_unreachable(&format!("after-{round}")).await;
        until_lines(&lines, 2 * round).await;
    }
    let events: Vec<serde_json::Value> =
        lines.lock().unwrap().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let gateways: Vec<&str> =
        events.iter().map(|event| event["gateway"].as_str().unwrap()).collect();
    let expected = ["before-1", "after-1", "before-2", "after-2", "before-3", "after-3"];
    assert_eq!(gateways, expected, "each once, in order");
    process.signal("INT");
    assert_eq!(super::exit_code(&mut process.0).await, Some(130));
    sg.finish().await;
}

async fn a_watch_prints_what_its_filters_select(sg: TestServer) {
    for name in ["edge", "west"] {
        sg.register_unreachable(name).await;
    }
    let watch = ["event", "watch", "--after", "0", "--name", "gateway.registered", "west"];
    let (mut process, lines) = start_lines(command(&sg, &sg.admin_key, &watch));
    let line = until_lines(&lines, 1).await[0].clone();
    assert!(line.contains("  gateway.registered  west  sp:root  {"), "{line}");
    process.signal("INT");
    assert_eq!(super::exit_code(&mut process.0).await, Some(130));
    assert_eq!(lines.lock().unwrap().len(), 1);
    let wrong = run_to_end(&sg, "sg_unknown", &watch).await;
    assert!(wrong.code != Some(0) && wrong.stderr.contains("CREDENTIAL_INVALID"), "{wrong:?}");
    let unknown = run_to_end(&sg, &sg.admin_key, &["event", "watch", "nowhere"]).await;
    assert!(unknown.stderr.contains("NOT_FOUND"), "{unknown:?}");
    sg.finish().await;
}

async fn a_watch_ends_if_events_were_deleted(sg: TestServer) {
    for name in ["edge", "west", "east"] {
        sg.register_unreachable(name).await;
    }
    let all = ["event", "watch", "--after", "0", "--name", "gateway.registered"];
    let (process, lines) = start_lines(command(&sg, &sg.admin_key, &all));
    until_lines(&lines, 3).await;
    drop(process);
    assert_eq!(sg.sql("UPDATE event_head SET oldest = 3").await, 1);
    let late = start(command(&sg, &sg.admin_key, &["event", "watch", "--after", "1"]));
    let late = late.ended().await;
    assert_eq!(late.code, Some(1), "{late:?}");
    assert!(
        late.stderr.contains("CURSOR_EXPIRED") && late.stderr.contains("sequence 3"),
        "{late:?}"
    );
    assert!(late.stdout.is_empty());
    sg.finish().await;
}
