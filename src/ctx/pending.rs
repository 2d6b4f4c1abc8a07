//! Calls whose gateway is known only after the stored object is loaded.

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

/// A call whose gateway is known only after the stored object is loaded.
#[derive(Debug)]
pub struct Pending {
    pub(super) ctx: Ctx,
    pub(super) least: Role,
    pub(super) method: &'static Method,
    pub(super) about: About,
    pub(super) digest: Option<Digest>,
}

impl Pending {
    /// The process, which the object is loaded with.
    #[must_use]
    pub fn app(&self) -> &Arc<App> {
        &self.ctx.app
    }

    /// Checks the caller's role on the gateway of the object and opens the audit entry of a write. The required role is
    /// `role`, or that of the method if it is higher.
    pub async fn on(&self, gateway: GatewayId, role: Role) -> Result<Ctx, Error> {
        let missing = || Error::missing(Kind::Gateway, gateway);
        let name = self.app().snapshot.gateway_name(gateway).ok_or_else(missing)?;
        let held = self.app().snapshot.role_on(self.principal()?, gateway);
        self.settle(Place::On(gateway), GatewayRef { id: gateway, name }, held, role).await
    }

    /// Checks the caller for an object that has an owner and is retained when its gateway is unregistered. The owner
    /// needs no role: its [`Ctx`] has the role that it currently holds on the gateway, possibly [`Role::None`]. If the
    /// gateway is unregistered, only global admins can access the objects of others.
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
        // Loading the object and storing the intent may have taken a while.
        let standing = Standing::new(caller, place, needed);
        let role = standing.role(&self.app().snapshot);
        ctx.role = role.map_err(|ended| of_own_call(ended, Some(gateway.id)))?;
        Ok(ctx)
    }
}
