//! `[server.tls]`: the listener's certificate, and the certificates that callers may show.
//!
//! Invariant: a caller's certificate is mapped by its issuer and one full subject alternative name, under a CA that is
//! for callers only, and to exactly one principal, which is named by its id.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use crate::names;

/// TLS of the listener.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The server's certificate with its chain, PEM. Default: none, which is plaintext.
    #[serde(default)]
    pub cert_path: Option<PathBuf>,
    /// Its private key, PEM. Default: none.
    #[serde(default)]
    pub key_path: Option<PathBuf>,
    /// The CA of callers' certificates, PEM. Default: none, so that no certificate identifies a caller.
    #[serde(default)]
    pub client_ca_path: Option<PathBuf>,
    /// How often the files are looked at for a change, in seconds; SIGHUP asks for it at once. Default 60: a certificate is
    /// renewed days before the old one ends.
    #[serde(default = "reload_seconds")]
    pub reload_seconds: u64,
    /// Which certificate stands for which principal. Default: none, since a name in a certificate proves nothing here
    /// until somebody says whose it is.
    #[serde(default = "client_identities")]
    pub client_identities: Vec<ClientIdentity>,
}

/// One certificate that stands for a principal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientIdentity {
    /// The issuer's distinguished name, as RFC 4514 writes it: `CN=callers,O=Example`. Required.
    pub issuer: String,
    /// The subject alternative name with its kind: `URI:spiffe://example/ci`, `DNS:ci.example`, `email:ci@example`.
    /// Required.
    pub san: String,
    /// The principal, by its id: `user:3` or `service_principal:17`. Required. A name is refused, since a principal that is
    /// created again under the same name would inherit the certificate. `GetCurrentIdentity` shows callers their id as
    /// `principal`; `GetUser`, `ListUsers`, `GetServicePrincipal` and `ListServicePrincipals` show it as `id`.
    pub principal: String,
}

fn reload_seconds() -> u64 {
    60
}

fn client_identities() -> Vec<ClientIdentity> {
    Vec::new()
}

impl Tls {
    /// No TLS: the default, good for loopback only.
    pub(super) fn off() -> Self {
        Self {
            cert_path: None,
            key_path: None,
            client_ca_path: None,
            reload_seconds: reload_seconds(),
            client_identities: client_identities(),
        }
    }

    /// Whether the listener speaks TLS.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.cert_path.is_some() && self.key_path.is_some()
    }

    pub(super) fn check(&self, faults: &mut Faults) {
        match (&self.cert_path, &self.key_path) {
            (Some(_), None) => faults.add("server.tls.key_path", "is needed by `cert_path`"),
            (None, Some(_)) => faults.add("server.tls.cert_path", "is needed by `key_path`"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        readable("server.tls.cert_path", self.cert_path.as_deref(), faults);
        readable("server.tls.key_path", self.key_path.as_deref(), faults);
        readable("server.tls.client_ca_path", self.client_ca_path.as_deref(), faults);
        if self.client_ca_path.is_some() && !self.is_on() {
            faults.add("server.tls.client_ca_path", "needs `cert_path` and `key_path`");
        }
        faults.range("server.tls.reload_seconds", self.reload_seconds, &(1..=86_400));
        if !self.client_identities.is_empty() && self.client_ca_path.is_none() {
            faults.add("server.tls.client_identities", "needs `client_ca_path`");
        }
        let mut seen = HashSet::new();
        for (i, identity) in self.client_identities.iter().enumerate() {
            let key = format!("server.tls.client_identities[{i}]");
            identity.check(&key, faults);
            if !seen.insert((&identity.issuer, &identity.san)) {
                faults.add(key, "repeats the issuer and san of an earlier one");
            }
        }
    }
}

impl ClientIdentity {
    fn check(&self, key: &str, faults: &mut Faults) {
        if self.issuer.trim().is_empty() {
            faults.add(format!("{key}.issuer"), "must not be empty");
        }
        if !follows(&self.san, &["URI:", "DNS:", "email:"]) {
            faults.add(format!("{key}.san"), "must be `URI:…`, `DNS:…` or `email:…`");
        }
        if names::principal(&self.principal).is_none() {
            let why = "must be `user:<id>` or `service_principal:<id>` with the numeric id, not a name; \
                       GetUser and GetServicePrincipal show it as `id`";
            faults.add(format!("{key}.principal"), why);
        }
    }
}

fn follows(text: &str, kinds: &[&str]) -> bool {
    kinds.iter().any(|kind| text.strip_prefix(kind).is_some_and(|rest| !rest.is_empty()))
}

/// Opening is the only sure answer: modes and owners alone do not tell.
pub(super) fn readable(key: &str, path: Option<&Path>, faults: &mut Faults) {
    if let Some(Err(error)) = path.map(File::open) {
        faults.add(key, format!("cannot be read: {error}"));
    }
}
