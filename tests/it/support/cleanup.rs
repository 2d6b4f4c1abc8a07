//! The end of a test's server.
//!
//! Invariants
//! - a server is stopped once, and then nothing is open on it;
//! - a test that forgets to stop a server fails.

use std::sync::{Arc, Mutex, PoisonError};

use shoreguard::app::App;
use shoreguard::db::Engine;
use shoreguard::server::listen::RunningServer;

use super::server::TestServer;
use super::{DbLocation, limit};

/// What ends with a server. A clone ends the same server.
#[derive(Clone)]
pub(super) struct ServerCleanup(Arc<Unfinished>);

/// A server that was not stopped yet. `None` after [`ServerCleanup::finish`].
struct Unfinished(Mutex<Option<ServerParts>>);

struct ServerParts {
    app: Arc<App>,
    running: RunningServer,
    place: DbLocation,
    data: tempfile::TempDir,
}

impl ServerCleanup {
    pub(super) fn new(
        app: &Arc<App>,
        running: RunningServer,
        place: DbLocation,
        data: tempfile::TempDir,
    ) -> Self {
        let parts = ServerParts { app: Arc::clone(app), running, place, data };
        Self(Arc::new(Unfinished(Mutex::new(Some(parts)))))
    }

    /// Stops the server, and checks that nothing was left open. Does nothing if it was stopped before.
    pub(super) async fn finish(&self) {
        let parts = self.0.0.lock().unwrap().take();
        let Some(ServerParts { app, running, place, data }) = parts else { return };
        app.stop.cancel();
        running.stopped().await;
        app.drain().await;
        assert_eq!(app.live.count(), 0, "a live stream was left");
        drop(app);
        place.remove();
        drop(data);
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let parts = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        // A test that fails or runs out of time has a message of its own.
        let has_failed = std::thread::panicking() || limit::has_run_out();
        assert!(parts.is_none() || has_failed, "a server was not stopped: call `finish`");
    }
}

#[test]
fn a_server_that_is_not_stopped_fails_its_test() {
    let forgets = || {
        limit::block_on(async {
            let sg = TestServer::start(Engine::Sqlite, |_| {}).await.unwrap();
            // Its threads end nevertheless.
            sg.app.stop.cancel();
            drop(sg);
        });
    };
    let said = std::thread::spawn(forgets).join().unwrap_err();
    assert_eq!(*said.downcast_ref::<&str>().unwrap(), "a server was not stopped: call `finish`");
}
