//! Turns of a call at long computations.

use super::Ctx;
use crate::app::long_work::WorkTurn;
use crate::error::Error;
use crate::fair::LimitHolder;

impl Ctx {
    /// Returns the holder whose limits apply to the call: its principal, or its address. `None` for a background job.
    #[must_use]
    pub fn limit_holder(&self) -> Option<LimitHolder> {
        let principal = self.principal().map(LimitHolder::Principal);
        principal.or_else(|| self.client_ip().map(LimitHolder::from_address))
    }

    /// Waits for the turn of a computation whose input has this number of bytes. Hold no connection to the database
    /// meanwhile.
    ///
    /// # Errors
    /// `BUSY` if the caller or all callers have too many turns, or if none is free in time.
    pub async fn long_work(&self, bytes: usize) -> Result<WorkTurn, Error> {
        self.app.long_work.turn(self.limit_holder(), bytes).await
    }
}
