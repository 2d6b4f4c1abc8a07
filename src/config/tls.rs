//! `[server.tls]`: the certificate of the listener and the client certificates of callers.
//!
//! Invariant: a client certificate is mapped by its issuer and one full subject alternative name, under a CA that is
//! used only for callers, to exactly one principal, which is named by its id.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::fault::Faults;
use crate::names;
use crate::net::dn::DistinguishedName;
use crate::net::listener_tls;

/// TLS of the listener.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Path of the server's certificate with its chain, PEM. It requires `key_path`. Default: none, which disables TLS.
    #[serde(default)]
    pub cert_path: Option<PathBuf>,
    /// Path of the private key of the certificate, PEM. It requires `cert_path`. Default: none.
    #[serde(default)]
    pub key_path: Option<PathBuf>,
    /// Path of the CA of client certificates, PEM. It requires `cert_path` and `key_path`. Default: none, so that no
    /// certificate identifies a caller.
    #[serde(default)]
    pub client_ca_path: Option<PathBuf>,
    /// Interval at which the files are checked for changes, in seconds; SIGHUP checks them at once. Range 1 to 86,400.
    /// Default 60: a certificate is renewed days before the old one expires.
    #[serde(default = "reload_seconds")]
    pub reload_seconds: u64,
    /// Maps client certificates to principals. It requires `client_ca_path`, and each pair of issuer and san can occur
    /// once. Default: none: a name in a certificate proves nothing until it is mapped here.
    #[serde(default = "client_identities")]
    pub client_identities: Vec<ClientIdentity>,
}

/// Maps one client certificate to a principal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientIdentity {
    /// Distinguished name of the issuer as RFC 4514 writes it: the last part of the name comes first, and a special
    /// character in a value is escaped, as in `CN=callers,O=Example\, Inc.`. `openssl x509 -noout -issuer -nameopt
    /// RFC2253` prints it for a certificate. Names are compared by their parts, in which case and spaces count.
    /// Required.
    pub issuer: String,
    /// Subject alternative name with its kind: `URI:spiffe://example/ci`, `DNS:ci.example`, `email:ci@example`.
    /// Required.
    pub san: String,
    /// Principal by its id: `user:3` or `service_principal:17`. Required. A name is rejected, since a principal that is
    /// created again under the same name would inherit the certificate. `GetCurrentIdentity` returns the caller's id as
    /// `principal`; `GetUser`, `ListUsers`, `GetServicePrincipal` and `ListServicePrincipals` return it as `id`.
    pub principal: String,
}

fn reload_seconds() -> u64 {
    60
}

fn client_identities() -> Vec<ClientIdentity> {
    Vec::new()
}

impl Tls {
    /// Returns the default, no TLS, which is suitable only for loopback.
    pub(super) fn disabled() -> Self {
        Self {
            cert_path: None,
            key_path: None,
            client_ca_path: None,
            reload_seconds: reload_seconds(),
            client_identities: client_identities(),
        }
    }

    /// Returns whether the listener uses TLS.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.cert_path.is_some() && self.key_path.is_some()
    }

    pub(super) fn check(&self, faults: &mut Faults) {
        match (&self.cert_path, &self.key_path) {
            (Some(_), None) => faults.add("server.tls.key_path", "is needed by `cert_path`"),
            (None, Some(_)) => faults.add("server.tls.cert_path", "is needed by `key_path`"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        self.check_files(faults);
        if self.client_ca_path.is_some() && !self.is_enabled() {
            faults.add("server.tls.client_ca_path", "needs `cert_path` and `key_path`");
        }
        faults.check_range("server.tls.reload_seconds", self.reload_seconds, &(1..=86_400));
        if !self.client_identities.is_empty() && self.client_ca_path.is_none() {
            faults.add("server.tls.client_identities", "needs `client_ca_path`");
        }
        let mut seen = HashSet::new();
        for (i, identity) in self.client_identities.iter().enumerate() {
            let key = format!("server.tls.client_identities[{i}]");
            identity.check(&key, faults);
            let issuer = DistinguishedName::parse(&identity.issuer).ok();
            if issuer.is_some_and(|issuer| !seen.insert((issuer, &identity.san))) {
                faults.add(key, "repeats the issuer and san of an earlier one");
            }
        }
    }
}

impl Tls {
    /// Reads the files as the listener does, so that each file that it would reject is a fault with its own key.
    fn check_files(&self, faults: &mut Faults) {
        let mut read = |key: &str, path: Option<&Path>| match path.map(fs::read) {
            None => None,
            Some(Ok(bytes)) => Some(Zeroizing::new(bytes)),
            Some(Err(error)) => {
                faults.add(key, format!("cannot be read: {error}"));
                None
            }
        };
        let cert = read("server.tls.cert_path", self.cert_path.as_deref());
        let key = read("server.tls.key_path", self.key_path.as_deref());
        let ca = read("server.tls.client_ca_path", self.client_ca_path.as_deref());
        let [cert, key, ca] =
            [&cert, &key, &ca].map(|file| file.as_ref().map(|bytes| bytes.as_slice()));
        for fault in listener_tls::find_faults(cert, key, ca) {
            faults.add(fault.key, fault.why);
        }
    }
}

impl ClientIdentity {
    fn check(&self, key: &str, faults: &mut Faults) {
        if let Err(why) = DistinguishedName::parse(&self.issuer) {
            let why = format!(
                "must be a distinguished name as RFC 4514 writes it, such as `CN=callers,O=Example`: {why}"
            );
            faults.add(format!("{key}.issuer"), why);
        }
        if !has_prefix_and_value(&self.san, &["URI:", "DNS:", "email:"]) {
            faults.add(format!("{key}.san"), "must be `URI:…`, `DNS:…` or `email:…`");
        }
        if names::parse_principal(&self.principal).is_none() {
            let why = "must be `user:<id>` or `service_principal:<id>` with the numeric id, not a name; \
                       GetUser and GetServicePrincipal show it as `id`";
            faults.add(format!("{key}.principal"), why);
        }
    }
}

fn has_prefix_and_value(text: &str, kinds: &[&str]) -> bool {
    kinds.iter().any(|kind| text.strip_prefix(kind).is_some_and(|rest| !rest.is_empty()))
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn faults(issuers: [&str; 2]) -> Vec<String> {
        let table = |issuer: &str| {
            format!(
                "[[server.tls.client_identities]]\nissuer = '{issuer}'\nsan = 'DNS:x'\nprincipal = 'user:3'\n"
            )
        };
        let found = Config::from_toml(&issuers.map(table).concat()).unwrap_err();
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_issuer_must_be_a_distinguished_name_and_is_compared_as_such() {
        let no_ca = "`server.tls.client_identities` needs `client_ca_path`".to_owned();
        assert_eq!(faults(["CN=a,O=b", "O=b,CN=a"]), [no_ca.as_str()]);
        assert_eq!(faults(["O=b, CN=a", "O=b\\, CN=a"]), [no_ca.as_str()]);
        let again =
            "`server.tls.client_identities[1]` repeats the issuer and san of an earlier one";
        assert_eq!(faults(["CN=a,O=b", "cn=\\61, O=b"]), [no_ca.as_str(), again]);
        for bad in ["", " ", "callers", "CN=a;O=b"] {
            let found = faults([bad, "CN=a"]);
            let start = "`server.tls.client_identities[0].issuer` must be a distinguished name as";
            assert!(found[1].starts_with(start), "{bad}: {found:?}");
        }
    }
}
