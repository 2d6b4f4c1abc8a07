//! `[oidc]`: the issuers that may say who somebody is, and what is believed of each.
//!
//! Invariants
//! - an issuer is one exact string, and speaks for one provider only;
//! - what an ID token is for (`client_id`) and what an access token is for (`audience`) are never the same (T03);
//! - a rule has at least one condition, so that nobody is let in for being known to an issuer;
//! - nothing is linked by e-mail, mapped to a role or taken as a bearer token before it is said (T11).

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

/// Who else may say who somebody is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// The issuers. Default: none, since whoever is named here decides who people are.
    #[serde(default = "providers")]
    pub providers: Vec<OidcProvider>,
    /// Networks that issuers may be in although they are loopback, link-local, metadata, multicast or unspecified.
    /// Default: none, as for gateways: an issuer's own documents name further addresses that are fetched.
    #[serde(default = "allowed_networks")]
    pub allowed_networks: Vec<IpNet>,
    /// How long one call to an issuer may take, in seconds. Default 10: somebody waits for a login.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u64,
}

/// An issuer, and what is believed of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcProvider {
    /// What it is called in requests, audit and names: small letters, digits and `-`. Required.
    pub name: String,
    /// What people are shown. Default: the name.
    #[serde(default)]
    pub display_name: Option<String>,
    /// The issuer, exactly as its tokens and its discovery document have it. Required.
    pub issuer: String,
    /// What this server is called at the issuer, where people log in. Default: none, as for an issuer that knows
    /// workloads alone.
    #[serde(default)]
    pub client_id: Option<String>,
    /// The secret that goes with it. Default: none, as public clients have it.
    #[serde(default, with = "secret")]
    pub client_secret: Option<Secret>,
    /// A file that holds the secret, in place of `client_secret`, and that others than its owner and group cannot read.
    /// Default: none.
    #[serde(default)]
    pub client_secret_path: Option<PathBuf>,
    /// What is asked for at a login. Default `openid`, `email` and `profile`.
    #[serde(default = "scopes")]
    pub scopes: Vec<String>,
    /// Where a login may lead back to, exactly. Default: none.
    #[serde(default = "none")]
    pub redirect_uris: Vec<String>,
    /// Whether a login may lead back to any port and path of 127.0.0.1 or `[::1]` as well, as command lines need it.
    /// Default false.
    #[serde(default = "no")]
    pub loopback_redirects: bool,
    /// Domains of e-mail addresses by which this issuer may find an existing account. Default: none, since whoever can
    /// set an address at an issuer could else take over an account here.
    #[serde(default = "none")]
    pub email_domains: Vec<String>,
    /// The highest role that this issuer can give. Default `operator`: an admin is made here.
    #[serde(default = "max_role")]
    pub max_role: Role,
    /// The claim that roles are read from, nested ones with dots: `realm_access.roles`. Default: none.
    #[serde(default)]
    pub role_claim: Option<String>,
    /// The role that a value of the claim gives; of several the highest. Default: none.
    #[serde(default = "roles")]
    pub roles: BTreeMap<String, Role>,
    /// What access tokens of this issuer must be for. Default: none, so that none is taken.
    #[serde(default)]
    pub audience: Option<String>,
    /// Whether access tokens are taken as bearer tokens, without an exchange. Default false.
    #[serde(default = "no")]
    pub accept_bearer: bool,
    /// CAs of the issuer beside those of the system, PEM. Default: none.
    #[serde(default)]
    pub ca_path: Option<PathBuf>,
    /// Whom access tokens stand for, the first rule that fits. Default: none.
    #[serde(default = "rules")]
    pub rules: Vec<OidcRule>,
}

/// For whom an access token stands, if its claims fit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcRule {
    /// What it is called in audit and names: small letters, digits and `-`. Required.
    pub name: String,
    /// What the token must be for, in place of the provider's `audience`. Default: none.
    #[serde(default)]
    pub audience: Option<String>,
    /// Claims, nested ones with dots, and what they must be: one value, one of a list, or with `*` at its end whatever
    /// begins so. All must hold. Required.
    pub conditions: BTreeMap<String, Condition>,
    /// The service principal that the token stands for. This or `role` is required.
    #[serde(default)]
    pub service_principal: Option<String>,
    /// The role of a service principal that is made for the rule. This or `service_principal` is required.
    #[serde(default)]
    pub role: Option<Role>,
}

/// What the names of service principals begin with that are made for rules. Nobody else may be called so.
pub const MADE_FOR_RULES: &str = "oidc/";

impl OidcRule {
    /// Name of the service principal that a token stands for: the one that is said, or the one that is made.
    #[must_use]
    pub fn holder(&self, provider: &str) -> String {
        let made = || format!("{MADE_FOR_RULES}{provider}/{}", self.name);
        self.service_principal.clone().unwrap_or_else(made)
    }
}

/// What a claim must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a condition must be a text or a list of texts")]
pub enum Condition {
    /// This.
    One(String),
    /// One of these.
    AnyOf(Vec<String>),
}

impl Condition {
    /// Each value that the claim may have.
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
    /// How long one call to an issuer may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }
}

impl OidcProvider {
    /// What people are shown.
    #[must_use]
    pub fn shown_as(&self) -> &str {
        self.display_name.as_deref().unwrap_or(&self.name)
    }

    /// The secret, wherever it stands.
    pub fn secret(&self) -> std::io::Result<Option<Secret>> {
        match &self.client_secret_path {
            Some(path) => {
                let text = crate::config::keys::read(path)?;
                Ok(Some(Secret::new(text.expose().trim_end())))
            }
            None => Ok(self.client_secret.clone()),
        }
    }
}
