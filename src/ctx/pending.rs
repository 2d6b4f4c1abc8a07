//! Calls whose gateway is known only after the stored object is loaded.

use futures_util::future::BoxFuture;
use std::sync::Arc;

use super::authorize::{lost_access_error, open_audit_entry, require_role};
use super::{Ctx, GatewayRef, ObjectAccess};
use crate::access::policy::{AuditMode, AuditSubject, Method};
use crate::access::principal::PrincipalId;
use crate::access::standing::{AccessCheck, RoleScope};
use crate::app::App;
use crate::db::types::GatewayId;
use crate::digest::Digest;
use crate::error::{Error, ResourceKind};
use crate::role::Role;

/// A call whose gateway is known only after the stored object is loaded.
#[derive(Debug)]
pub struct PendingCtx {
    pub(super) ctx: Ctx,
    pub(super) min_role: Role,
    pub(super) method: &'static Method,
    pub(super) about: AuditSubject,
    pub(super) digest: Option<Digest>,
}

impl PendingCtx {
    /// The process, which the object is loaded with.
    #[must_use]
    pub fn app(&self) -> &Arc<App> {
        &self.ctx.app
    }

    /// Checks the caller's role on the gateway of the object and opens the audit entry of a write. The required role is
    /// `role`, or that of the method if it is higher.
    pub async fn authorize_on_gateway(&self, gateway: GatewayId, role: Role) -> Result<Ctx, Error> {
        let missing = || Error::not_found(ResourceKind::Gateway, gateway);
        let name = self.app().snapshot.gateway_name(gateway).ok_or_else(missing)?;
        let held = self.app().snapshot.role_on(self.principal()?, gateway);
        self.authorize(RoleScope::Gateway(gateway), GatewayRef { id: gateway, name }, held, role)
            .await
    }

    /// Checks the caller for an object that has an owner and is retained when its gateway is unregistered. The owner
    /// needs no role: its [`Ctx`] has the role that it currently holds on the gateway, possibly [`Role::None`]. If the
    /// gateway is unregistered, only global admins can access the objects of others.
    pub async fn authorize_for_owner(
        &self,
        owner: Option<PrincipalId>,
        gateway: GatewayRef,
        role: Role,
    ) -> Result<Ctx, Error> {
        let principal = self.principal()?;
        let held = self.app().snapshot.role_on_maybe_removed(principal, gateway.id);
        let role = if owner == Some(principal) { Role::None } else { role.max(Role::Viewer) };
        self.authorize(RoleScope::MaybeRemovedGateway(gateway.id), gateway, held, role).await
    }

    fn principal(&self) -> Result<PrincipalId, Error> {
        self.ctx.principal().ok_or_else(|| Error::internal("no caller"))
    }

    fn authorize(
        &self,
        scope: RoleScope,
        gateway: GatewayRef,
        held: Role,
        role: Role,
    ) -> BoxFuture<'_, Result<Ctx, Error>> {
        Box::pin(async move {
            let needed = role.max(self.min_role);
            if held == Role::None && needed > Role::None {
                return Err(Error::not_found(ResourceKind::Gateway, gateway.id));
            }
            require_role(held, needed, Some(&gateway.name))?;
            let caller = self.ctx.caller().cloned().ok_or_else(|| Error::internal("no caller"))?;
            let mut ctx = Ctx { gateway: Some(gateway.clone()), role: held, ..self.ctx.clone() };
            if let Some(call) = &self.ctx.call {
                call.note.lock().object_access = Some(ObjectAccess { gateway: gateway.id, needed });
            }
            if self.method.audit == AuditMode::Write {
                open_audit_entry(&ctx, self.about.clone(), self.digest.clone()).await?;
            }
            // Loading the object and storing the intent may have taken a while.
            let access_check = AccessCheck::new(caller, scope, needed);
            let role = access_check.role(&self.app().snapshot);
            ctx.role = role.map_err(|ended| lost_access_error(ended, Some(gateway.id)))?;
            Ok(ctx)
        })
    }
}
