//! A call whose gateway only the stored object tells.

use std::sync::Arc;

use super::authorize::{enough, of_own_call, open};
use super::{Ctx, GatewayRef, Settled};
use crate::access::policy::{About, Audit, Method};
use crate::access::principal::PrincipalId;
use crate::access::standing::{Place, Standing};
use crate::app::App;
use crate::db::types::GatewayId;
use crate::digest::Digest;
use crate::error::{Error, Kind};
use crate::role::Role;

/// A call whose gateway only the stored object tells.
#[derive(Debug)]
pub struct Pending {
    pub(super) ctx: Ctx,
    pub(super) least: Role,
    pub(super) method: &'static Method,
    pub(super) about: About,
    pub(super) digest: Option<Digest>,
}

impl Pending {
    /// The process, to load the object with.
    #[must_use]
    pub fn app(&self) -> &Arc<App> {
        &self.ctx.app
    }

    /// Checks the gateway of the object, with a role not below the declared one, and opens the intent of a write.
    pub async fn on(&self, gateway: GatewayId, role: Role) -> Result<Ctx, Error> {
        let missing = || Error::missing(Kind::Gateway, gateway);
        let name = self.app().snapshot.gateway_name(gateway).ok_or_else(missing)?;
        let held = self.app().snapshot.role_on(self.principal()?, gateway);
        self.settle(Place::On(gateway), GatewayRef { id: gateway, name }, held, role).await
    }

    /// The same for an object that has an owner and is kept when its gateway goes. The owner needs no role: it gets a
    /// [`Ctx`] with the role that it still holds there, which may be none. Of a gateway that has gone global admins
    /// alone see what is not their own.
    pub async fn of(
        &self,
        owner: Option<PrincipalId>,
        gateway: GatewayRef,
        role: Role,
    ) -> Result<Ctx, Error> {
        let principal = self.principal()?;
        let held = self.app().snapshot.role_on_kept(principal, gateway.id);
        let role = if owner == Some(principal) { Role::None } else { role.max(Role::Viewer) };
        self.settle(Place::Kept(gateway.id), gateway, held, role).await
    }

    fn principal(&self) -> Result<PrincipalId, Error> {
        self.ctx.principal().ok_or_else(|| Error::internal("no caller"))
    }

    async fn settle(
        &self,
        place: Place,
        gateway: GatewayRef,
        held: Role,
        role: Role,
    ) -> Result<Ctx, Error> {
        let needed = role.max(self.least);
        if held == Role::None && needed > Role::None {
            return Err(Error::missing(Kind::Gateway, gateway.id));
        }
        enough(held, needed, Some(&gateway.name))?;
        let caller = self.ctx.caller().cloned().ok_or_else(|| Error::internal("no caller"))?;
        let mut ctx = Ctx { on: Some(gateway.clone()), role: held, ..self.ctx.clone() };
        if let Some(call) = &self.ctx.call {
            call.note.lock().settled = Some(Settled { gateway: gateway.id, needed });
        }
        if self.method.audit == Audit::Write {
            open(&ctx, self.about.clone(), self.digest.clone()).await?;
        }
        // The object was loaded and the intent stored meanwhile.
        let standing = Standing::new(caller, place, needed);
        let role = standing.role(&self.app().snapshot);
        ctx.role = role.map_err(|ended| of_own_call(ended, Some(gateway.id)))?;
        Ok(ctx)
    }
}
