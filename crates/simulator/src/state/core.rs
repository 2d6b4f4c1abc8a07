//! The lock around the state, and the effects of a change: notices to watchers, and delayed changes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use super::{LogLine, PlatformEvent, ScheduledChange, State, Workspace};
use shoreguard_proto::release::Generation;

/// Maximum number of notices that a watcher may lag behind. Beyond it, notices are lost and the watcher is notified.
const NOTICES_MAX: usize = 1_024;

/// A notice to the watchers of a sandbox; the first field is the id of the sandbox.
#[derive(Debug, Clone)]
pub(crate) enum Notice {
    /// The sandbox has changed.
    Changed(String),
    /// The sandbox was deleted.
    Deleted(String),
    /// The sandbox has logged a line.
    Log(String, LogLine),
    /// An event of the sandbox.
    Event(String, PlatformEvent),
}

/// The state, shared by all calls.
#[derive(Debug)]
pub(crate) struct Core {
    state: Mutex<State>,
    notices: broadcast::Sender<Notice>,
    /// Duration of phases that end by themselves.
    ready_after: Duration,
    /// All tasks of the simulator.
    pub(crate) tasks: TaskTracker,
    /// Tracks the running commands.
    pub(crate) commands: TaskTracker,
    /// Canceled when the simulator stops.
    pub(crate) stop: CancellationToken,
}

impl Core {
    /// Returns the state of a gateway that contains only the default workspace.
    pub(crate) fn new(ready_after: Duration, generation: Generation) -> Arc<Self> {
        let mut state = State::default();
        state.behavior.generation = generation;
        let default = Workspace::new(super::DEFAULT_WORKSPACE);
        state.workspaces.insert(super::DEFAULT_WORKSPACE.to_owned(), default);
        Self::with_state(ready_after, state)
    }

    /// Returns a gateway with the state of another one.
    pub(crate) fn with_state(ready_after: Duration, state: State) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(state),
            notices: broadcast::channel(NOTICES_MAX).0,
            ready_after,
            tasks: TaskTracker::new(),
            commands: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    /// Takes the state out of a gateway that has stopped.
    pub(crate) fn take_state(&self) -> State {
        std::mem::take(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads or changes the state, then sends the notices and schedules delayed changes.
    pub(crate) fn with<T>(
        self: &Arc<Self>,
        act: impl FnOnce(&mut State) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let (answer, later) = {
            // A panic under the lock affects only one call; the state it leaves is still used.
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let answer = act(&mut state);
            let later = self.apply_due(&mut state);
            for notice in state.notices.drain(..) {
                // Fails if there are no watchers.
                let _ = self.notices.send(notice);
            }
            (answer, later)
        };
        self.schedule(later);
        answer
    }

    /// Applies the changes without a delay, and returns the others with their delays.
    fn apply_due(&self, state: &mut State) -> Vec<(Duration, ScheduledChange)> {
        let mut later = Vec::new();
        while let Some(change) = state.pending_changes.pop() {
            let after = change.delay(self.ready_after);
            if after.is_zero() {
                state.apply(&change);
            } else {
                later.push((after, change));
            }
        }
        later
    }

    /// Applies changes after their delays, unless the simulator stops earlier.
    fn schedule(self: &Arc<Self>, later: Vec<(Duration, ScheduledChange)>) {
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

    fn apply(self: &Arc<Self>, change: &ScheduledChange) {
        let applied = self.with(|state| {
            state.apply(change);
            Ok(())
        });
        debug_assert!(applied.is_ok(), "a change that does not apply must be ignored");
    }

    /// Subscribes to notices.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }
}
