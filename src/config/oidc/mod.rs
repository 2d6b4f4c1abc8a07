//! `[oidc]`: the OIDC issuers that can identify callers, and which of their claims are trusted.
//!
//! Invariants
//! - an issuer is one exact string, and belongs to one provider only;
//! - the audience of ID tokens (`client_id`) and that of access tokens (`audience`) are never the same (T03);
//! - a rule has at least one condition, so that a token is never accepted only because the issuer knows its subject;
//! - linking by e-mail, role mapping and bearer tokens are off until they are configured (T11).

mod check;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::config::shown::secret;
use crate::role::Role;
use crate::secret::Secret;

/// OIDC issuers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// OIDC issuers; at most 16. Default: none, since an issuer decides who its users are.
    #[serde(default = "providers")]
    pub providers: Vec<OidcProvider>,
    /// Networks in which issuers are allowed although the addresses are loopback, link-local, metadata, multicast or
    /// unspecified. Default: none, as for gateways: the documents of an issuer name further addresses that the server
    /// fetches.
    #[serde(default = "allowed_networks")]
    pub allowed_networks: Vec<IpNet>,
    /// Timeout of one call to an issuer, in seconds. Range 1 to 60. Default 10: a person waits for the login.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u64,
}

/// An OIDC issuer, and which of its claims are trusted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcProvider {
    /// Name in requests, audit entries and service principals: 1 to 40 lowercase letters, digits and inner `-`.
    /// Required, and unique among the issuers.
    pub name: String,
    /// Name that is shown to people; at most 512 characters. Default: `name`.
    #[serde(default)]
    pub display_name: Option<String>,
    /// Issuer URL, exactly as in its tokens and its discovery document, without a query. It must be `https`, or `http`
    /// on loopback. Required, and unique among the issuers.
    pub issuer: String,
    /// Client id of this server at the issuer, for logins. Default: none, for an issuer that only issues tokens to
    /// workloads.
    #[serde(default)]
    pub client_id: Option<String>,
    /// Client secret; it requires `client_id`. Default: none, as for public clients.
    #[serde(default, with = "secret")]
    pub client_secret: Option<Secret>,
    /// Path of a file that contains the client secret, instead of `client_secret`. Only its owner and group may have
    /// access to it. Default: none.
    #[serde(default)]
    pub client_secret_path: Option<PathBuf>,
    /// Scopes that a login requests, `openid` among them; at most 64. Default `openid`, `email` and `profile`.
    #[serde(default = "scopes")]
    pub scopes: Vec<String>,
    /// URIs that a login can redirect to, compared exactly; at most 64. They must be `https`, or `http` on loopback,
    /// and require `client_id`. Default: none.
    #[serde(default = "none")]
    pub redirect_uris: Vec<String>,
    /// Allows a login to redirect to any port and path of 127.0.0.1 or `[::1]` as well, as command line tools need it.
    /// It requires `client_id`. Default false.
    #[serde(default = "no")]
    pub loopback_redirects: bool,
    /// Domains, in lower case, of the e-mail addresses by which an identity of this issuer can be linked to an existing
    /// account; at most 64. Default: none, since anyone who can set an address at the issuer could otherwise take over
    /// an account.
    #[serde(default = "none")]
    pub email_domains: Vec<String>,
    /// States that the issuer verifies every e-mail address that it puts into a token, so that `email` counts as
    /// verified if the token has no `email_verified`; a token with `email_verified = false` is still refused. Microsoft
    /// Entra ID never sends that claim: set this only if administrators, not users, assign the addresses, and only for
    /// the issuer of a single tenant. Default false, since a user could otherwise claim the address of another person.
    #[serde(default = "no")]
    pub emails_verified: bool,
    /// Highest role that this issuer can grant. Default `operator`: admins are appointed in Shoreguard.
    #[serde(default = "max_role")]
    pub max_role: Role,
    /// Claim that roles are read from, with dots if nested: `realm_access.roles`. It requires `roles`. Default: none.
    #[serde(default)]
    pub role_claim: Option<String>,
    /// Maps values of `role_claim` to roles; the highest match applies. At most 64, and none above `max_role`. Default:
    /// none.
    #[serde(default = "roles")]
    pub roles: BTreeMap<String, Role>,
    /// Audience that access tokens of this issuer must have; it must differ from `client_id`. Default: none, so that
    /// only rules with their own audience accept access tokens.
    #[serde(default)]
    pub audience: Option<String>,
    /// Accepts access tokens directly as bearer tokens, without an exchange. It requires `audience`. Default false.
    #[serde(default = "no")]
    pub accept_bearer: bool,
    /// Path of CAs of the issuer, PEM, in addition to those of the system. Default: none.
    #[serde(default)]
    pub ca_path: Option<PathBuf>,
    /// Rules that map access tokens to service principals; the first match applies. At most 64. Default: none.
    #[serde(default = "rules")]
    pub rules: Vec<OidcRule>,
}

/// Maps access tokens with matching claims to a service principal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcRule {
    /// Name in audit entries and service principals: 1 to 40 lowercase letters, digits and inner `-`. Required, and
    /// unique among the rules of the issuer.
    pub name: String,
    /// Audience that the token must have, instead of the provider's `audience`. One of the two is required, and it must
    /// differ from `client_id`. Default: none.
    #[serde(default)]
    pub audience: Option<String>,
    /// Claims, with dots if nested, and their required values: one value, one of a list, or a prefix that ends in `*`.
    /// All conditions must match. 1 to 64 conditions; `iss` and `aud` are rejected. Required.
    pub conditions: BTreeMap<String, Condition>,
    /// Name of the service principal that the token authenticates as. Set either this or `role`.
    #[serde(default)]
    pub service_principal: Option<String>,
    /// Role of the service principal that is created for the rule, at most the provider's `max_role`. Set either this
    /// or `service_principal`.
    #[serde(default)]
    pub role: Option<Role>,
}

/// Prefix of the names of service principals that are created for rules. No other service principal can have it.
pub const RULE_PRINCIPAL_PREFIX: &str = "oidc/";

impl OidcRule {
    /// Returns the name of the service principal that a token authenticates as: the configured name, or the name of the
    /// service principal that is created for the rule.
    #[must_use]
    pub fn service_principal_name(&self, provider: &str) -> String {
        let made = || format!("{RULE_PRINCIPAL_PREFIX}{provider}/{}", self.name);
        self.service_principal.clone().unwrap_or_else(made)
    }
}

/// Required value of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a condition must be a text or a list of texts")]
pub enum Condition {
    /// This value.
    One(String),
    /// One of these values.
    AnyOf(Vec<String>),
}

impl Condition {
    /// Returns each value that the claim can have.
    #[must_use]
    pub fn values(&self) -> &[String] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::AnyOf(values) => values,
        }
    }
}

fn providers() -> Vec<OidcProvider> {
    Vec::new()
}

fn allowed_networks() -> Vec<IpNet> {
    Vec::new()
}

fn timeout_seconds() -> u64 {
    10
}

fn scopes() -> Vec<String> {
    ["openid", "email", "profile"].map(str::to_owned).to_vec()
}

fn none() -> Vec<String> {
    Vec::new()
}

fn no() -> bool {
    false
}

fn max_role() -> Role {
    Role::Operator
}

fn roles() -> BTreeMap<String, Role> {
    BTreeMap::new()
}

fn rules() -> Vec<OidcRule> {
    Vec::new()
}

impl Oidc {
    /// Returns the timeout of one call to an issuer.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }
}

impl OidcProvider {
    /// Returns the name that is shown to people.
    #[must_use]
    pub fn display_name(&self) -> &str {
        self.display_name.as_deref().unwrap_or(&self.name)
    }

    /// Returns the client secret, from the file or from the configuration.
    pub fn secret(&self) -> std::io::Result<Option<Secret>> {
        match &self.client_secret_path {
            Some(path) => {
                let text = crate::config::keys::read_secret_file(path)?;
                Ok(Some(Secret::new(text.expose().trim_end())))
            }
            None => Ok(self.client_secret.clone()),
        }
    }
}
