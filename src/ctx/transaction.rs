//! The only way to change state for a caller or a job: a transaction, and the steps after its commit.
//!
//! Invariants
//! - events and access changes are written in the transaction of the change, and announced once, after its commit. On
//!   PostgreSQL they are collected and written by one statement, in the round trip of the commit;
//! - the audit entry of what a transaction does besides the change of its call is written in that transaction;
//! - a failure after a commit does not turn the stored change into an error;
//! - nothing is changed for a caller that has lost its access while it waited;
//! - if the snapshot cannot be reloaded after a commit that may have revoked access, every check fails closed until the
//!   follower has caught up.

use std::ops::{Deref, DerefMut};

use futures_util::future::BoxFuture;
use tracing::warn;

use super::Ctx;
use crate::app::App;
use crate::audit::recorder::Recorder;
use crate::audit::{Ending, Intent, Outcome};
use crate::clock::Timestamp;
use crate::db::{Conn, OpeningConn, no_statements};
use crate::error::Error;
use crate::feed;
use crate::outbox::{AccessSubject, NewEvent, OutboxRows};

/// An open transaction. It dereferences to the connection, which store functions take.
#[derive(Debug)]
pub struct Tx<'a> {
    conn: &'a mut Conn,
    recorder: &'a Recorder,
    now: Timestamp,
    commit_actions: &'a mut CommitActions,
}

/// How a transaction is run.
#[derive(Debug, Clone, Copy)]
struct TransactionOptions {
    /// Whether the caller is checked again after the transaction has begun.
    recheck_caller: bool,
    /// Whether it writes many rows.
    long: bool,
}

/// The steps after the commit.
#[derive(Debug, Default)]
struct CommitActions {
    /// The events and access changes.
    rows: OutboxRows,
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
    /// Records an audit entry of something that this transaction does besides the change of the call. It is stored if
    /// and only if the transaction is committed.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn record(&mut self, intent: Intent) -> Result<(), Error> {
        let outcome = Outcome::new(intent.at, Ending::Ok, 0);
        self.recorder.record_in(self.conn, intent, outcome).await
    }

    /// Writes an event. Its readers are woken after the commit.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn emit(&mut self, event: NewEvent) -> Result<(), Error> {
        self.commit_actions.events = true;
        self.commit_actions.rows.add_event(self.conn, event).await
    }

    /// Logs that the access of a subject has changed. The snapshot of this replica includes the change before the
    /// caller gets a response.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn log_access_change(&mut self, subject: AccessSubject) -> Result<(), Error> {
        self.commit_actions.revokes = true;
        self.log_access_addition(subject).await
    }

    /// Does the same as [`Self::log_access_change`] for a new subject, which cannot have lost access.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn log_access_addition(&mut self, subject: AccessSubject) -> Result<(), Error> {
        self.commit_actions.access = true;
        self.commit_actions.rows.add_change(self.conn, subject, self.now).await
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
        self.transaction_after(no_statements, async |tx, ()| work(tx).await).await
    }

    /// Does the same as [`Ctx::transaction`] after the first statements of the transaction, `first`, whose result `work`
    /// gets. On PostgreSQL they need no round trip of their own: see [`OpeningConn`]. The caller is checked after them,
    /// since they may have waited for a lock.
    ///
    /// # Errors
    /// Those of [`Ctx::transaction`], and that of `first`.
    pub async fn transaction_after<P, T>(
        &self,
        first: impl for<'c> FnOnce(OpeningConn<'c>) -> BoxFuture<'c, Result<P, Error>>,
        work: impl AsyncFnOnce(&mut Tx<'_>, P) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let options = TransactionOptions { recheck_caller: true, long: false };
        self.run_transaction(options, first, work).await
    }

    /// Does the same as [`Ctx::transaction`] for work that writes many rows: the transactions of other callers that
    /// ended before it are committed first, so that they do not wait for it.
    ///
    /// # Errors
    /// Those of [`Ctx::transaction`].
    pub async fn long_transaction<T>(
        &self,
        work: impl AsyncFnOnce(&mut Tx<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let options = TransactionOptions { recheck_caller: true, long: true };
        self.run_transaction(options, no_statements, async |tx, ()| work(tx).await).await
    }

    /// Does the same as [`Ctx::transaction`] for a change that has already happened, for example on a gateway: it is
    /// stored even if the caller has lost its access since.
    ///
    /// # Errors
    /// Those of [`Ctx::transaction`], except for those of [`Ctx::recheck`].
    pub async fn record_change<T>(
        &self,
        work: impl AsyncFnOnce(&mut Tx<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let options = TransactionOptions { recheck_caller: false, long: false };
        self.run_transaction(options, no_statements, async |tx, ()| work(tx).await).await
    }

    async fn run_transaction<P, T>(
        &self,
        options: TransactionOptions,
        first: impl for<'c> FnOnce(OpeningConn<'c>) -> BoxFuture<'c, Result<P, Error>>,
        work: impl AsyncFnOnce(&mut Tx<'_>, P) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (now, mut commit_actions) = (self.now(), CommitActions::default());
        let (db, recorder) = (self.db(), &self.app().audit);
        let conn = if options.long { db.write().await? } else { db.writer().await? };
        let value = db
            .transaction_on(conn, first, async |conn, opened| {
                if options.recheck_caller {
                    self.recheck_call()?;
                }
                let mut tx = Tx { conn, recorder, now, commit_actions: &mut commit_actions };
                let value = work(&mut tx, opened).await?;
                Ok((value, commit_actions.rows.take_statement(now)))
            })
            .await?;
        commit_actions.commit(self.app()).await;
        Ok(value)
    }
}

impl CommitActions {
    async fn commit(self, app: &App) {
        if self.access
            && let Err(error) = feed::refresh(app).await
        {
            let error = &error as &dyn std::error::Error;
            warn!(error, "a change of access is stored; the access data is read again later");
            if self.revokes {
                app.snapshot.mark_unconfirmed();
            }
        }
        // After the refresh: on SQLite the events have their numbers, and what their readers can see depends on it.
        if self.events {
            app.feed.notify_committed();
        }
    }
}
