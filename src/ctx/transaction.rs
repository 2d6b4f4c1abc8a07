//! The one way to change state on behalf of a caller or a job: a transaction, and what follows its commit.
//!
//! Invariants
//! - events and changes of access are written in the transaction of the change, and announced once, after its commit;
//! - nothing that fails after a commit turns the stored change into an error;
//! - nothing is changed for a caller that has lost its right while it waited;
//! - where the snapshot cannot be read again after a commit that may have taken rights away, every check fails closed
//!   until the follower has caught up.

use std::ops::{Deref, DerefMut};

use tracing::warn;

use super::Ctx;
use crate::app::App;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::error::Error;
use crate::feed;
use crate::outbox::{self, NewEvent, Subject};

/// An open transaction. Store functions take it as the connection that it is.
#[derive(Debug)]
pub struct Tx<'a> {
    conn: &'a mut Conn,
    now: Timestamp,
    after: &'a mut After,
}

/// What follows the commit.
#[derive(Debug, Default)]
struct After {
    events: bool,
    access: bool,
    /// Somebody may have lost a right.
    revokes: bool,
}

impl Deref for Tx<'_> {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        self.conn
    }
}

impl DerefMut for Tx<'_> {
    fn deref_mut(&mut self) -> &mut Conn {
        self.conn
    }
}

impl Tx<'_> {
    /// Writes an event. Its readers are woken after the commit.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn emit(&mut self, event: NewEvent) -> Result<(), Error> {
        self.after.events = true;
        outbox::enqueue(self.conn, event).await
    }

    /// Logs that the access of a subject has changed. It is in the snapshot of this replica before the caller is answered.
    /// The last statement before the end of the transaction, since other writers of the log wait for it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn access_changed(&mut self, subject: Subject) -> Result<(), Error> {
        self.after.revokes = true;
        self.access_added(subject).await
    }

    /// As [`Self::access_changed`], of a subject that is new, so that nobody can have lost a right.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn access_added(&mut self, subject: Subject) -> Result<(), Error> {
        self.after.access = true;
        outbox::log_change(self.conn, subject, self.now).await
    }
}

impl Ctx {
    /// Runs `work` in a transaction: commits if it is `Ok`, rolls back if it is not. No network call and no other wait
    /// belongs in `work`: on SQLite every other writer waits for it.
    ///
    /// The caller is checked again once the transaction has begun, since it may have waited for its turn and for a
    /// connection (T13, T14). Work that outlives its call has a right of its own, which stops it when it is lost.
    ///
    /// # Errors
    /// That of `work`, those of [`Ctx::recheck`], and those of beginning and committing. None of what follows the commit.
    pub async fn transaction<T>(
        &self,
        work: impl AsyncFnOnce(&mut Tx<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.run(true, work).await
    }

    /// As [`Ctx::transaction`], for what has happened already, such as at a gateway: it is stored even if the caller has
    /// lost its right meanwhile.
    ///
    /// # Errors
    /// As [`Ctx::transaction`], but for those of [`Ctx::recheck`].
    pub async fn record<T>(
        &self,
        work: impl AsyncFnOnce(&mut Tx<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.run(false, work).await
    }

    async fn run<T>(
        &self,
        acts: bool,
        work: impl AsyncFnOnce(&mut Tx<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (now, mut after) = (self.now(), After::default());
        let value = self
            .db()
            .transaction(async |conn| {
                if acts && !self.outlives_its_call() {
                    self.recheck()?;
                }
                work(&mut Tx { conn, now, after: &mut after }).await
            })
            .await?;
        after.commit(self.app()).await;
        Ok(value)
    }
}

impl After {
    async fn commit(self, app: &App) {
        if self.events {
            app.feed.written();
        }
        if !self.access {
            return;
        }
        if let Err(error) = feed::refresh(app).await {
            let error = &error as &dyn std::error::Error;
            warn!(error, "a change of access is stored; the access data is read again later");
            if self.revokes {
                app.snapshot.mark_unconfirmed();
            }
        }
    }
}
