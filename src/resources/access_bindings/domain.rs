//! Roles on gateways: who may give which, and to whom.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::feed;
use super::store::{self, Filter};
use crate::access::principal::PrincipalId;
use crate::access::roles::Role;
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::db::page::{PageScope, PageSize, PageToken};
use crate::db::types::{GatewayId, ServicePrincipalId, UserId};
use crate::error::{Error, Kind};
use crate::resources::events::domain::{self as events, NewEvent};
use crate::transport::call::etag;

/// A holder of a role, as a caller names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// By e-mail address.
    User(String),
    /// By name.
    ServicePrincipal(String),
}

impl Subject {
    /// As audit log and events show it.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::User(email) => email.clone(),
            Self::ServicePrincipal(name) => format!("sp:{name}"),
        }
    }
}

/// A holder of a role, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// A user.
    User(UserId),
    /// A service principal.
    ServicePrincipal(ServicePrincipalId),
}

impl Holder {
    fn principal(self) -> PrincipalId {
        match self {
            Self::User(id) => PrincipalId::User(id),
            Self::ServicePrincipal(id) => PrincipalId::ServicePrincipal(id),
        }
    }

    /// As the change log names it.
    #[must_use]
    pub fn changed(self) -> feed::Subject {
        match self {
            Self::User(id) => feed::Subject::User(id),
            Self::ServicePrincipal(id) => feed::Subject::ServicePrincipal(id),
        }
    }
}

/// A role on a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Who holds it.
    pub subject: Subject,
    /// Name of the gateway.
    pub gateway: String,
    /// The role.
    pub role: Role,
    /// Its version.
    pub version: i64,
}

async fn holder(conn: &mut Conn, subject: &Subject) -> Result<Holder, Error> {
    match subject {
        Subject::User(email) => {
            let email = email.trim().to_lowercase();
            let found = store::user_by_email(conn, &email).await?;
            found.map(Holder::User).ok_or_else(|| Error::missing(Kind::User, email))
        }
        Subject::ServicePrincipal(name) => {
            let found = store::service_principal_by_name(conn, name).await?;
            found
                .map(Holder::ServicePrincipal)
                .ok_or_else(|| Error::missing(Kind::ServicePrincipal, name))
        }
    }
}

/// Whether this caller may change the role of that holder to, or from, `role`. Pure.
fn may_change(
    caller_is_global_admin: bool,
    caller_role: Role,
    holder_role: Role,
    role: Role,
) -> Result<(), Error> {
    if caller_is_global_admin {
        return Ok(());
    }
    if role == Role::Admin || holder_role == Role::Admin {
        let why = "a role of an admin, or the role `admin`, is changed by a global admin only";
        return Err(Error::Denied { why: why.to_owned() });
    }
    if role > caller_role {
        let why = format!("role `{role}` is above the caller's own, `{caller_role}`");
        return Err(Error::Denied { why });
    }
    Ok(())
}

fn holder_role(ctx: &Ctx, holder: Holder, gateway: GatewayId) -> Role {
    let snapshot = &ctx.app().snapshot;
    snapshot.role_on(holder.principal(), gateway).max(snapshot.global_role(holder.principal()))
}

/// Gives a role on the gateway of the call, in place of the one that stood there.
pub async fn set(
    ctx: &Ctx,
    subject: Subject,
    role: Role,
    given_etag: &str,
) -> Result<Binding, Error> {
    let (gateway, name) = ctx.on_gateway()?.clone();
    ctx.detail("subject", subject.shown());
    ctx.detail("role", role.as_str());
    let now = ctx.now();
    let version = ctx
        .db()
        .transaction(async |conn| {
            let holder = holder(conn, &subject).await?;
            let held = holder_role(ctx, holder, gateway);
            may_change(ctx.is_global_admin(), ctx.role(), held, role)?;
            let stands = store::get(conn, holder, gateway).await?;
            let conflict = || Error::conflict(Kind::GatewayRole, subject.shown());
            let version = match stands {
                Some((_, version)) => {
                    etag::check(given_etag, version, Kind::GatewayRole, subject.shown())?;
                    if !store::update(conn, holder, gateway, role, version).await? {
                        return Err(conflict());
                    }
                    version + 1
                }
                None if !given_etag.is_empty() => return Err(conflict()),
                None => {
                    store::insert(conn, holder, gateway, role).await?;
                    1
                }
            };
            let payload =
                json!({ "gateway": &*name, "subject": subject.shown(), "role": role.as_str() });
            events::enqueue(conn, NewEvent::of(ctx, "gateway_role.set", payload)).await?;
            feed::store::log_change(conn, holder.changed(), now).await?;
            Ok(version)
        })
        .await?;
    changed(ctx).await?;
    Ok(Binding { subject, gateway: name.to_string(), role, version })
}

/// Takes a role on the gateway of the call away.
pub async fn remove(ctx: &Ctx, subject: Subject, given_etag: &str) -> Result<(), Error> {
    let (gateway, name) = ctx.on_gateway()?.clone();
    ctx.detail("subject", subject.shown());
    let now = ctx.now();
    ctx.db()
        .transaction(async |conn| {
            let holder = holder(conn, &subject).await?;
            let held = holder_role(ctx, holder, gateway);
            let missing = || Error::missing(Kind::GatewayRole, subject.shown());
            let (role, version) = store::get(conn, holder, gateway).await?.ok_or_else(missing)?;
            may_change(ctx.is_global_admin(), ctx.role(), held, role)?;
            etag::check(given_etag, version, Kind::GatewayRole, subject.shown())?;
            if !store::delete(conn, holder, gateway, version).await? {
                return Err(Error::conflict(Kind::GatewayRole, subject.shown()));
            }
            let payload = json!({ "gateway": &*name, "subject": subject.shown() });
            events::enqueue(conn, NewEvent::of(ctx, "gateway_role.removed", payload)).await?;
            feed::store::log_change(conn, holder.changed(), now).await
        })
        .await?;
    changed(ctx).await
}

/// What follows on a committed change of access: it is in the snapshot before it is answered, and events wake.
pub async fn changed(ctx: &Ctx) -> Result<(), Error> {
    ctx.app().feed.written();
    feed::refresh(ctx.app()).await
}

#[derive(Debug, Serialize, Deserialize)]
struct Position {
    service_principals: bool,
    gateway: String,
    name: String,
}

/// Roles, those of users first, each by gateway and name. Without a gateway in the scope they are those of all.
pub async fn list(
    ctx: &Ctx,
    subject: Option<Subject>,
    size: PageSize,
    token: &str,
) -> Result<(Vec<Binding>, String), Error> {
    let gateway = ctx.gateway().map(|(id, _)| *id);
    let shown = subject.as_ref().map(Subject::shown).unwrap_or_default();
    let question = format!("{gateway:?} {shown}");
    let principal = ctx.principal_text();
    let scope = PageScope {
        method: "ListGatewayRoles",
        principal: &principal,
        filter: question.as_bytes(),
        order: "kind, gateway, name",
    };
    let key = &ctx.app().page_key;
    let after = PageToken::<Position>::open(key, &scope, token)?;
    let after = after.as_ref().map(PageToken::position);
    let mut conn = ctx.db().read().await?;
    let holder = match &subject {
        None => None,
        Some(subject) => Some(holder(&mut conn, subject).await?),
    };
    let filter = Filter { gateway, holder };
    let mut found = Vec::new();
    let position = |after: &Position| (after.gateway.clone(), after.name.clone());
    if !after.is_some_and(|a| a.service_principals)
        && !matches!(holder, Some(Holder::ServicePrincipal(_)))
    {
        let from = after.map(position);
        let from = from.as_ref().map(|(g, n)| (g.as_str(), n.as_str()));
        found = store::page_of_users(&mut conn, filter, from, size.limit()).await?;
    }
    let room = size.limit() - i64::try_from(found.len()).unwrap_or(i64::MAX);
    if room > 0 && !matches!(holder, Some(Holder::User(_))) {
        let from = after.filter(|a| a.service_principals).map(position);
        let from = from.as_ref().map(|(g, n)| (g.as_str(), n.as_str()));
        found.extend(store::page_of_service_principals(&mut conn, filter, from, room).await?);
    }
    let (found, more) = size.cut(found);
    let next = match found.last().filter(|_| more) {
        None => String::new(),
        Some(last) => {
            let (service_principals, name) = match &last.subject {
                Subject::User(email) => (false, email.clone()),
                Subject::ServicePrincipal(name) => (true, name.clone()),
            };
            PageToken::after(Position { service_principals, gateway: last.gateway.clone(), name })
                .seal(key, &scope)?
        }
    };
    Ok((found, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t06_a_gateways_admin_neither_makes_nor_touches_admins() {
        use Role::{Admin, None as Nothing, Operator, Viewer};
        // global admin, caller's role, holder's role, role -> allowed
        let table = [
            (true, Admin, Admin, Admin, true),
            (true, Admin, Viewer, Admin, true),
            (false, Admin, Viewer, Operator, true),
            (false, Admin, Operator, Nothing, true),
            (false, Admin, Viewer, Admin, false),
            (false, Admin, Admin, Viewer, false),
            (false, Admin, Admin, Nothing, false),
            (false, Operator, Viewer, Operator, true),
            (false, Viewer, Viewer, Operator, false),
        ];
        for (global, caller, holder, role, allowed) in table {
            let decided = may_change(global, caller, holder, role).is_ok();
            assert_eq!(decided, allowed, "{global} {caller} {holder} {role}");
        }
    }
}
