//! Roles on gateways: which caller can grant which role, to which subject and where.

use serde_json::{Value, json};

use super::effect;
use super::store::{self, Place};
use crate::access::principal::PrincipalId;
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::db::types::{GatewayId, GatewayRef};
use crate::error::{Error, Kind, Reason};
use crate::etag;
use crate::labels::Selector;
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
    pub fn kind(self) -> Kind {
        match self {
            Self::User => Kind::User,
            Self::ServicePrincipal => Kind::ServicePrincipal,
            Self::Group => Kind::Group,
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
    /// Builds a subject from a request. The e-mail address of a user is trimmed and converted to lower case.
    #[must_use]
    pub fn new(kind: HolderKind, name: &str) -> Self {
        let name = match kind {
            HolderKind::User => name.trim().to_lowercase(),
            HolderKind::ServicePrincipal | HolderKind::Group => name.to_owned(),
        };
        Self { kind, name }
    }

    /// Returns the form used in the audit log and in events.
    #[must_use]
    pub fn shown(&self) -> String {
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
    pub fn changed(self) -> outbox::Subject {
        match self.kind {
            HolderKind::User => outbox::Subject::User(self.id.into()),
            HolderKind::ServicePrincipal => outbox::Subject::ServicePrincipal(self.id.into()),
            HolderKind::Group => outbox::Subject::Group(self.id.into()),
        }
    }
}

/// Where a role applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum On {
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
    pub on: On,
    /// Role.
    pub role: Role,
    /// Version.
    pub version: i64,
}

/// Returns the holder for a subject, or `Missing` if it does not exist.
pub async fn holder(conn: &mut Conn, subject: &Subject) -> Result<Holder, Error> {
    let found = store::holder(conn, subject.kind, &subject.name).await?;
    found.ok_or_else(|| Error::missing(subject.kind.kind(), &subject.name))
}

/// Where the role of a request applies: on the gateway that was authorized, or on the gateways that a selector matches.
#[derive(Debug)]
enum Asked {
    Gateway(GatewayRef),
    Selector(String),
}

impl Asked {
    fn of(ctx: &Ctx, selector: &str) -> Result<Self, Error> {
        match (ctx.gateway(), selector) {
            (Some(gateway), "") => Ok(Self::Gateway(gateway.clone())),
            (Some(_), _) | (None, "") => {
                Err(Error::invalid("gateway", "or `selector` is required, and not both"))
            }
            (None, text) => {
                let text = Selector::of_access("selector", text)?.to_string();
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

    fn place(&self) -> Place<'_> {
        match self {
            Self::Gateway(gateway) => Place::Gateway(gateway.id),
            Self::Selector(text) => Place::Selector(text),
        }
    }

    /// Returns the name and value for the audit log and events.
    fn shown(&self) -> (&'static str, Value) {
        match self {
            Self::Gateway(gateway) => ("gateway", json!(&*gateway.name)),
            Self::Selector(text) => ("selector", json!(text)),
        }
    }

    fn on(self) -> On {
        match self {
            Self::Gateway(gateway) => On::Gateway(gateway.name.to_string()),
            Self::Selector(text) => On::Selector(text),
        }
    }
}

/// Checks the limit of roles by selector. It holds under concurrent writes: the change log row that was just written
/// serializes writers until they commit.
async fn check_count(conn: &mut Conn, holder: Holder, subject: &Subject) -> Result<(), Error> {
    if store::count_selectors(conn, holder).await? <= SELECTORS_MAX {
        return Ok(());
    }
    let why = format!("`{}` has {SELECTORS_MAX} roles by selector already", subject.name);
    Err(Error::refused(Reason::LimitReached, why))
}

fn group_is_global(ctx: &Ctx, subject: &Subject) -> Result<(), Error> {
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
    let asked = Asked::of(ctx, selector)?;
    let (place, shown) = asked.shown();
    ctx.detail(place, shown.clone());
    ctx.detail("role", role.as_str());
    // Checked before any lookup, so that a caller without permission does not learn whether the group exists.
    group_is_global(ctx, &subject)?;
    let now = ctx.now();
    let version = ctx
        .transaction(async |tx| {
            effect::turn(tx).await?;
            let holder = holder(tx, &subject).await?;
            let before = effect::before(ctx, tx, holder, asked.gateway(), role).await?;
            let conflict = || Error::conflict(Kind::GatewayRole, subject.shown());
            let version = match store::get(tx, holder, asked.place()).await? {
                Some(stands) => {
                    etag::check(given_etag, stands.version, Kind::GatewayRole, subject.shown())?;
                    if !store::update(tx, holder.kind, asked.place(), stands, role).await? {
                        return Err(conflict());
                    }
                    stands.version + 1
                }
                None if !given_etag.is_empty() => return Err(conflict()),
                None => {
                    store::insert(tx, holder, asked.place(), role, now).await?;
                    1
                }
            };
            if let Some(before) = before {
                before.allow(ctx, tx, role).await?;
            }
            let payload =
                json!({ place: shown, "subject": subject.shown(), "role": role.as_str() });
            tx.emit(ctx.event(event_types::GATEWAY_ROLE_SET, payload)).await?;
            tx.access_changed(holder.changed()).await?;
            check_count(tx, holder, &subject).await?;
            Ok(version)
        })
        .await?;
    Ok(Binding { subject, on: asked.on(), role, version })
}

/// Removes a role on the gateway of the call or by selector.
pub async fn remove(
    ctx: &Ctx,
    subject: Subject,
    selector: &str,
    given_etag: &str,
) -> Result<(), Error> {
    let asked = Asked::of(ctx, selector)?;
    let (place, shown) = asked.shown();
    ctx.detail(place, shown.clone());
    group_is_global(ctx, &subject)?;
    ctx.transaction(async |tx| {
        effect::turn(tx).await?;
        let holder = holder(tx, &subject).await?;
        let missing = || Error::missing(Kind::GatewayRole, subject.shown());
        let stands = store::get(tx, holder, asked.place()).await?.ok_or_else(missing)?;
        let before = effect::before(ctx, tx, holder, asked.gateway(), stands.role).await?;
        etag::check(given_etag, stands.version, Kind::GatewayRole, subject.shown())?;
        if !store::delete(tx, holder.kind, asked.place(), stands).await? {
            return Err(Error::conflict(Kind::GatewayRole, subject.shown()));
        }
        if let Some(before) = before {
            before.allow(ctx, tx, stands.role).await?;
        }
        let payload = json!({ place: shown, "subject": subject.shown() });
        tx.emit(ctx.event(event_types::GATEWAY_ROLE_REMOVED, payload)).await?;
        tx.access_changed(holder.changed()).await
    })
    .await?;
    Ok(())
}
