//! Decides which account an OIDC identity logs in to, and with which role. No I/O.
//!
//! Invariants
//! - a linked identity always logs in to its linked account, independent of e-mail addresses;
//! - an e-mail address links an account only if the issuer is configured for its domain and has verified the address,
//!   and never an account with a password, another link or the admin role: its owner must link that while logged in
//!   (T11);
//! - no account is created for an address that is unverified, in use, or in a domain that only another issuer is
//!   configured for;
//! - a role claim that the issuer left out because of its size changes no role: the login is refused, since neither a
//!   lower role nor the former role would be right.

use crate::config::OidcProvider;
use crate::db::types::UserId;
use crate::oidc::claims::Claims;
use crate::resources::users::domain::Email;
use crate::role::Role;

/// Properties of an account that the decision needs.
#[derive(Debug, Clone)]
pub struct Account {
    /// Id.
    pub id: UserId,
    /// E-mail address.
    pub email: String,
    /// Own role.
    pub own_role: Role,
    /// Highest of its own role and the roles of its groups.
    pub role: Role,
    /// Whether the account is active.
    pub active: bool,
    /// Whether it has a password.
    pub has_password: bool,
    /// Name of the provider of its linked identity.
    pub linked_provider: Option<String>,
    /// Incremented at each change of the password.
    pub password_version: i64,
}

/// Stored facts about an identity.
#[derive(Debug, Clone)]
pub struct IdentityLookup {
    /// Account that is linked to it.
    pub linked: Option<Account>,
    /// Account with its verified address, if no account is linked.
    pub by_address: Option<Account>,
    /// Verified address, or why it has none, for the log.
    pub address: Result<Email, &'static str>,
    /// Whether the issuer is configured for the domain of that address.
    pub may_link: bool,
    /// Whether another issuer is configured for the domain of that address.
    pub claimed_by_other: bool,
}

impl IdentityLookup {
    fn account(&self) -> Option<&Account> {
        self.linked.as_ref().or(self.by_address.as_ref())
    }

    /// Returns the id of the account, if one exists.
    #[must_use]
    pub fn user(&self) -> Option<UserId> {
        self.account().map(|account| account.id)
    }

    /// Returns the address of the account, or of the account to be created.
    #[must_use]
    pub fn address(&self) -> String {
        let own = self.account().map(|account| account.email.clone());
        own.or_else(|| self.address.as_ref().ok().map(|a| a.as_str().to_owned()))
            .unwrap_or_default()
    }
}

/// Role according to the issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleMapping {
    /// Not configured: roles are managed in Shoreguard.
    NotConfigured,
    /// This role; `Role::None` if the claim has no known role.
    To(Role),
    /// Unknown, since the issuer left the claim out of the token because of its size.
    Withheld,
}

const ROLE_WITHHELD: &str = "the issuer left out the claim with its role, as too large: configure the issuer to send \
                             fewer values, for example only the groups that have a role";

impl RoleMapping {
    /// Reads the role by the configuration of the provider.
    #[must_use]
    pub fn from_claims(config: &OidcProvider, claims: &Claims) -> Self {
        match &config.role_claim {
            None => Self::NotConfigured,
            Some(claim) if claims.is_withheld(claim) => Self::Withheld,
            Some(_) => Self::To(claims.role(config).unwrap_or(Role::None)),
        }
    }
}

/// Decision about a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginDecision {
    /// Log in to an existing account.
    LogIn {
        /// The account.
        user: UserId,
        /// Version of its password.
        password_version: i64,
        /// Whether to link it now.
        link: bool,
        /// New role, if it changes.
        role: Option<Role>,
    },
    /// Create an account.
    Create {
        /// Its address.
        address: String,
        /// Its role.
        role: Role,
    },
    /// Reject the login, with the reason for the log.
    Refuse(&'static str),
}

/// Decides about a login.
#[must_use]
pub fn decide(seen: &IdentityLookup, mapping: RoleMapping) -> LoginDecision {
    if let Some(account) = &seen.linked {
        return log_in_to(account, false, mapping);
    }
    match (&seen.by_address, &seen.address) {
        (_, Err(why)) => LoginDecision::Refuse(why),
        (Some(_), Ok(_)) if !seen.may_link => LoginDecision::Refuse(
            "its address belongs to an account, and the issuer is not trusted for its domain",
        ),
        (Some(account), Ok(_)) => {
            let own = account.has_password || account.linked_provider.is_some();
            if own || account.role == Role::Admin {
                let why =
                    "an account with a password, a link or an admin's role is linked by its owner";
                return LoginDecision::Refuse(why);
            }
            log_in_to(account, true, mapping)
        }
        (None, Ok(_)) if seen.claimed_by_other && !seen.may_link => {
            LoginDecision::Refuse("another issuer speaks for the domain of its address")
        }
        (None, Ok(address)) => {
            let address = address.as_str().to_owned();
            match mapping {
                RoleMapping::NotConfigured => LoginDecision::Create { address, role: Role::None },
                RoleMapping::To(role) => LoginDecision::Create { address, role },
                RoleMapping::Withheld => LoginDecision::Refuse(ROLE_WITHHELD),
            }
        }
    }
}

fn log_in_to(account: &Account, link: bool, mapping: RoleMapping) -> LoginDecision {
    if !account.active {
        return LoginDecision::Refuse("its account is not active");
    }
    let role = match mapping {
        RoleMapping::To(role) if !account.has_password && role != account.own_role => Some(role),
        RoleMapping::Withheld if !account.has_password => {
            return LoginDecision::Refuse(ROLE_WITHHELD);
        }
        // An account with a password keeps the role that was assigned in Shoreguard.
        RoleMapping::To(_) | RoleMapping::Withheld | RoleMapping::NotConfigured => None,
    };
    let (user, password_version) = (account.id, account.password_version);
    LoginDecision::LogIn { user, password_version, link, role }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        Account {
            id: UserId(7),
            email: "ana@corp.example".to_owned(),
            own_role: Role::Viewer,
            role: Role::Viewer,
            active: true,
            has_password: false,
            linked_provider: None,
            password_version: 3,
        }
    }

    fn lookup(linked: Option<Account>, of_address: Option<Account>) -> IdentityLookup {
        let address = Ok(Email::parse("email", "ana@corp.example").unwrap());
        IdentityLookup {
            linked,
            by_address: of_address,
            address,
            may_link: true,
            claimed_by_other: false,
        }
    }

    fn logged_in(link: bool, role: Option<Role>) -> LoginDecision {
        LoginDecision::LogIn { user: UserId(7), password_version: 3, link, role }
    }

    #[test]
    fn t11_only_an_active_unclaimed_non_admin_account_is_linked_by_its_address() {
        let bare = account();
        let decided = decide(&lookup(None, Some(bare.clone())), RoleMapping::NotConfigured);
        assert_eq!(decided, logged_in(true, None));
        for other in [
            Account { has_password: true, ..bare.clone() },
            Account { linked_provider: Some("other".to_owned()), ..bare.clone() },
            Account { own_role: Role::Admin, role: Role::Admin, ..bare.clone() },
            // Admin by a group.
            Account { role: Role::Admin, ..bare.clone() },
            Account { active: false, ..bare.clone() },
        ] {
            let decided =
                decide(&lookup(None, Some(other.clone())), RoleMapping::To(Role::Operator));
            assert!(matches!(decided, LoginDecision::Refuse(_)), "{other:?}");
        }
        let off = IdentityLookup { may_link: false, ..lookup(None, Some(bare)) };
        assert!(matches!(decide(&off, RoleMapping::NotConfigured), LoginDecision::Refuse(_)));
    }

    #[test]
    fn t11_a_new_account_needs_a_verified_address_of_a_domain_of_no_other_provider() {
        let new = lookup(None, None);
        let created = |role| LoginDecision::Create { address: "ana@corp.example".to_owned(), role };
        assert_eq!(decide(&new, RoleMapping::NotConfigured), created(Role::None));
        assert_eq!(decide(&new, RoleMapping::To(Role::Operator)), created(Role::Operator));
        let both = IdentityLookup { claimed_by_other: true, ..new.clone() };
        assert_eq!(decide(&both, RoleMapping::NotConfigured), created(Role::None));
        let anothers = IdentityLookup { may_link: false, ..both };
        assert!(matches!(decide(&anothers, RoleMapping::NotConfigured), LoginDecision::Refuse(_)));
        let nobodys = IdentityLookup { may_link: false, ..new.clone() };
        assert_eq!(decide(&nobodys, RoleMapping::NotConfigured), created(Role::None));
        let unverified = IdentityLookup { address: Err("unverified"), ..new };
        let refused = LoginDecision::Refuse("unverified");
        assert_eq!(decide(&unverified, RoleMapping::NotConfigured), refused);
    }

    #[test]
    fn a_linked_account_needs_no_address_and_is_assigned_its_role_at_each_login() {
        let linked = Account { linked_provider: Some("corp".to_owned()), ..account() };
        let nameless =
            IdentityLookup { address: Err("none"), ..lookup(Some(linked.clone()), None) };
        assert_eq!(decide(&nameless, RoleMapping::NotConfigured), logged_in(false, None));
        for (mapping, role) in [
            (RoleMapping::To(Role::Viewer), None),
            (RoleMapping::To(Role::Operator), Some(Role::Operator)),
            (RoleMapping::To(Role::None), Some(Role::None)),
        ] {
            assert_eq!(
                decide(&lookup(Some(linked.clone()), None), mapping),
                logged_in(false, role)
            );
        }
        let own = Account { has_password: true, ..linked.clone() };
        let decided = decide(&lookup(Some(own), None), RoleMapping::To(Role::None));
        assert_eq!(decided, logged_in(false, None));
        // A role that is unknown is neither lowered nor kept.
        let unknown = RoleMapping::Withheld;
        let refused = LoginDecision::Refuse(ROLE_WITHHELD);
        assert_eq!(decide(&lookup(Some(linked.clone()), None), unknown), refused);
        assert_eq!(decide(&lookup(None, None), unknown), refused);
        let own = Account { has_password: true, ..linked.clone() };
        assert_eq!(decide(&lookup(Some(own), None), unknown), logged_in(false, None));
        let out = Account { active: false, ..linked };
        assert!(matches!(
            decide(&lookup(Some(out), None), RoleMapping::NotConfigured),
            LoginDecision::Refuse(_)
        ));
    }
}
