//! Effective roles inside the transaction that changes them (T06).
//!
//! A change is judged by the role that results, not by the binding that it writes: a binding may also hold its holder
//! down, so that removing it raises the role to that of a group or of a selector.
//!
//! Invariants
//! - roles are read from the database, inside the transaction and after [`turn`]: neither a snapshot that lags behind
//!   nor a change that runs at the same time is missed;
//! - the caller's own role is read there, too: an admin who was demoted meanwhile changes nothing more.

pub mod store;

use super::domain::{Holder, HolderKind};
use crate::access::principal::PrincipalId;
use crate::access::roles::{self, Share};
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::db::types::GatewayId;
use crate::error::{Error, Reason};
use crate::role::Role;

/// Waits for the turn to change anybody's access. The first thing in the transaction: what was read before it may have
/// changed.
pub async fn turn(conn: &mut Conn) -> Result<(), Error> {
    store::lock_admins(conn).await
}

/// Waits for the turn and requires that the caller is a global admin then.
///
/// # Errors
/// `ROLE_TOO_LOW` if the caller is no global admin any more, `CREDENTIAL_INVALID` if it can no longer call.
pub async fn turn_of_global_admin(ctx: &Ctx, conn: &mut Conn) -> Result<(), Error> {
    turn(conn).await?;
    require_global_admin(ctx, conn).await
}

/// Requires that the caller is a global admin. Called after [`turn`].
///
/// # Errors
/// As [`turn_of_global_admin`].
pub async fn require_global_admin(ctx: &Ctx, conn: &mut Conn) -> Result<(), Error> {
    let held = Power::of(ctx, conn, None).await?.global;
    if held == Role::Admin {
        return Ok(());
    }
    let why = format!("role `admin` is needed globally, the caller has `{held}`");
    Err(Error::Denied { why })
}

/// Whether the caller is a global admin. Called after [`turn`].
///
/// # Errors
/// `CREDENTIAL_INVALID` if the caller can no longer call.
pub async fn is_global_admin(ctx: &Ctx, conn: &mut Conn) -> Result<bool, Error> {
    Ok(Power::of(ctx, conn, None).await?.global == Role::Admin)
}

/// The roles of the caller as the database has them.
#[derive(Debug, Clone, Copy)]
struct Power {
    global: Role,
    /// On the gateway of the change; the global role if there is none.
    here: Role,
}

impl Power {
    async fn of(ctx: &Ctx, conn: &mut Conn, gateway: Option<GatewayId>) -> Result<Self, Error> {
        if ctx.is_system() {
            return Ok(Self { global: Role::Admin, here: Role::Admin });
        }
        let gone = || Error::Unauthenticated { reason: Reason::CredentialInvalid };
        // The turn may have been long in coming.
        ctx.recheck()?;
        let principal = ctx.principal().ok_or_else(gone)?;
        let own = store::own(conn, principal, ctx.now()).await?;
        let own = own.filter(|own| own.can_call).ok_or_else(gone)?;
        let groups = groups_of(conn, principal).await?;
        let global = roles::global(own.role, groups.iter().map(|(_, role)| *role));
        let here = match gateway {
            None => global,
            Some(gateway) => on_gateway(conn, principal, own.role, &groups, gateway).await?,
        };
        Ok(Self { global, here })
    }
}

async fn groups_of(conn: &mut Conn, principal: PrincipalId) -> Result<Vec<(i64, Role)>, Error> {
    match principal {
        PrincipalId::User(id) => store::groups_of(conn, id).await,
        PrincipalId::ServicePrincipal(_) => Ok(Vec::new()),
    }
}

/// The effective role on a gateway of a principal with this role of its own and these groups.
async fn on_gateway(
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
    let share = |role: Role, bound: Option<store::Bound>| {
        let store::Bound { direct, matching } = bound.unwrap_or_default();
        Share { role, direct, matching }
    };
    let own = store::bound(conn, kind, &[id], gateway, &labels).await?.remove(&id);
    let ids: Vec<i64> = groups.iter().map(|(id, _)| *id).collect();
    let mut bound = store::bound(conn, HolderKind::Group, &ids, gateway, &labels).await?;
    let groups = groups.iter().map(|(id, role)| share(*role, bound.remove(id)));
    Ok(roles::effective(&share(role, own), &groups.collect::<Vec<_>>()))
}

/// The effective role of a principal on a gateway, whether or not it can call: an account that is switched off keeps its
/// roles.
async fn role_of(
    ctx: &Ctx,
    conn: &mut Conn,
    principal: PrincipalId,
    gateway: GatewayId,
) -> Result<Role, Error> {
    let own = store::own(conn, principal, ctx.now()).await?;
    let own = own.map_or(Role::None, |own| own.role);
    let groups = groups_of(conn, principal).await?;
    on_gateway(conn, principal, own, &groups, gateway).await
}

/// A change of the binding of one holder on one gateway, before it is made.
#[derive(Debug)]
#[must_use = "after the change it goes to `allow`"]
pub struct Before {
    power: Power,
    principal: PrincipalId,
    gateway: GatewayId,
    role: Role,
}

/// Reads the effective role before a change, and refuses a change that is not the caller's to make, whatever results. A
/// binding of a group, and one by selector, affects more than one principal or gateway: a global admin changes it,
/// and there is nothing more to check.
///
/// # Errors
/// `ROLE_TOO_LOW`; `CREDENTIAL_INVALID` if the caller can no longer call.
pub async fn before(
    ctx: &Ctx,
    conn: &mut Conn,
    holder: Holder,
    gateway: Option<GatewayId>,
    written: Role,
) -> Result<Option<Before>, Error> {
    let (Some(principal), Some(gateway)) = (holder.principal(), gateway) else {
        require_global_admin(ctx, conn).await?;
        return Ok(None);
    };
    let power = Power::of(ctx, conn, Some(gateway)).await?;
    let role = role_of(ctx, conn, principal, gateway).await?;
    may_change(power.global == Role::Admin, power.here, [role, role], written)?;
    Ok(Some(Before { power, principal, gateway, role }))
}

impl Before {
    /// Reads the effective role after the change, and refuses a change that the caller may not make. The transaction
    /// must then be rolled back.
    ///
    /// # Errors
    /// `ROLE_TOO_LOW`.
    pub async fn allow(self, ctx: &Ctx, conn: &mut Conn, written: Role) -> Result<(), Error> {
        let after = role_of(ctx, conn, self.principal, self.gateway).await?;
        let Power { global, here } = self.power;
        may_change(global == Role::Admin, here, [self.role, after], written)
    }
}

/// Whether a caller may make a change of a binding. `roles` are the holder's effective roles before and after it;
/// `written` is the role of the binding that is written or removed. Pure.
fn may_change(
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
        let why = "only a global admin can change a binding that makes its holder an admin, or that keeps the holder \
                   from being one";
        return Err(Error::Denied { why: why.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Role::{Admin, None as Nothing, Operator, Viewer};
    use super::*;

    #[test]
    fn t06_a_gateways_admin_neither_makes_nor_touches_admins() {
        // global admin, caller's role, role before, role after, role written or removed -> allowed
        let table = [
            (true, Admin, [Admin, Admin], Admin, true),
            (true, Admin, [Viewer, Admin], Viewer, true),
            (false, Admin, [Nothing, Viewer], Viewer, true),
            (false, Admin, [Operator, Nothing], Operator, true),
            (false, Admin, [Viewer, Operator], Viewer, true),
            (false, Admin, [Viewer, Admin], Admin, false),
            // Removing a `viewer` binding makes the binding of a group count.
            (false, Admin, [Viewer, Admin], Viewer, false),
            (false, Admin, [Nothing, Admin], Nothing, false),
            // The holder is an admin, and would be none.
            (false, Admin, [Admin, Viewer], Viewer, false),
            (false, Admin, [Admin, Nothing], Nothing, false),
            // Not effective, but written.
            (false, Admin, [Viewer, Viewer], Admin, false),
            (false, Operator, [Nothing, Viewer], Viewer, false),
            (false, Viewer, [Nothing, Nothing], Nothing, false),
            (false, Nothing, [Nothing, Nothing], Nothing, false),
        ];
        for (global, caller, roles, written, allowed) in table {
            let decided = may_change(global, caller, roles, written).is_ok();
            assert_eq!(decided, allowed, "{global} {caller} {roles:?} {written}");
        }
    }

    fn maybe() -> impl Iterator<Item = Option<Role>> + Clone {
        std::iter::once(None).chain(Role::ALL.map(Some))
    }

    /// Every holder with at most one selector and one group, which has at most one binding of each kind.
    fn holders() -> impl Iterator<Item = (Share, Vec<Share>)> {
        let share = |role, direct, by: Option<Role>| Share {
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
    fn t06_no_change_by_a_gateways_admin_makes_or_unmakes_an_admin() {
        let (mut allowed, mut lifted) = (0_u32, 0_u32);
        for (own, groups) in holders() {
            let before = roles::effective(&own, &groups);
            for direct in maybe().filter(|direct| *direct != own.direct) {
                let after = roles::effective(&Share { direct, ..own.clone() }, &groups);
                let written = direct.or(own.direct).unwrap_or(Nothing);
                let decided = may_change(false, Admin, [before, after], written).is_ok();
                let touches = before == Admin || after == Admin;
                assert!(!(decided && touches), "{own:?} {groups:?} -> {direct:?}");
                // Nothing else is refused: a gateway's admin stays admin of its own gateway.
                let plain = !touches && written != Admin;
                assert_eq!(decided, plain, "{own:?} {groups:?} -> {direct:?}");
                allowed += u32::from(decided);
                lifted += u32::from(after == Admin && direct.is_none());
            }
        }
        assert!(allowed > 1_000 && lifted > 100, "{allowed} {lifted}");
    }
}
