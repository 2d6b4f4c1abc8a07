//! The right of a caller to see an operation while it waits for it or follows it.

use super::domain::missing_error;
use super::store::Operation;
use crate::access::live::{EndReason, LiveStream};
use crate::access::standing::RoleScope;
use crate::ctx::Ctx;
use crate::error::Error;
use crate::role::Role;

/// The right of a caller to see one operation, registered so that its loss ends the call within a second.
#[derive(Debug)]
pub(super) struct AccessWatch {
    /// `None` for the server's own work.
    live: Option<LiveStream>,
}

impl AccessWatch {
    /// Registers a call. An own operation needs no role, only a valid credential.
    pub(super) fn register(ctx: &Ctx, row: &Operation, own: bool) -> Self {
        let there = ctx.app().snapshot.gateway_name(row.gateway_id).is_some();
        let (on, least) = match (own, there) {
            (true, _) => (RoleScope::Anywhere, Role::None),
            (false, true) => (RoleScope::Gateway(row.gateway_id), Role::Operator),
            // Only global admins see operations of a removed gateway; admins of another gateway do not.
            (false, false) => (RoleScope::Global, Role::Admin),
        };
        let live = ctx.caller().map(|caller| ctx.app().live.register(caller.clone(), on, least));
        Self { live }
    }

    /// Waits until the right is lost and returns the error of the call.
    pub(super) async fn wait_lost(&self, ctx: &Ctx, id: &str) -> Error {
        match &self.live {
            None => std::future::pending().await,
            Some(live) => live.cancel_token().cancelled().await,
        }
        let why = self.live.as_ref().and_then(LiveStream::end_reason);
        match why {
            None => missing_error(id),
            // As for every other call: a caller without a role gets `NOT_FOUND`.
            Some(EndReason::GatewayGone | EndReason::GatewayRemoved)
                if ctx.current_role() == Role::None =>
            {
                missing_error(id)
            }
            Some(why) => why.into(),
        }
    }

    /// Rejects a caller whose credential is no longer valid. Call this after the last wait, before the response.
    ///
    /// # Errors
    /// `CREDENTIAL_INVALID`.
    pub(super) fn check(ctx: &Ctx) -> Result<(), Error> {
        match ctx.caller() {
            Some(caller) if !ctx.app().snapshot.is_live(caller) => {
                Err(EndReason::CredentialGone.into())
            }
            Some(_) | None => Ok(()),
        }
    }
}
