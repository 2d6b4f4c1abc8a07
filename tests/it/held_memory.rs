//! T16: what one caller can make a server hold, by the memory of its process with the limits as shipped.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use h2::SendStream;
use h2::client::ResponseFuture;
use prost::bytes::Bytes;
use shoreguard::pb::v1 as pb;

use crate::commands::{Dev, dev};
use crate::proxy::raw::{Answer, Raw, framed, prefixed};

/// What an attack may hold.
const HELD_KIB_MAX: u64 = 64 << 10;
/// A window that takes everything.
const OPEN: u32 = 1 << 20;

/// Resident memory of a process, in KiB.
fn resident(dev: &Dev) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", dev.process.0.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse().unwrap()
}

type Open = (ResponseFuture, SendStream<Bytes>);

/// Waits until so many of the calls were answered or refused; returns the others, which hold what they hold.
async fn settled(open: Vec<Open>, count: usize) -> Vec<SendStream<Bytes>> {
    let (responses, bodies): (Vec<_>, Vec<_>) = open.into_iter().unzip();
    let mut answers: FuturesUnordered<_> = responses.into_iter().collect();
    let answered = async {
        let mut answered = Vec::new();
        while answered.len() < count {
            answered.push(answers.next().await.unwrap());
        }
        answered
    };
    let answered = tokio::time::timeout(Duration::from_mins(1), answered).await.unwrap();
    // The answers stay unread, and the calls that wait stay open, until the process ends.
    std::mem::forget((answered, answers));
    bodies
}

fn begin(raw: &mut Raw, path: &str, known: bool) -> Open {
    let mut head = raw.post(path);
    if !known {
        head.headers_mut().unwrap().remove("authorization");
    }
    raw.open(head)
}

async fn attack(name: &str) {
    let data = tempfile::tempdir().unwrap();
    let dev = dev(data.path());
    let address = dev.about["listen"].as_str().unwrap().to_owned();
    let key = dev.about["admin_key"].as_str().unwrap().to_owned();
    // A first call of each kind brings up what every server holds.
    let mut warm = Raw::to(&address, &key, OPEN).await;
    let entries = "/shoreguard.v1.AuditService/ListAuditEntries";
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let all = framed(&pb::ListAuditEntriesRequest { page_size: 1000, ..Default::default() });
    let files = prefixed(
        &[0x22, 0x1a].iter().chain(b"shoreguard.v1.AuthService ").copied().collect::<Vec<u8>>(),
    );
    for n in 0..400 {
        let request = pb::CreateServicePrincipalRequest {
            name: format!("key-{n}"),
            role: pb::Role::Viewer.into(),
            ..Default::default()
        };
        let head = warm.post("/shoreguard.v1.ServicePrincipalService/CreateServicePrincipal");
        // Beyond the bound of credentials a minute each try is refused and recorded all the same.
        warm.call(head, &[framed(&request)]).await;
    }
    for (path, message) in [(entries, &all), (reflection, &files)] {
        let head = warm.post(path);
        warm.call(head, std::slice::from_ref(message)).await;
    }
    // As many answers that are taken: what the allocator keeps of such a load is not held by anybody.
    for _ in 0..10 {
        let mut open = Vec::new();
        for _ in 0..100 {
            let (response, mut body) = begin(&mut warm, entries, true);
            body.send_data(all.clone(), true).unwrap();
            open.push(Answer::of(response));
        }
        futures_util::future::join_all(open).await;
    }
    let before = resident(&dev);
    let mut bodies = Vec::new();
    match name {
        "reflection" => {
            for _ in 0..3 {
                let mut raw = Raw::to(&address, "", 0).await;
                let mut open = Vec::new();
                for _ in 0..900 {
                    let (response, mut body) = begin(&mut raw, reflection, false);
                    body.send_data(files.clone(), false).unwrap();
                    open.push((response, body));
                }
                bodies.push(settled(open, 900).await);
            }
        }
        "unread answers" => {
            let mut raw = Raw::to(&address, &key, 0).await;
            let mut open = Vec::new();
            for _ in 0..1000 {
                let (response, mut body) = begin(&mut raw, entries, true);
                body.send_data(all.clone(), true).unwrap();
                open.push((response, body));
            }
            bodies.push(settled(open, 1000).await);
        }
        _ => {
            let mut raw = Raw::to(&address, &key, OPEN).await;
            let mut part = vec![0, 0, 0x3f, 0xff, 0xff];
            part.resize(4_000_000, 0);
            let part = Bytes::from(part);
            let mut open = Vec::new();
            for _ in 0..100 {
                let (response, mut body) = begin(&mut raw, entries, true);
                body.send_data(part.clone(), false).unwrap();
                open.push((response, body));
            }
            bodies.push(settled(open, 90).await);
        }
    }
    let held = resident(&dev).saturating_sub(before);
    assert!(held < HELD_KIB_MAX, "{name}: {held} KiB are held");
    drop(bodies);
}

#[tokio::test(flavor = "multi_thread")]
async fn t16_reflection_that_nobody_reads_holds_little() {
    attack("reflection").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t16_answers_that_nobody_reads_hold_little() {
    attack("unread answers").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t16_bodies_that_never_end_hold_little() {
    attack("unfinished bodies").await;
}
