//! Users: lookup, creation and passwords.

use std::fmt;

use serde_json::json;
use unicode_normalization::{is_nfc, is_nfkc};

use super::{admins, store};
use crate::access::authn::hash_turns::HashCaller;
use crate::access::authn::password::PasswordHasher;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, ListKey};
use crate::db::Conn;
use crate::db::page::PageSize;
use crate::db::types::UserId;
use crate::error::{Error, Reason, ResourceKind};
use crate::names::{fold_address, is_letter_or_digit};
use crate::outbox::AccessSubject;
use crate::outbox::event_types;
use crate::resources::sessions;
use crate::role::Role;
use crate::secret::Secret;

/// Maximum length of an e-mail address, in characters.
pub const EMAIL_CHARACTERS_MAX: usize = 254;
/// Maximum number of users, including invited ones: ten times what one server is designed for, and small enough to hold
/// in memory.
pub const USERS_MAX: i64 = 100_000;

/// A valid e-mail address: trimmed, visible, in normalization form C, and with ASCII letters in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    /// Parses an address: one `@` with allowed characters on both sides.
    pub fn parse(field: &str, text: &str) -> Result<Self, Error> {
        let email = fold_address(text);
        let count = email.chars().count();
        if !(3..=EMAIL_CHARACTERS_MAX).contains(&count) {
            let why = format!("must have 3 to {EMAIL_CHARACTERS_MAX} characters, got {count}");
            return Err(Error::invalid(field, why));
        }
        let plain = |part: &str| {
            !part.is_empty()
                && part.chars().all(|c| is_letter_or_digit(c) || "!#$%&'*+-/=?^_`{|}~.".contains(c))
        };
        match email.split_once('@') {
            Some((local, host)) if plain(local) && plain(host) && is_nfc(&email) => Ok(Self(email)),
            _ => Err(Error::invalid(field, "must be an e-mail address")),
        }
    }

    /// Parses the address of a new account. Besides the rules of [`Self::parse`], its domain has no empty label, and no
    /// letter is a variant of another, such as a full-width one. Accounts can be older than these rules.
    pub fn parse_new(field: &str, text: &str) -> Result<Self, Error> {
        let email = Self::parse(field, text)?;
        let host = email.0.rsplit('@').next().unwrap_or_default();
        if host.split('.').any(str::is_empty) || !is_nfkc(&email.0) {
            let why = "must be an e-mail address without an empty label in its domain and without full-width letters";
            return Err(Error::invalid(field, why));
        }
        Ok(email)
    }

    /// Returns the address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A user as named in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserRef {
    /// By id.
    Id(UserId),
    /// By e-mail address.
    Email(Email),
}

impl UserRef {
    /// Parses an id or an e-mail address: only an address contains an `@`.
    pub fn parse(field: &str, text: &str) -> Result<Self, Error> {
        if text.contains('@') {
            return Email::parse(field, text).map(Self::Email);
        }
        let id: Option<i64> = text.parse().ok();
        id.map(|id| Self::Id(UserId(id)))
            .ok_or_else(|| Error::invalid(field, "must be an e-mail address or an id"))
    }

    /// Returns the error for a user that does not exist.
    #[must_use]
    pub fn missing_error(&self) -> Error {
        Error::not_found(ResourceKind::User, self)
    }
}

impl fmt::Display for UserRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Email(email) => f.write_str(email.as_str()),
        }
    }
}

/// A person with an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Permanent id.
    pub id: UserId,
    /// Unique e-mail address.
    pub email: String,
    /// Own global role.
    pub role: Role,
    /// Highest of its own role and the roles of its groups.
    pub effective_role: Role,
    /// Whether the account is active.
    pub is_active: bool,
    /// Whether it has a password.
    pub has_password: bool,
    /// Whether an invitation or a reset is pending.
    pub pending_invite: bool,
    /// Name of the OIDC provider of its linked identity.
    pub oidc_provider: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When the pending invitation or reset expires.
    pub invite_expires_at: Option<Timestamp>,
    /// Version.
    pub version: i64,
}

/// Filter of a list of users; `None` matches all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter {
    /// Effective role.
    pub role: Option<Role>,
    /// Whether the account is active.
    pub is_active: Option<bool>,
    /// Whether an invitation or a reset is pending.
    pub pending_invite: Option<bool>,
}

/// Returns a user; can be used in a transaction.
pub async fn find(conn: &mut Conn, named: &UserRef) -> Result<User, Error> {
    store::find(conn, named).await?.ok_or_else(|| named.missing_error())
}

/// Returns a user.
pub async fn get(ctx: &Ctx, named: &UserRef) -> Result<User, Error> {
    find(&mut ctx.db().read().await?, named).await
}

/// Returns a page of users, ordered by e-mail address.
pub async fn list(
    ctx: &Ctx,
    filter: Filter,
    size: PageSize,
    token: &str,
) -> Result<(Vec<User>, String), Error> {
    let question = format!("{filter:?}");
    let list = ListKey { method: "ListUsers", filter: question.as_bytes(), order: "email" };
    let page = ctx.page_request::<String>(list, size, token)?;
    let after = page.after().map(String::as_str);
    let mut conn = ctx.db().read().await?;
    let rows = store::page(&mut conn, filter, after, page.limit()).await?;
    page.finish(rows, |last| last.email.clone())
}

/// Returns the id of the user with an e-mail address.
pub async fn id_by_email(conn: &mut Conn, email: &Email) -> Result<UserId, Error> {
    let found = store::account_by_email(conn, email.as_str()).await?;
    found
        .map(|account| account.id)
        .ok_or_else(|| Error::not_found(ResourceKind::User, email.as_str()))
}

/// Returns an error if there are more than `most` users after an insert. Must be called under the lock of `admins`, so
/// that concurrent inserts count each other.
pub async fn check_count(conn: &mut Conn, most: i64) -> Result<(), Error> {
    if store::count(conn).await? <= most {
        return Ok(());
    }
    Err(Error::refused(Reason::LimitReached, format!("there may be at most {most} users")))
}

/// Creates a user with a password.
pub async fn create(
    ctx: &Ctx,
    email: &Email,
    password: Secret,
    role: Role,
) -> Result<UserId, Error> {
    PasswordHasher::check("password", &password)?;
    let caller = HashCaller::familiar(ctx.client_ip());
    let hash = ctx.app().passwords.hash(password, caller).await?;
    let now = ctx.now();
    let id = ctx
        .transaction(async |tx| {
            let _locked = admins::lock(tx).await?;
            let id = store::insert(tx, email.as_str(), &hash, role, now).await?;
            check_count(tx, USERS_MAX).await?;
            let payload = json!({ "user": email.as_str(), "role": role.as_str() });
            tx.emit(ctx.new_event(event_types::USER_CREATED, payload)).await?;
            tx.log_access_addition(AccessSubject::User(id)).await?;
            Ok(id)
        })
        .await?;
    Ok(id)
}

/// Sets the password of a user for an operator with direct access to the database. Does not require the current
/// password.
pub async fn set_password_by_operator(
    ctx: &Ctx,
    email: &Email,
    password: Secret,
) -> Result<(), Error> {
    let found = store::account_by_email(&mut ctx.db().read().await?, email.as_str()).await?;
    let account = found.ok_or_else(|| Error::not_found(ResourceKind::User, email.as_str()))?;
    set_password(ctx, account.id, account.password_version, password).await?;
    Ok(())
}

/// Replaces a user's password if its version is `instead_of`, and returns the new version. Ends all sessions of the
/// user.
///
/// # Errors
/// `Conflict` if the version has changed, for example by a reset: knowing the old password must not undo that.
pub async fn set_password(
    ctx: &Ctx,
    user: UserId,
    instead_of: i64,
    password: Secret,
) -> Result<i64, Error> {
    PasswordHasher::check("password", &password)?;
    let caller = HashCaller::familiar(ctx.client_ip());
    let hash = ctx.app().passwords.hash(password, caller).await?;
    let now = ctx.now();
    let version = ctx
        .transaction(async |tx| {
            let version = store::set_password(tx, user, instead_of, &hash).await?;
            let version = version.ok_or_else(|| Error::conflict(ResourceKind::User, user))?;
            sessions::end_all(tx, user, now).await?;
            let payload = json!({ "user": user.get() });
            tx.emit(ctx.new_event(event_types::USER_PASSWORD_SET, payload)).await?;
            tx.log_access_change(AccessSubject::User(user)).await?;
            Ok(version)
        })
        .await?;
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_by_address_or_id() {
        assert_eq!(UserRef::parse("user", "17").unwrap(), UserRef::Id(UserId(17)));
        let ana = Email::parse("email", "ana@example.com").unwrap();
        assert_eq!(UserRef::parse("user", "Ana@example.com").unwrap(), UserRef::Email(ana));
        for bad in ["", "ana", "@", "1.5", "9223372036854775808", "1 OR 1=1"] {
            assert!(UserRef::parse("user", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_new_address_has_a_plain_domain_and_no_variant_letters() {
        for good in ["Ana@example.com", "ana.b@localhost", "\u{e4}rger@m\u{fc}nchen.example"] {
            assert!(Email::parse_new("email", good).is_ok(), "{good}");
        }
        for bad in ["a@x..io", "a@x.io.", "a@.x.io", "\u{ff41}na@x.io", "ana@\u{ff58}.io", "ana@"] {
            assert!(Email::parse_new("email", bad).is_err(), "{bad:?}");
        }
        // The holder of an older account can still log in.
        assert!(Email::parse("email", "a@x.io.").is_ok());
    }

    #[test]
    fn email_addresses_are_lowercased_and_validated() {
        assert_eq!(Email::parse("email", " Ana@Example.COM ").unwrap().as_str(), "ana@example.com");
        // Letters outside of ASCII are kept, so that they equal no other letter.
        let umlaut = "\u{c4}rger@example.com";
        assert_eq!(Email::parse("email", umlaut).unwrap().as_str(), umlaut);
        for bad in [
            "",
            "ana",
            "@b",
            "a@",
            "a@b@c",
            "a b@c",
            "a@b\nc",
            "<a>@b",
            "\u{212a}im@b",
            "ki\u{200b}m@b",
            "kim\u{3164}@b",
            "\u{a0}kim@b",
            "A\u{308}rger@b",
            &format!("{}@b", "a".repeat(253)),
        ] {
            assert!(Email::parse("email", bad).is_err(), "{bad:?}");
        }
    }
}
