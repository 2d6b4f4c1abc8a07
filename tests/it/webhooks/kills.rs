//! Servers that are killed while they deliver: no message is lost, and repeated ones are the same.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use shoreguard::db::Engine;
use shoreguard::pb::v1 as pb;

use super::receiver::{Received, Receiver, Reply};
use super::{create, request};
use crate::crash::{change_rows, start_server, write_config};
use crate::support::{DbLocation, eventually, limit};

/// Kills in a short run, and in one of minutes.
const KILLS: usize = 2;
const KILLS_SOAK: usize = 100;
/// Events between two kills: three that are delivered, two that are held, and two that wait.
const EVENTS: usize = 7;

/// Expires the leases of the killed server on PostgreSQL, where they would expire after half a minute. On SQLite, the
/// next server does so itself.
async fn expire(place: &DbLocation) {
    let DbLocation::Postgres(_) = place else { return };
    let leases = "UPDATE leases SET expires_at = '2020-01-01'";
    // Otherwise the killed server would have a share of the webhooks for half a minute.
    let replicas = "DELETE FROM replicas";
    change_rows(place, &[leases, replicas]).await;
}

fn allow_loopback(config: &Path) {
    let mut file = std::fs::OpenOptions::new().append(true).open(config).unwrap();
    writeln!(file, "[webhooks]\nallowed_networks = [\"127.0.0.0/8\"]").unwrap();
}

/// Returns the messages by their ids.
fn by_id(received: Vec<Received>) -> BTreeMap<String, Vec<Received>> {
    let mut messages: BTreeMap<String, Vec<Received>> = BTreeMap::new();
    for one in received {
        messages.entry(one.header("webhook-id").to_owned()).or_default().push(one);
    }
    messages
}

async fn killed_while_delivering(engine: Engine) {
    let Some((place, key)) = DbLocation::with_admin(engine).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), &place);
    allow_loopback(&config);
    let receiver = Receiver::start().await;
    let kills = if std::env::var_os("SOAK").is_some() { KILLS_SOAK } else { KILLS };
    let mut server = start_server(&config, &key);
    let all = pb::CreateWebhookRequest { max_in_flight: 2, ..request(&receiver.url()) };
    create(&server.caller, all).await.unwrap();
    for kill in 0..kills {
        // The receiver holds every message after the third of this round until the server is dead.
        let token = tokio_util::sync::CancellationToken::new();
        let before = receiver.received().len();
        let (held, count) = (token.clone(), std::sync::atomic::AtomicUsize::new(0));
        receiver.answer(move |_| {
            let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if number < 3 { Reply::status(200) } else { Reply::Until(held.clone()) }
        });
        for event in 0..EVENTS {
            server.caller.create_key(&format!("k{kill}-{event}"), pb::Role::None).await;
        }
        receiver.wait_for(before + 4).await;
        drop(server);
        receiver.answer(|_| Reply::status(200));
        token.cancel();
        expire(&place).await;
        server = start_server(&config, &key);
    }
    let expected = kills * EVENTS;
    let distinct = || async { by_id(receiver.received()).len() == expected };
    eventually("every message has arrived", distinct).await;
    let messages = by_id(receiver.received());
    let mut names = Vec::new();
    for (id, attempts) in &messages {
        assert!(attempts.iter().all(|one| one.body == attempts[0].body), "{id}: {attempts:?}");
        let name = &attempts[0].json()["data"]["service_principal"];
        names.push(name.as_str().unwrap().to_owned());
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), expected, "one message for each event");
    assert!(messages.values().any(|attempts| attempts.len() > 1), "what was held is sent again");
    drop(server);
    place.remove();
}

mod e11_no_message_is_lost_or_changed_by_kill_9 {
    use super::*;

    fn run(engine: Engine) {
        limit::block_on(killed_while_delivering(engine));
    }

    #[test]
    fn sqlite() {
        run(Engine::Sqlite);
    }

    #[test]
    fn postgres() {
        run(Engine::Postgres);
    }
}
