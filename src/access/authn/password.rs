//! Passwords: bcrypt, off the runtime's threads, a bounded number at once.
//!
//! bcrypt reads 72 bytes; a longer password is refused instead of cut. When the pool is full the answer is that it is
//! (T16), since a queue would only make a flood wait.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::config::Limits;
use crate::error::{Error, Reason};
use crate::secret::Secret;

/// Fewest characters of a password.
pub const CHARACTERS_MIN: usize = 12;
/// Most bytes of a password: what bcrypt reads.
pub const BYTES_MAX: usize = 72;

/// Hashes and verifies passwords.
#[derive(Debug)]
pub struct Hasher {
    slots: Arc<Semaphore>,
    cost: u32,
    /// Of a password that nobody knows: verified where there is no account, so that it costs the same.
    dummy: String,
}

impl Hasher {
    /// As the limits say.
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

    /// Refuses a password that may not be set.
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

    /// The bcrypt hash of a password that was checked.
    pub async fn hash(&self, password: Secret) -> Result<String, Error> {
        let cost = self.cost;
        self.run(move || bcrypt::hash(password.expose(), cost)).await?.map_err(Error::internal)
    }

    /// Whether a password is the one of a hash. Without a hash the work is the same and the answer no.
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
