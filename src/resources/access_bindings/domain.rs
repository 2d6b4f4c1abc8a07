//! Roles on gateways: which caller can grant which role, to which subject and where.

use serde_json::{Value, json};

use super::effect;
use super::store::{self, ScopeRef};
use crate::access::principal::PrincipalId;
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::db::types::{GatewayId, GatewayRef};
use crate::error::{Error, Reason, ResourceKind};
use crate::etag;
use crate::labels::Selector;
use crate::names::fold_address;
use crate::outbox::event_types;
use crate::outbox::{self};
use crate::role::Role;
use crate::words;

/// Maximum number of roles by selector per subject: each is evaluated at each call of the subject.
pub const SELECTORS_MAX: i64 = 32;
/// Maximum length of a selector, in bytes: the limit of a PostgreSQL index.
pub const SELECTOR_BYTES_MAX: usize = 2_000;

words! {
    /// Kinds of subjects, in the order of lists.
    pub enum HolderKind {
        /// User, identified by e-mail address.
        User = "user",
        /// Service principal.
        ServicePrincipal = "service_principal",
        /// Group; its roles apply to its members.
        Group = "group",
    }
}

impl HolderKind {
    /// Returns the kind used in errors.
    #[must_use]
    pub fn resource_kind(self) -> ResourceKind {
        match self {
            Self::User => ResourceKind::User,
            Self::ServicePrincipal => ResourceKind::ServicePrincipal,
            Self::Group => ResourceKind::Group,
        }
    }
}

/// A subject as named in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Kind.
    pub kind: HolderKind,
    /// Name; for a user, the e-mail address.
    pub name: String,
}

impl Subject {
    /// Builds a subject from a request. The e-mail address of a user is converted to the form in which it is stored.
    #[must_use]
    pub fn new(kind: HolderKind, name: &str) -> Self {
        let name = match kind {
            HolderKind::User => fold_address(name),
            HolderKind::ServicePrincipal | HolderKind::Group => name.to_owned(),
        };
        Self { kind, name }
    }

    /// Returns the form used in the audit log and in events.
    #[must_use]
    pub fn display_name(&self) -> String {
        match self.kind {
            HolderKind::User => self.name.clone(),
            HolderKind::ServicePrincipal => format!("sp:{}", self.name),
            HolderKind::Group => format!("group:{}", self.name),
        }
    }
}

/// A subject by its permanent id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Kind.
    pub kind: HolderKind,
    /// Id.
    pub id: i64,
}

impl Holder {
    /// Returns the principal. `None` for a group, which cannot make calls.
    #[must_use]
    pub fn principal(self) -> Option<PrincipalId> {
        match self.kind {
            HolderKind::User => Some(PrincipalId::User(self.id.into())),
            HolderKind::ServicePrincipal => Some(PrincipalId::ServicePrincipal(self.id.into())),
            HolderKind::Group => None,
        }
    }

    /// Returns the subject for the change log.
    #[must_use]
    pub fn access_subject(self) -> outbox::AccessSubject {
        match self.kind {
            HolderKind::User => outbox::AccessSubject::User(self.id.into()),
            HolderKind::ServicePrincipal => outbox::AccessSubject::ServicePrincipal(self.id.into()),
            HolderKind::Group => outbox::AccessSubject::Group(self.id.into()),
        }
    }
}

/// Where a role applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// On the gateway of this name.
    Gateway(String),
    /// On all gateways that this selector matches, in canonical form.
    Selector(String),
}

/// A role on gateways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Subject that has the role.
    pub subject: Subject,
    /// Where it applies.
    pub scope: Scope,
    /// Role.
    pub role: Role,
    /// Version.
    pub version: i64,
}

/// Returns the holder for a subject, or `Missing` if it does not exist.
pub async fn find_holder(conn: &mut Conn, subject: &Subject) -> Result<Holder, Error> {
    let found = store::find_holder(conn, subject.kind, &subject.name).await?;
    found.ok_or_else(|| Error::not_found(subject.kind.resource_kind(), &subject.name))
}

/// Where the role of a request applies: on the gateway that was authorized, or on the gateways that a selector matches.
#[derive(Debug)]
enum RequestedScope {
    Gateway(GatewayRef),
    Selector(String),
}

impl RequestedScope {
    fn from_request(ctx: &Ctx, selector: &str) -> Result<Self, Error> {
        match (ctx.gateway(), selector) {
            (Some(gateway), "") => Ok(Self::Gateway(gateway.clone())),
            (Some(_), _) | (None, "") => {
                Err(Error::invalid("gateway", "or `selector` is required, and not both"))
            }
            (None, text) => {
                let text = Selector::parse_access("selector", text)?.to_string();
                if text.len() > SELECTOR_BYTES_MAX {
                    let why =
                        format!("must be at most {SELECTOR_BYTES_MAX} bytes, got {}", text.len());
                    return Err(Error::invalid("selector", why));
                }
                Ok(Self::Selector(text))
            }
        }
    }

    fn gateway(&self) -> Option<GatewayId> {
        match self {
            Self::Gateway(gateway) => Some(gateway.id),
            Self::Selector(_) => None,
        }
    }

    fn scope_ref(&self) -> ScopeRef<'_> {
        match self {
            Self::Gateway(gateway) => ScopeRef::Gateway(gateway.id),
            Self::Selector(text) => ScopeRef::Selector(text),
        }
    }

    /// Returns the name and value for the audit log and events.
    fn audit_field(&self) -> (&'static str, Value) {
        match self {
            Self::Gateway(gateway) => ("gateway", json!(&*gateway.name)),
            Self::Selector(text) => ("selector", json!(text)),
        }
    }

    fn into_scope(self) -> Scope {
        match self {
            Self::Gateway(gateway) => Scope::Gateway(gateway.name.to_string()),
            Self::Selector(text) => Scope::Selector(text),
        }
    }
}

/// Checks the limit of roles by selector. It holds under concurrent writes, which [`effect::lock`] serializes.
async fn check_count(conn: &mut Conn, holder: Holder, subject: &Subject) -> Result<(), Error> {
    if store::count_selectors(conn, holder).await? <= SELECTORS_MAX {
        return Ok(());
    }
    let why = format!("`{}` has {SELECTORS_MAX} roles by selector already", subject.name);
    Err(Error::refused(Reason::LimitReached, why))
}

fn check_group_admin(ctx: &Ctx, subject: &Subject) -> Result<(), Error> {
    if subject.kind == HolderKind::Group && !ctx.is_global_admin() {
        let why = "only a global admin can change roles of a group";
        return Err(Error::Denied { why: why.to_owned() });
    }
    Ok(())
}

/// Sets a role on the gateway of the call or by selector, replacing the existing role there.
pub async fn set(
    ctx: &Ctx,
    subject: Subject,
    selector: &str,
    role: Role,
    given_etag: &str,
) -> Result<Binding, Error> {
    let asked = RequestedScope::from_request(ctx, selector)?;
    if let RequestedScope::Selector(text) = &asked {
        Selector::parse_new_access("selector", text)?;
    }
    let (place, shown) = asked.audit_field();
    ctx.add_audit_detail(place, shown.clone());
    ctx.add_audit_detail("role", role.as_str());
    // Checked before any lookup, so that a caller without permission does not learn whether the group exists.
    check_group_admin(ctx, &subject)?;
    let now = ctx.now();
    let version = ctx
        .transaction(async |tx| {
            effect::lock(tx).await?;
            let holder = find_holder(tx, &subject).await?;
            let before = effect::check_before(ctx, tx, holder, asked.gateway(), role).await?;
            let conflict = || Error::conflict(ResourceKind::GatewayRole, subject.display_name());
            let version = match store::get(tx, holder, asked.scope_ref()).await? {
                Some(existing) => {
                    etag::check(
                        given_etag,
                        existing.version,
                        ResourceKind::GatewayRole,
                        subject.display_name(),
                    )?;
                    if !store::update(tx, holder.kind, asked.scope_ref(), existing, role).await? {
                        return Err(conflict());
                    }
                    existing.version + 1
                }
                None if !given_etag.is_empty() => return Err(conflict()),
                None => {
                    store::insert(tx, holder, asked.scope_ref(), role, now).await?;
                    1
                }
            };
            if asked.gateway().is_none() {
                check_count(tx, holder, &subject).await?;
            }
            if let Some(before) = before {
                before.check_after(tx, role).await?;
            }
            let payload =
                json!({ place: shown, "subject": subject.display_name(), "role": role.as_str() });
            tx.emit(ctx.new_event(event_types::GATEWAY_ROLE_SET, payload)).await?;
            tx.log_access_change(holder.access_subject()).await?;
            Ok(version)
        })
        .await?;
    Ok(Binding { subject, scope: asked.into_scope(), role, version })
}

/// Removes a role on the gateway of the call or by selector.
pub async fn remove(
    ctx: &Ctx,
    subject: Subject,
    selector: &str,
    given_etag: &str,
) -> Result<(), Error> {
    let asked = RequestedScope::from_request(ctx, selector)?;
    let (place, shown) = asked.audit_field();
    ctx.add_audit_detail(place, shown.clone());
    check_group_admin(ctx, &subject)?;
    ctx.transaction(async |tx| {
        effect::lock(tx).await?;
        let holder = find_holder(tx, &subject).await?;
        let missing = || Error::not_found(ResourceKind::GatewayRole, subject.display_name());
        let existing = store::get(tx, holder, asked.scope_ref()).await?.ok_or_else(missing)?;
        let before = effect::check_before(ctx, tx, holder, asked.gateway(), existing.role).await?;
        etag::check(
            given_etag,
            existing.version,
            ResourceKind::GatewayRole,
            subject.display_name(),
        )?;
        if !store::delete(tx, holder.kind, asked.scope_ref(), existing).await? {
            return Err(Error::conflict(ResourceKind::GatewayRole, subject.display_name()));
        }
        if let Some(before) = before {
            before.check_after(tx, existing.role).await?;
        }
        let payload = json!({ place: shown, "subject": subject.display_name() });
        tx.emit(ctx.new_event(event_types::GATEWAY_ROLE_REMOVED, payload)).await?;
        tx.log_access_change(holder.access_subject()).await
    })
    .await?;
    Ok(())
}
