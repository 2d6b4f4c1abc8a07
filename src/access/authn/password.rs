//! Passwords: bcrypt, outside the threads of the runtime, with limited parallelism.
//!
//! bcrypt only reads 72 bytes; a longer password is rejected instead of truncated. If all slots are in use, the call
//! fails at once (T16), since a queue would only make a flood wait.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::config::Limits;
use crate::error::{Error, Reason};
use crate::secret::Secret;

/// Minimum length of a password, in characters.
pub const CHARACTERS_MIN: usize = 12;
/// Maximum length of a password, in bytes: what bcrypt reads.
pub const BYTES_MAX: usize = 72;

/// Hashes and verifies passwords.
#[derive(Debug)]
pub struct PasswordHasher {
    slots: Arc<Semaphore>,
    cost: u32,
    /// Hash of an unknown password: verified if there is no account, so that the cost is the same.
    dummy: String,
}

impl PasswordHasher {
    /// Uses the configured limits.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let slots = usize::try_from(limits.bcrypt_parallel).unwrap_or(1).max(1);
        // A well-formed hash of the same cost; no password is known to match it.
        let dummy = format!(
            "$2b${:02}$abcdefghijklmnopqrstuuDeIdC2h7jXxWOaLcB1VLhSJx1TnRNYK",
            limits.bcrypt_cost
        );
        Self { slots: Arc::new(Semaphore::new(slots)), cost: limits.bcrypt_cost, dummy }
    }

    /// Rejects a password that cannot be set.
    ///
    /// # Errors
    /// `Invalid` if it has fewer than 12 characters or more than 72 bytes.
    pub fn check(field: &str, password: &Secret) -> Result<(), Error> {
        let text = password.expose();
        let characters = text.chars().count();
        if characters < CHARACTERS_MIN {
            let why = format!("must have at least {CHARACTERS_MIN} characters");
            return Err(Error::invalid(field, why));
        }
        if text.len() > BYTES_MAX {
            return Err(Error::invalid(field, format!("must have at most {BYTES_MAX} bytes")));
        }
        Ok(())
    }

    /// Returns the bcrypt hash of a checked password.
    ///
    /// # Errors
    /// `BUSY` if all slots are in use.
    pub async fn hash(&self, password: Secret) -> Result<String, Error> {
        let cost = self.cost;
        self.run(move || bcrypt::hash(password.expose(), cost)).await?.map_err(Error::internal)
    }

    /// Returns whether a password matches a hash. Without a hash the work is the same and the result is false.
    ///
    /// # Errors
    /// `BUSY` if all slots are in use.
    pub async fn verify(&self, password: Secret, hash: Option<String>) -> Result<bool, Error> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.dummy.clone());
        let fits = password.expose().len() <= BYTES_MAX;
        let matches = self
            .run(move || {
                bcrypt::verify(
                    password
                        .expose()
                        .as_bytes()
                        .get(..BYTES_MAX)
                        .unwrap_or(password.expose().as_bytes()),
                    &hash,
                )
            })
            .await?
            .unwrap_or(false);
        Ok(known && fits && matches)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let full = |_| Error::Exhausted { reason: Reason::Busy, retry_in: Duration::from_secs(1) };
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(full)?;
        tokio::task::spawn_blocking(move || {
            let result = work();
            drop(slot);
            result
        })
        .await
        .map_err(Error::internal)
    }
}
