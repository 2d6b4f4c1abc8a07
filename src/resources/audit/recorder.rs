//! Where calls are recorded.

use std::net::IpAddr;
use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::{Intent, OpenEntry, Outcome};
use crate::config;
use crate::db::Db;
use crate::error::{Error, Reason};

/// Records calls: intents before, outcomes after.
#[derive(Debug, Clone)]
pub struct Recorder {}

impl Recorder {
    /// Starts the writer of this replica.
    #[must_use]
    pub fn start(
        _db: &Db,
        _replica: &Arc<str>,
        _config: &config::Audit,
        _tasks: &TaskTracker,
    ) -> Self {
        Self {}
    }

    /// Stores an intent. Durable when it answers; else nothing may happen.
    pub async fn open(&self, _intent: Intent) -> Result<OpenEntry, Error> {
        Err(Error::unavailable(Reason::AuditUnavailable, "the audit log cannot be written"))
    }

    /// Stores the outcome of an intent, once.
    pub async fn close(&self, _entry: OpenEntry, _outcome: Outcome) -> Result<(), Error> {
        Ok(())
    }

    /// Stores a call that is over: a refused one, or a sensitive read.
    pub async fn record(&self, _intent: Intent, _outcome: Outcome) -> Result<(), Error> {
        Ok(())
    }

    /// Counts a refused call of nobody (T16).
    pub fn count_anonymous(
        &self,
        _ip: Option<IpAddr>,
        _method: &'static str,
        _reason: &'static str,
    ) {
    }
}
