//! The only way to change state for a caller or a job: a transaction, and the steps after its commit.
//!
//! Invariants
//! - events and access changes are written in the transaction of the change, and announced once, after its commit;
//! - a failure after a commit does not turn the stored change into an error;
//! - nothing is changed for a caller that has lost its access while it waited;
//! - if the snapshot cannot be reloaded after a commit that may have revoked access, every check fails closed until the
//!   follower has caught up.

use std::ops::{Deref, DerefMut};

use tracing::warn;

use super::Ctx;
use crate::app::App;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::error::Error;
use crate::feed;
use crate::outbox::{self, NewEvent, Subject};

/// An open transaction. It dereferences to the connection, which store functions take.
#[derive(Debug)]
pub struct Tx<'a> {
    conn: &'a mut Conn,
    now: Timestamp,
    after: &'a mut After,
}

/// The steps after the commit.
#[derive(Debug, Default)]
struct After {
    events: bool,
    access: bool,
    /// The change may have revoked access.
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

    /// Logs that the access of a subject has changed. The snapshot of this replica includes the change before the
    /// caller gets a response. Must be the last statement of the transaction, since other writers of the log wait for
    /// it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn access_changed(&mut self, subject: Subject) -> Result<(), Error> {
        self.after.revokes = true;
        self.access_added(subject).await
    }

    /// Does the same as [`Self::access_changed`] for a new subject, which cannot have lost access.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn access_added(&mut self, subject: Subject) -> Result<(), Error> {
        self.after.access = true;
        outbox::log_change(self.conn, subject, self.now).await
    }
}

impl Ctx {
    /// Runs `work` in a transaction: commits if it returns `Ok`, otherwise rolls back. `work` must not make network
    /// calls or wait in another way: on SQLite every other writer waits for it.
    ///
    /// The caller is checked again after the transaction has begun, since it may have waited for its turn and for a
    /// connection (T13, T14). Work that outlives its call is not checked here: its
    /// `LiveWork` stops it when access is lost.
    ///
    /// # Errors
    /// Those of `work`, of [`Ctx::recheck`], and of beginning and committing. Errors after the commit are not returned.
    pub async fn transaction<T>(
        &self,
        work: impl AsyncFnOnce(&mut Tx<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.run(true, work).await
    }

    /// Does the same as [`Ctx::transaction`] for a change that has already happened, for example on a gateway: it is
    /// stored even if the caller has lost its access since.
    ///
    /// # Errors
    /// Those of [`Ctx::transaction`], except for those of [`Ctx::recheck`].
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
