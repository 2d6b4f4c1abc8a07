//! A flood of wrong passwords, and the logins that succeed meanwhile (T16).

use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::future::join_all;
use shoreguard::config::Config;
use tokio::time::{Duration, Instant};

use crate::login::{behind_a_proxy, login};
use crate::support::server::{ADMIN_EMAIL, ADMIN_PASSWORD, TestServer};

/// Number of addresses that log in with wrong passwords.
const ATTACKERS: u32 = 24;

/// Makes password hashes slow enough that the attackers keep all slots busy.
fn with_slow_hashes(config: &mut Config) {
    behind_a_proxy(config);
    config.limits.bcrypt_cost = 8;
}

server_tests! {
    tuned with_slow_hashes;
    t16_a_flood_of_wrong_passwords_keeps_out_no_known_address,
    t16_a_flood_of_wrong_passwords_keeps_out_no_new_address,
}

/// Logs in while many addresses try wrong passwords.
async fn log_in_during_a_flood(sg: &TestServer, logins: impl AsyncFnOnce()) {
    login(sg, "198.51.100.1", ADMIN_EMAIL, ADMIN_PASSWORD).await.unwrap();
    let answered = AtomicU32::new(0);
    // Each attacker has one attempt in flight at all times. Its accounts differ, so that no wait of a single account
    // ends the flood.
    let attack = |attacker: u32| {
        let answered = &answered;
        async move {
            for attempt in 0_u32.. {
                let email = format!("user-{attacker}-{attempt}@example.com");
                let from = format!("192.0.2.{attacker}");
                assert!(login(sg, &from, &email, "wrong horse battery").await.is_err());
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let flood = join_all((1..=ATTACKERS).map(attack));
    let logins = async {
        let deadline = Instant::now() + Duration::from_mins(1);
        while answered.load(Ordering::Relaxed) < ATTACKERS {
            assert!(Instant::now() < deadline, "the flood does not begin");
            crate::support::pause().await;
        }
        logins().await;
    };
    tokio::select! {
        () = logins => {}
        _ = flood => panic!("the flood does not end by itself"),
    }
}

async fn t16_a_flood_of_wrong_passwords_keeps_out_no_known_address(sg: TestServer) {
    log_in_during_a_flood(&sg, async || {
        for n in 1..=12 {
            let login = login(&sg, "198.51.100.1", ADMIN_EMAIL, ADMIN_PASSWORD).await;
            assert!(login.is_ok(), "login {n}: {login:?}");
        }
    })
    .await;
    sg.finish().await;
}

async fn t16_a_flood_of_wrong_passwords_keeps_out_no_new_address(sg: TestServer) {
    log_in_during_a_flood(&sg, async || {
        // Some known ones at the same time, and one from an address that no account has logged in from.
        let known = (0..4).map(|_| login(&sg, "198.51.100.1", ADMIN_EMAIL, ADMIN_PASSWORD));
        let new = login(&sg, "198.51.100.2", ADMIN_EMAIL, ADMIN_PASSWORD);
        let (known, new) = tokio::join!(join_all(known), new);
        assert!(known.iter().all(Result::is_ok), "{known:?}");
        assert!(new.is_ok(), "{new:?}");
    })
    .await;
    sg.finish().await;
}
