//! Service principals: creation, lookup, updates, key rotation and deletion.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::store;
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::config::RULE_PRINCIPAL_PREFIX;
use crate::ctx::{Ctx, ListKey};
use crate::db::Conn;
use crate::db::page::PageSize;
use crate::db::types::{ServicePrincipalId, UserId};
use crate::error::{Error, Reason, ResourceKind};
use crate::etag;
use crate::names::Name;
use crate::outbox::AccessSubject;
use crate::outbox::event_types;
use crate::resources::access_bindings::effect;
use crate::role::Role;
use crate::seal::{fill_random, hex};
use crate::secret::Secret;

/// Stored characters of a key, to recognize it.
const PREFIX_CHARACTERS: usize = 12;
/// Random bytes of a key.
const KEY_BYTES: usize = 32;
/// Maximum number of service principals: one for each of the users that one server is designed for.
pub const SERVICE_PRINCIPALS_MAX: i64 = 10_000;
/// Maximum overlap of a rotation: a week is enough to roll out a new key.
pub const OVERLAP_MAX: Duration = Duration::from_hours(7 * 24);

/// A program that calls Shoreguard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePrincipal {
    /// Permanent id.
    pub id: ServicePrincipalId,
    /// Unique name.
    pub name: String,
    /// Global role.
    pub role: Role,
    /// First characters of the key.
    pub key_prefix: String,
    /// User who created it.
    pub created_by: Option<UserId>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When a key was last used; up to two minutes stale.
    pub last_used: Option<Timestamp>,
    /// When it expires, with all its keys.
    pub expires_at: Option<Timestamp>,
    /// When the previous key expires or expired.
    pub previous_ends_at: Option<Timestamp>,
    /// Version.
    pub version: i64,
}

/// A partial update of a service principal. `None` leaves the field unchanged.
#[derive(Debug, Default)]
pub struct ServicePrincipalUpdate {
    /// New global role.
    pub role: Option<Role>,
    /// New expiry; `Some(None)` removes it.
    pub expires_at: Option<Option<Timestamp>>,
}

/// A new key.
pub struct NewKey {
    /// Key, shown once.
    pub key: Secret,
    pub(super) hash: String,
    prefix: String,
}

/// Generates a key: `sg_` and 43 characters of base64url, from 32 random bytes.
pub fn new_key() -> Result<NewKey, Error> {
    let mut bytes = [0; KEY_BYTES];
    fill_random(&mut bytes)?;
    let key = format!("sg_{}", URL_SAFE_NO_PAD.encode(bytes));
    let hash = hex(&Sha256::digest(key.as_bytes()));
    let prefix = key.chars().take(PREFIX_CHARACTERS).collect();
    Ok(NewKey { key: Secret::new(key), hash, prefix })
}

fn check_expiry(now: Timestamp, expires_at: Option<Timestamp>) -> Result<(), Error> {
    if expires_at.is_some_and(|at| at <= now) {
        return Err(Error::invalid("expire_time", "must be in the future"));
    }
    Ok(())
}

/// Returns the service principal of a name for a change. The caller must have at least its role, and the etag must
/// match.
async fn find_for_change(
    ctx: &Ctx,
    conn: &mut Conn,
    name: &str,
    given_etag: &str,
) -> Result<ServicePrincipal, Error> {
    let found = store::by_name(conn, name).await?;
    let found = found.ok_or_else(|| Error::not_found(ResourceKind::ServicePrincipal, name))?;
    ctx.check_role_not_above(found.role)?;
    etag::check(given_etag, found.version, ResourceKind::ServicePrincipal, name)?;
    Ok(found)
}

/// Stores a service principal, unless the limit is reached.
pub(super) async fn add(
    conn: &mut Conn,
    new: &store::NewServicePrincipal<'_>,
) -> Result<ServicePrincipal, Error> {
    store::lock_count(conn).await?;
    let created = store::insert(conn, new).await?;
    if store::count(conn).await? > SERVICE_PRINCIPALS_MAX {
        let why = format!(
            "there can be at most {SERVICE_PRINCIPALS_MAX} service principals: delete one first"
        );
        return Err(Error::refused(Reason::LimitReached, why));
    }
    Ok(created)
}

/// Creates a service principal. The key is only in the response.
pub async fn create(
    ctx: &Ctx,
    name: &Name,
    role: Role,
    expires_at: Option<Timestamp>,
) -> Result<(ServicePrincipal, Secret), Error> {
    let now = ctx.now();
    check_expiry(now, expires_at)?;
    if name.as_str().starts_with(RULE_PRINCIPAL_PREFIX) {
        let why = format!(
            "must not begin with `{RULE_PRINCIPAL_PREFIX}`, which is reserved for OIDC rules"
        );
        return Err(Error::invalid("name", why));
    }
    ctx.check_role_not_above(role)?;
    ctx.add_audit_detail("role", role.as_str());
    ctx.admit_credential()?;
    let key = new_key()?;
    let created_by = match ctx.principal() {
        Some(PrincipalId::User(id)) => Some(id),
        Some(PrincipalId::ServicePrincipal(_)) | None => None,
    };
    let new = store::NewServicePrincipal {
        name: name.as_str(),
        key_hash: &key.hash,
        key_prefix: &key.prefix,
        role,
        created_by,
        // The person who holds the key of the caller is behind what it makes (T12).
        maker: ctx.principal().filter(|_| ctx.is_key_holder_known()),
        created_at: now,
        expires_at,
    };
    let created = ctx
        .transaction(async |tx| {
            effect::lock_as_global_admin(ctx, tx).await?;
            let created = add(tx, &new).await?;
            let payload = json!({ "service_principal": created.name, "role": role.as_str() });
            tx.emit(ctx.new_event(event_types::SERVICE_PRINCIPAL_CREATED, payload)).await?;
            tx.log_access_addition(AccessSubject::ServicePrincipal(created.id)).await?;
            Ok(created)
        })
        .await?;
    Ok((created, key.key))
}

/// Returns a service principal by name.
pub async fn get(ctx: &Ctx, name: &str) -> Result<ServicePrincipal, Error> {
    let mut conn = ctx.db().read().await?;
    let found = store::by_name(&mut conn, name).await?;
    found.ok_or_else(|| Error::not_found(ResourceKind::ServicePrincipal, name))
}

/// Returns a page of service principals, ordered by name.
pub async fn list(
    ctx: &Ctx,
    size: PageSize,
    token: &str,
) -> Result<(Vec<ServicePrincipal>, String), Error> {
    let list = ListKey { method: "ListServicePrincipals", filter: &[], order: "name" };
    let page = ctx.page_request::<String>(list, size, token)?;
    let mut conn = ctx.db().read().await?;
    let after = page.after().map(String::as_str);
    let rows = store::page(&mut conn, after, page.limit()).await?;
    page.finish(rows, |last| last.name.clone())
}

/// Updates role or expiry, effective before the response is sent.
pub async fn update(
    ctx: &Ctx,
    name: &str,
    change: ServicePrincipalUpdate,
    given_etag: &str,
) -> Result<ServicePrincipal, Error> {
    let now = ctx.now();
    if let Some(role) = change.role {
        ctx.check_role_not_above(role)?;
        ctx.add_audit_detail("role", role.as_str());
    }
    if let Some(expires_at) = change.expires_at {
        check_expiry(now, expires_at)?;
        ctx.add_audit_detail("expires_at", expires_at.map(|at| at.to_string()));
    }
    let updated = ctx
        .transaction(async |tx| {
            effect::lock_as_global_admin(ctx, tx).await?;
            let mut principal = find_for_change(ctx, tx, name, given_etag).await?;
            let (id, version) = (principal.id, principal.version);
            principal.role = change.role.unwrap_or(principal.role);
            principal.expires_at = change.expires_at.unwrap_or(principal.expires_at);
            principal.version += 1;
            if !store::update(tx, id, version, principal.role, principal.expires_at).await? {
                return Err(Error::conflict(ResourceKind::ServicePrincipal, name));
            }
            let payload =
                json!({ "service_principal": principal.name, "role": principal.role.as_str() });
            tx.emit(ctx.new_event(event_types::SERVICE_PRINCIPAL_UPDATED, payload)).await?;
            tx.log_access_change(AccessSubject::ServicePrincipal(id)).await?;
            Ok(principal)
        })
        .await?;
    Ok(updated)
}

/// Validates the overlap of a rotation.
pub fn overlap(field: &str, given: Duration) -> Result<Duration, Error> {
    if given > OVERLAP_MAX {
        let days = OVERLAP_MAX.as_secs() / (24 * 60 * 60);
        return Err(Error::invalid(field, format!("must be at most {days} days")));
    }
    Ok(given)
}

/// Replaces the key. The previous key stays valid for `overlap`; every older one is invalid before the response is
/// sent.
///
/// The people behind a service principal are its maker and its last rotator. If the former rotator does not remain one
/// of them, the votes of the service principal in open reviews are withdrawn: the former rotator may have cast them, and
/// would count beside them (T12).
pub async fn rotate(
    ctx: &Ctx,
    name: &str,
    overlap: Duration,
    given_etag: &str,
) -> Result<(ServicePrincipal, Secret), Error> {
    let now = ctx.now();
    ctx.add_audit_detail("overlap_seconds", overlap.as_secs());
    ctx.admit_credential()?;
    let key = new_key()?;
    let previous_ends_at = (!overlap.is_zero()).then(|| now.plus(overlap));
    let (rotated, withdrawn) = ctx
        .transaction(async |tx| {
            effect::lock_as_global_admin(ctx, tx).await?;
            let found = find_for_change(ctx, tx, name, given_etag).await?;
            let holders = store::key_holders(tx, found.id).await?;
            // A service principal that has rotated itself leads to no person.
            let own = || PrincipalId::ServicePrincipal(found.id);
            let is_known = ctx.is_key_holder_known();
            let new = store::KeyReplacement {
                key_hash: &key.hash,
                key_prefix: &key.prefix,
                previous_ends_at,
                rotated_by: if is_known { ctx.principal() } else { Some(own()) },
            };
            if !store::set_key(tx, found.id, found.version, &new).await? {
                return Err(Error::conflict(ResourceKind::ServicePrincipal, name));
            }
            let withdrawn = if forgets_rotator(holders, new.rotated_by) {
                let cleared_at = ctx.db().now(tx).await?;
                store::clear_votes(tx, found.id, cleared_at).await?
            } else {
                0
            };
            let payload = json!({ "service_principal": found.name });
            tx.emit(ctx.new_event(event_types::SERVICE_PRINCIPAL_ROTATED, payload)).await?;
            let missing = || Error::not_found(ResourceKind::ServicePrincipal, name);
            let rotated = store::by_name(tx, name).await?.ok_or_else(missing)?;
            tx.log_access_change(AccessSubject::ServicePrincipal(found.id)).await?;
            Ok((rotated, withdrawn))
        })
        .await?;
    if withdrawn > 0 {
        ctx.add_audit_detail("votes_withdrawn", withdrawn);
    }
    Ok((rotated, key.key))
}

/// Returns whether the former rotator of a key is neither the maker nor the next rotator.
fn forgets_rotator(
    (rotated_by, maker): (Option<PrincipalId>, Option<PrincipalId>),
    next: Option<PrincipalId>,
) -> bool {
    rotated_by.is_some() && rotated_by != maker && rotated_by != next
}

/// Makes a user the maker of a service principal whose maker is not known: commands on the host create such service
/// principals. Only for the server itself: reviews count a service principal as its maker, which a caller must not
/// choose (T12).
pub(crate) async fn set_unknown_maker(ctx: &Ctx, name: &str, maker: UserId) -> Result<(), Error> {
    if !ctx.is_system() {
        let why = "only the server itself names the maker of a service principal".to_owned();
        return Err(Error::Denied { why });
    }
    ctx.transaction(async |tx| {
        effect::lock_as_global_admin(ctx, tx).await?;
        let found = find_for_change(ctx, tx, name, "").await?;
        if store::set_unknown_maker(tx, found.id, found.version, maker).await? {
            // It changes whose approvals count in reviews.
            let payload = json!({ "service_principal": found.name, "role": found.role.as_str() });
            tx.emit(ctx.new_event(event_types::SERVICE_PRINCIPAL_UPDATED, payload)).await?;
            tx.log_access_change(AccessSubject::ServicePrincipal(found.id)).await?;
        }
        Ok(())
    })
    .await
}

/// Deletes a service principal with its roles on gateways.
pub async fn delete(ctx: &Ctx, name: &str, given_etag: &str) -> Result<(), Error> {
    ctx.transaction(async |tx| {
        effect::lock_as_global_admin(ctx, tx).await?;
        let found = find_for_change(ctx, tx, name, given_etag).await?;
        if !store::delete(tx, found.id, found.version).await? {
            return Err(Error::conflict(ResourceKind::ServicePrincipal, name));
        }
        let payload = json!({ "service_principal": found.name });
        tx.emit(ctx.new_event(event_types::SERVICE_PRINCIPAL_DELETED, payload)).await?;
        tx.log_access_change(AccessSubject::ServicePrincipal(found.id)).await
    })
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_has_the_documented_format() {
        let made = new_key().unwrap();
        let key = made.key.expose();
        assert_eq!((key.len(), &key[..3]), (46, "sg_"));
        assert_eq!((made.prefix.as_str(), made.hash.len()), (&key[..12], 64));
        assert_ne!(new_key().unwrap().key.expose(), key);
    }

    #[test]
    fn an_overlap_longer_than_a_week_is_refused() {
        assert_eq!(overlap("overlap", OVERLAP_MAX).unwrap(), OVERLAP_MAX);
        assert!(overlap("overlap", OVERLAP_MAX + Duration::from_nanos(1)).is_err());
    }
}
