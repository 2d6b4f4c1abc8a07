//! Users: who may have an account, and its password.

use serde_json::json;

use super::store;
use crate::access::roles::Role;
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::db::types::UserId;
use crate::error::{Error, Kind};
use crate::resources::access_bindings::domain::changed;
use crate::resources::access_bindings::feed::{Subject, store::log_change};
use crate::resources::auth::password::Hasher;
use crate::resources::auth::sessions;
use crate::resources::events::domain::{self as events, NewEvent};
use crate::secret::Secret;

/// Most characters of an e-mail address.
pub const EMAIL_CHARACTERS_MAX: usize = 254;

/// A valid e-mail address, trimmed and in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    /// From what a caller sent: one `@` with plain text on both sides.
    pub fn parse(field: &str, text: &str) -> Result<Self, Error> {
        let email = text.trim().to_lowercase();
        let count = email.chars().count();
        if !(3..=EMAIL_CHARACTERS_MAX).contains(&count) {
            let why = format!("must be 3..={EMAIL_CHARACTERS_MAX} characters, got {count}");
            return Err(Error::invalid(field, why));
        }
        let plain = |part: &str| {
            !part.is_empty()
                && part.chars().all(|c| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c))
        };
        match email.split_once('@') {
            Some((local, host)) if plain(local) && plain(host) => Ok(Self(email)),
            _ => Err(Error::invalid(field, "must be an e-mail address")),
        }
    }

    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The user of an e-mail address.
pub async fn id_of(conn: &mut Conn, email: &Email) -> Result<UserId, Error> {
    let found = store::account(conn, email.as_str()).await?;
    found.map(|account| account.id).ok_or_else(|| Error::missing(Kind::User, email.as_str()))
}

/// Creates a user with a password.
pub async fn create(
    ctx: &Ctx,
    email: &Email,
    password: Secret,
    role: Role,
) -> Result<UserId, Error> {
    Hasher::check("password", &password)?;
    let hash = ctx.app().passwords.hash(password).await?;
    let now = ctx.now();
    let id = ctx
        .db()
        .transaction(async |conn| {
            let id = store::insert(conn, email.as_str(), &hash, role, now).await?;
            let payload = json!({ "user": email.as_str(), "role": role.as_str() });
            events::enqueue(conn, NewEvent::of(ctx, "user.created", payload)).await?;
            log_change(conn, Subject::User(id), now).await?;
            Ok(id)
        })
        .await?;
    changed(ctx).await?;
    Ok(id)
}

/// Sets the password of an address; everything that was made from the older one is dead.
pub async fn reset_password(ctx: &Ctx, email: &Email, password: Secret) -> Result<(), Error> {
    let mut conn = ctx.db().read().await?;
    let found = store::account(&mut conn, email.as_str()).await?;
    drop(conn);
    let account = found.ok_or_else(|| Error::missing(Kind::User, email.as_str()))?;
    set_password(ctx, account.id, password).await?;
    Ok(())
}

/// Sets a user's password and answers its version. Every session ends with the older one.
pub async fn set_password(ctx: &Ctx, user: UserId, password: Secret) -> Result<i64, Error> {
    Hasher::check("password", &password)?;
    let hash = ctx.app().passwords.hash(password).await?;
    let now = ctx.now();
    let version = ctx
        .db()
        .transaction(async |conn| {
            let version = store::set_password(conn, user, &hash).await?;
            let version = version.ok_or_else(|| Error::missing(Kind::User, user))?;
            sessions::end_all(conn, user, now).await?;
            let payload = json!({ "user": user.get() });
            events::enqueue(conn, NewEvent::of(ctx, "user.password_set", payload)).await?;
            log_change(conn, Subject::User(user), now).await?;
            Ok(version)
        })
        .await?;
    changed(ctx).await?;
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_folded_and_checked() {
        assert_eq!(Email::parse("email", " Ana@Example.COM ").unwrap().as_str(), "ana@example.com");
        for bad in [
            "",
            "ana",
            "@b",
            "a@",
            "a@b@c",
            "a b@c",
            "a@b\nc",
            "<a>@b",
            &format!("{}@b", "a".repeat(253)),
        ] {
            assert!(Email::parse("email", bad).is_err(), "{bad:?}");
        }
    }
}
