//! Effective roles inside the transaction that changes them (T06).
//!
//! A change is allowed or denied by the role that results, not by the binding that it writes: a binding can also lower
//! the role of its holder, so that removing it raises the role to that of a group or of a selector.
//!
//! Invariants
//! - roles are read from the database, inside the transaction and after [`lock`]: neither a stale snapshot nor a
//!   concurrent change can lead to a wrong decision;
//! - the caller's own role is read there, too: an admin who was demoted in the meantime can change nothing more.

pub mod store;

use super::domain::{Holder, HolderKind};
use crate::access::principal::PrincipalId;
use crate::access::roles::{self, HolderRoles};
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::db::types::GatewayId;
use crate::error::{Error, Reason};
use crate::role::Role;
use futures_util::future::BoxFuture;

/// Takes the lock for changes of access. Must come first in the transaction: data that was read before it may be stale.
pub async fn lock(conn: &mut Conn) -> Result<(), Error> {
    store::lock(conn).await
}

/// Takes the lock for changes of access and requires that the caller is a global admin.
///
/// # Errors
/// `ROLE_TOO_LOW` if the caller is no longer a global admin, `CREDENTIAL_INVALID` if it can no longer make calls.
pub fn lock_as_global_admin<'a>(
    ctx: &'a Ctx,
    conn: &'a mut Conn,
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(async move { CallerRoles::lock_and_load(ctx, conn).await?.require_global_admin() })
}

/// Requires that the caller is a global admin. Must be called after [`lock`].
///
/// # Errors
/// The same as [`lock_as_global_admin`].
pub fn require_global_admin<'a>(
    ctx: &'a Ctx,
    conn: &'a mut Conn,
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(async move { CallerRoles::load(ctx, conn, None).await?.require_global_admin() })
}

/// Returns the principal whose own role a transaction reads among its first statements, after the shared lock: see
/// [`is_global_admin`]. `None` for the server itself.
///
/// # Errors
/// `CREDENTIAL_INVALID` if the caller has no account.
pub fn principal_to_check(ctx: &Ctx) -> Result<Option<PrincipalId>, Error> {
    if ctx.is_system() {
        return Ok(None);
    }
    ctx.principal().map(Some).ok_or_else(unknown_caller)
}

/// Returns whether the caller is a global admin, for a change that relies on roles and changes none. Such changes can
/// run at the same time, but not at the time of a change of access: the first statements of their transaction take the
/// lock in [`LockMode::Shared`](store::LockMode::Shared) and then read `own`, the role of the caller without
/// its groups.
///
/// # Errors
/// `CREDENTIAL_INVALID` if the caller can no longer make calls.
pub fn is_global_admin<'a>(
    ctx: &'a Ctx,
    conn: &'a mut Conn,
    own: Option<store::OwnRole>,
) -> BoxFuture<'a, Result<bool, Error>> {
    Box::pin(async move {
        let Some(principal) = principal_to_check(ctx)? else { return Ok(true) };
        let roles = CallerRoles::after_lock(ctx, conn, principal, own).await?;
        Ok(roles.global == Role::Admin)
    })
}

/// The caller's roles in the database.
#[derive(Debug, Clone, Copy)]
struct CallerRoles {
    global: Role,
    /// Role on the gateway of the change; the global role if there is no gateway.
    here: Role,
}

impl CallerRoles {
    const SYSTEM: Self = Self { global: Role::Admin, here: Role::Admin };

    async fn load(ctx: &Ctx, conn: &mut Conn, gateway: Option<GatewayId>) -> Result<Self, Error> {
        if ctx.is_system() {
            return Ok(Self::SYSTEM);
        }
        // Waiting for the lock may have taken long.
        ctx.recheck()?;
        let principal = ctx.principal().ok_or_else(unknown_caller)?;
        let own = store::own_role(conn, principal).await?;
        let own = own.filter(|own| own.can_call(ctx.now())).ok_or_else(unknown_caller)?;
        Self::with_groups(conn, principal, own, gateway).await
    }

    /// Takes the exclusive lock, and then loads the global roles of the caller: its own and those of its groups.
    async fn lock_and_load(ctx: &Ctx, conn: &mut Conn) -> Result<Self, Error> {
        let Some(principal) = principal_to_check(ctx)? else {
            store::lock(conn).await?;
            return Ok(Self::SYSTEM);
        };
        let own = store::lock_and_own_role(conn, principal).await?;
        Self::after_lock(ctx, conn, principal, own).await
    }

    /// Loads the global roles of the caller. The transaction holds the lock and has read `own`, the role of the caller
    /// without its groups.
    async fn after_lock(
        ctx: &Ctx,
        conn: &mut Conn,
        principal: PrincipalId,
        own: Option<store::OwnRole>,
    ) -> Result<Self, Error> {
        // Waiting for the lock may have taken long.
        ctx.recheck()?;
        let own = own.filter(|own| own.can_call(ctx.now())).ok_or_else(unknown_caller)?;
        Self::with_groups(conn, principal, own, None).await
    }

    async fn with_groups(
        conn: &mut Conn,
        principal: PrincipalId,
        own: store::OwnRole,
        gateway: Option<GatewayId>,
    ) -> Result<Self, Error> {
        let groups = groups_of(conn, principal).await?;
        let global = roles::global_role(own.role, groups.iter().map(|(_, role)| *role));
        let here = match gateway {
            // Bindings do not apply to a global admin.
            Some(gateway) if global != Role::Admin => {
                effective_role_on(conn, principal, own.role, &groups, gateway).await?
            }
            Some(_) | None => global,
        };
        Ok(Self { global, here })
    }

    fn require_global_admin(self) -> Result<(), Error> {
        if self.global == Role::Admin {
            return Ok(());
        }
        let why = format!("role `admin` is needed globally, the caller has `{}`", self.global);
        Err(Error::Denied { why })
    }
}

fn unknown_caller() -> Error {
    Error::Unauthenticated { reason: Reason::CredentialInvalid }
}

async fn groups_of(conn: &mut Conn, principal: PrincipalId) -> Result<Vec<(i64, Role)>, Error> {
    match principal {
        PrincipalId::User(id) => store::groups_of(conn, id).await,
        PrincipalId::ServicePrincipal(_) => Ok(Vec::new()),
    }
}

/// Returns the effective role on a gateway of a principal with this own role and these groups.
async fn effective_role_on(
    conn: &mut Conn,
    principal: PrincipalId,
    role: Role,
    groups: &[(i64, Role)],
    gateway: GatewayId,
) -> Result<Role, Error> {
    let labels = store::labels(conn, gateway).await?;
    let (kind, id) = match principal {
        PrincipalId::User(id) => (HolderKind::User, id.get()),
        PrincipalId::ServicePrincipal(id) => (HolderKind::ServicePrincipal, id.get()),
    };
    let share = |role: Role, bound: Option<store::BoundRoles>| {
        let store::BoundRoles { direct, matching } = bound.unwrap_or_default();
        HolderRoles { role, direct, matching }
    };
    let own = store::bound_roles(conn, kind, &[id], gateway, &labels).await?.remove(&id);
    let ids: Vec<i64> = groups.iter().map(|(id, _)| *id).collect();
    let mut bound = store::bound_roles(conn, HolderKind::Group, &ids, gateway, &labels).await?;
    let groups = groups.iter().map(|(id, role)| share(*role, bound.remove(id)));
    Ok(roles::effective_role(&share(role, own), &groups.collect::<Vec<_>>()))
}

/// Returns the effective role of a principal on a gateway, whether or not it can make calls: a deactivated account
/// keeps its roles.
async fn effective_role(
    conn: &mut Conn,
    principal: PrincipalId,
    gateway: GatewayId,
) -> Result<Role, Error> {
    let own = store::own_role(conn, principal).await?;
    let own = own.map_or(Role::None, |own| own.role);
    let groups = groups_of(conn, principal).await?;
    effective_role_on(conn, principal, own, &groups, gateway).await
}

/// State before a change of one holder's binding on one gateway.
#[derive(Debug)]
#[must_use = "after the change it goes to `allow`"]
pub struct RoleBefore {
    power: CallerRoles,
    principal: PrincipalId,
    gateway: GatewayId,
    role: Role,
}

/// Reads the effective role before a change, and rejects a change that the caller cannot make with any result. A
/// binding of a group or by selector affects more than one principal or gateway: it requires a global admin. A global
/// admin can make every change, so no further check is needed, and `None` is returned.
///
/// # Errors
/// `ROLE_TOO_LOW`; `CREDENTIAL_INVALID` if the caller can no longer make calls.
pub fn check_before<'a>(
    ctx: &'a Ctx,
    conn: &'a mut Conn,
    holder: Holder,
    gateway: Option<GatewayId>,
    written: Role,
) -> BoxFuture<'a, Result<Option<RoleBefore>, Error>> {
    Box::pin(async move {
        let (Some(principal), Some(gateway)) = (holder.principal(), gateway) else {
            require_global_admin(ctx, conn).await?;
            return Ok(None);
        };
        let roles = CallerRoles::load(ctx, conn, Some(gateway)).await?;
        if roles.global == Role::Admin {
            return Ok(None);
        }
        let role = effective_role(conn, principal, gateway).await?;
        check_change(roles.global == Role::Admin, roles.here, [role, role], written)?;
        Ok(Some(RoleBefore { power: roles, principal, gateway, role }))
    })
}

impl RoleBefore {
    /// Reads the effective role after the change, and rejects a change that the caller cannot make. The transaction
    /// must then be rolled back.
    ///
    /// # Errors
    /// `ROLE_TOO_LOW`.
    pub fn check_after(self, conn: &mut Conn, written: Role) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let after = effective_role(conn, self.principal, self.gateway).await?;
            let CallerRoles { global, here } = self.power;
            check_change(global == Role::Admin, here, [self.role, after], written)
        })
    }
}

/// Decides whether a caller can make a change of a binding. `roles` are the holder's effective roles before and after
/// it; `written` is the role of the binding that is written or removed. No I/O.
fn check_change(
    caller_is_global_admin: bool,
    caller_role: Role,
    roles: [Role; 2],
    written: Role,
) -> Result<(), Error> {
    if caller_is_global_admin {
        return Ok(());
    }
    if caller_role < Role::Admin {
        let why = format!("role `admin` is needed on the gateway, the caller has `{caller_role}`");
        return Err(Error::Denied { why });
    }
    if written == Role::Admin || roles.contains(&Role::Admin) {
        let why = "only a global admin can set or remove the role `admin`, or change a binding of a subject that is \
                   admin on the gateway before or after the change";
        return Err(Error::Denied { why: why.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Role::{Admin, None as Nothing, Operator, Viewer};
    use super::*;

    #[test]
    fn t06_a_gateway_admin_can_neither_create_nor_change_admins() {
        // global admin, caller's role, role before, role after, role written or removed -> allowed
        let table = [
            (true, Admin, [Admin, Admin], Admin, true),
            (true, Admin, [Viewer, Admin], Viewer, true),
            (false, Admin, [Nothing, Viewer], Viewer, true),
            (false, Admin, [Operator, Nothing], Operator, true),
            (false, Admin, [Viewer, Operator], Viewer, true),
            (false, Admin, [Viewer, Admin], Admin, false),
            // Removing a `viewer` binding makes the binding of a group effective.
            (false, Admin, [Viewer, Admin], Viewer, false),
            (false, Admin, [Nothing, Admin], Nothing, false),
            // The holder is an admin and would lose that role.
            (false, Admin, [Admin, Viewer], Viewer, false),
            (false, Admin, [Admin, Nothing], Nothing, false),
            // Not effective, but written.
            (false, Admin, [Viewer, Viewer], Admin, false),
            (false, Operator, [Nothing, Viewer], Viewer, false),
            (false, Viewer, [Nothing, Nothing], Nothing, false),
            (false, Nothing, [Nothing, Nothing], Nothing, false),
        ];
        for (global, caller, roles, written, allowed) in table {
            let decided = check_change(global, caller, roles, written).is_ok();
            assert_eq!(decided, allowed, "{global} {caller} {roles:?} {written}");
        }
    }

    fn maybe() -> impl Iterator<Item = Option<Role>> + Clone {
        std::iter::once(None).chain(Role::ALL.map(Some))
    }

    /// Returns every holder with at most one selector and one group, which has at most one binding of each kind.
    fn holders() -> impl Iterator<Item = (HolderRoles, Vec<HolderRoles>)> {
        let share = |role, direct, by: Option<Role>| HolderRoles {
            role,
            direct,
            matching: by.into_iter().collect(),
        };
        let shares = move || {
            Role::ALL.into_iter().flat_map(move |role| {
                maybe().flat_map(move |direct| maybe().map(move |by| share(role, direct, by)))
            })
        };
        shares().flat_map(move |own| {
            let grouped = shares().map(|group| vec![group]);
            std::iter::once(vec![]).chain(grouped).map(move |groups| (own.clone(), groups))
        })
    }

    #[test]
    fn t06_no_change_by_a_gateway_admin_adds_or_removes_an_admin_role() {
        let (mut allowed, mut lifted) = (0_u32, 0_u32);
        for (own, groups) in holders() {
            let before = roles::effective_role(&own, &groups);
            for direct in maybe().filter(|direct| *direct != own.direct) {
                let after = roles::effective_role(&HolderRoles { direct, ..own.clone() }, &groups);
                let written = direct.or(own.direct).unwrap_or(Nothing);
                let decided = check_change(false, Admin, [before, after], written).is_ok();
                let touches = before == Admin || after == Admin;
                assert!(!(decided && touches), "{own:?} {groups:?} -> {direct:?}");
                // Nothing else is rejected: a gateway admin stays admin of its own gateway.
                let plain = !touches && written != Admin;
                assert_eq!(decided, plain, "{own:?} {groups:?} -> {direct:?}");
                allowed += u32::from(decided);
                lifted += u32::from(after == Admin && direct.is_none());
            }
        }
        assert!(allowed > 1_000 && lifted > 100, "{allowed} {lifted}");
    }
}
