//! The lock around the state, and what follows from a change: notices to watchers, and changes that come by
//! themselves after a while.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use super::{Change, LogLine, PlatformEvent, State, Workspace};

/// Notices that a slow watcher may be behind before it is told that it has missed some.
const NOTICES_MAX: usize = 1_024;

/// What watchers of a sandbox are told; the first field is its id.
#[derive(Debug, Clone)]
pub(crate) enum Notice {
    /// It has changed.
    Changed(String),
    /// It is gone.
    Gone(String),
    /// It has logged.
    Log(String, LogLine),
    /// Something has happened to it.
    Event(String, PlatformEvent),
}

/// The state, shared by every call.
#[derive(Debug)]
pub(crate) struct Core {
    state: Mutex<State>,
    notices: broadcast::Sender<Notice>,
    /// How long a phase lasts that ends by itself.
    ready_after: Duration,
    /// Every task of the simulator.
    pub(crate) tasks: TaskTracker,
    /// Counts the commands that run.
    pub(crate) commands: TaskTracker,
    /// Cancelled when the simulator stops.
    pub(crate) stop: CancellationToken,
}

impl Core {
    /// A gateway with nothing but its default workspace.
    pub(crate) fn new(ready_after: Duration) -> Arc<Self> {
        let mut state = State::default();
        let default = Workspace::new(super::DEFAULT_WORKSPACE);
        state.workspaces.insert(super::DEFAULT_WORKSPACE.to_owned(), default);
        Arc::new(Self {
            state: Mutex::new(state),
            notices: broadcast::channel(NOTICES_MAX).0,
            ready_after,
            tasks: TaskTracker::new(),
            commands: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    /// Asks or changes the state, then sends what was noted and starts the clocks.
    pub(crate) fn with<T>(
        self: &Arc<Self>,
        act: impl FnOnce(&mut State) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let (answer, later) = {
            // A panic under the lock is one call's fault; what it left is still a gateway.
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let answer = act(&mut state);
            let later = self.settle(&mut state);
            for notice in state.notices.drain(..) {
                // Nobody watches: nobody is told.
                let _ = self.notices.send(notice);
            }
            (answer, later)
        };
        self.schedule(later);
        answer
    }

    /// Makes the changes that are due at once, and gives back the others with their delays.
    fn settle(&self, state: &mut State) -> Vec<(Duration, Change)> {
        let mut later = Vec::new();
        while let Some(change) = state.due.pop() {
            let after = change.after(self.ready_after);
            if after.is_zero() {
                state.apply(&change);
            } else {
                later.push((after, change));
            }
        }
        later
    }

    /// Makes changes once their time has come, unless the simulator stops before.
    fn schedule(self: &Arc<Self>, later: Vec<(Duration, Change)>) {
        for (after, change) in later {
            let core = Arc::clone(self);
            self.tasks.spawn(async move {
                tokio::select! {
                    () = tokio::time::sleep(after) => core.apply(&change),
                    () = core.stop.cancelled() => {}
                }
            });
        }
    }

    fn apply(self: &Arc<Self>, change: &Change) {
        let applied = self.with(|state| {
            state.apply(change);
            Ok(())
        });
        debug_assert!(applied.is_ok(), "a change that does not apply is no error");
    }

    /// What is noted from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }
}
