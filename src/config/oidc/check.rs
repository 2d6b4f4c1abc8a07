//! Checks `[oidc]` for values that are out of range or contradict each other.

use std::collections::HashSet;

use http::Uri;

use super::{Oidc, OidcProvider, OidcRule};
use crate::characters::is_invisible;
use crate::config::fault::Faults;
use crate::config::read::{ConfigKey, Section, ValueKind};
use crate::names::is_folded_host;
use crate::net::loopback::is_loopback_host;
use crate::net::pem_files;

/// Maximum number of issuers.
const PROVIDERS_MAX: usize = 16;
/// Maximum number of rules of one issuer.
const RULES_MAX: usize = 64;
/// Maximum number of items of any list: values, domains, scopes, conditions and so on.
const ITEMS_MAX: usize = 64;
/// Maximum number of characters of the name of a provider or rule; both are part of the name of a service principal.
const NAME_CHARACTERS_MAX: usize = 40;
/// Maximum number of characters of any other text.
const TEXT_CHARACTERS_MAX: usize = 512;

impl Section for Oidc {
    const KEYS: &'static [ConfigKey] = &[
        ConfigKey::new("providers", ValueKind::Tables),
        ConfigKey::new("allowed_networks", ValueKind::List),
        ConfigKey::new("timeout_seconds", ValueKind::Number),
    ];

    fn check(&self, faults: &mut Faults) {
        faults.check_range("oidc.timeout_seconds", self.timeout_seconds, &(1..=60));
        if self.providers.len() > PROVIDERS_MAX {
            faults.add("oidc.providers", format!("must be at most {PROVIDERS_MAX}"));
        }
        let (mut names, mut issuers) = (HashSet::new(), HashSet::new());
        for (i, provider) in self.providers.iter().enumerate() {
            let key = format!("oidc.providers[{i}]");
            provider.check(&key, faults);
            if !names.insert(&provider.name) {
                faults.add(format!("{key}.name"), "repeats that of an earlier one");
            }
            if !issuers.insert(&provider.issuer) {
                faults.add(format!("{key}.issuer"), "repeats that of an earlier one");
            }
        }
    }
}

impl OidcProvider {
    fn check(&self, key: &str, faults: &mut Faults) {
        check_slug(&format!("{key}.name"), &self.name, faults);
        for (what, given) in [
            ("client_id", &self.client_id),
            ("display_name", &self.display_name),
            ("audience", &self.audience),
            ("role_claim", &self.role_claim),
        ] {
            if let Some(given) = given {
                check_text(&format!("{key}.{what}"), given, faults);
            }
        }
        if let Some(why) = issuer_fault(&self.issuer) {
            faults.add(format!("{key}.issuer"), why);
        }
        self.check_secret(key, faults);
        self.check_login(key, faults);
        self.check_roles(key, faults);
        self.check_tokens(key, faults);
        if let Some(Err(why)) = self.ca_path.as_deref().map(pem_files::read_roots) {
            faults.add(format!("{key}.ca_path"), why);
        }
    }

    fn check_secret(&self, key: &str, faults: &mut Faults) {
        let needs_client = self.client_secret.is_some()
            || self.client_secret_path.is_some()
            || self.loopback_redirects
            || !self.redirect_uris.is_empty();
        if needs_client && self.client_id.is_none() {
            faults.add(
                format!("{key}.client_id"),
                "is required if a client secret, `redirect_uris` or `loopback_redirects` is set",
            );
        }
        if self.client_secret.is_some() && self.client_secret_path.is_some() {
            let why = "must not be set beside `client_secret`";
            faults.add(format!("{key}.client_secret_path"), why);
        }
        match self.secret() {
            Err(error) => {
                let why = format!("cannot be read: {error}");
                faults.add(format!("{key}.client_secret_path"), why);
            }
            Ok(Some(secret)) if secret.expose().is_empty() => {
                let why = "must not be empty: a public client has none";
                faults.add(format!("{key}.client_secret"), why);
            }
            Ok(_) => {}
        }
    }

    fn check_login(&self, key: &str, faults: &mut Faults) {
        let lists = [("scopes", &self.scopes), ("redirect_uris", &self.redirect_uris)];
        for (what, list) in lists.into_iter().chain([("email_domains", &self.email_domains)]) {
            check_list(&format!("{key}.{what}"), list, faults);
        }
        let plain = |scope: &String| scope.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
        if !self.scopes.iter().any(|scope| scope == "openid") || !self.scopes.iter().all(plain) {
            faults.add(format!("{key}.scopes"), "must be plain words, `openid` among them");
        }
        for (i, uri) in self.redirect_uris.iter().enumerate() {
            if let Some(why) = url_fault(uri) {
                faults.add(format!("{key}.redirect_uris[{i}]"), why);
            }
        }
        if !self.email_domains.iter().all(|domain| is_folded_host(domain)) {
            faults
                .add(format!("{key}.email_domains"), "must be domains in lower case, without `@`");
        }
    }

    fn check_roles(&self, key: &str, faults: &mut Faults) {
        if self.roles.len() > ITEMS_MAX {
            faults.add(format!("{key}.roles"), format!("must be at most {ITEMS_MAX}"));
        }
        if self.role_claim.is_some() == self.roles.is_empty() {
            faults.add(format!("{key}.roles"), "and `role_claim` need each other");
        }
        for (value, role) in self.roles.iter().filter(|(_, role)| **role > self.max_role) {
            let why = format!("is `{role}`, above `max_role`, which is `{}`", self.max_role);
            faults.add(format!("{key}.roles.{value}"), why);
        }
    }

    fn check_tokens(&self, key: &str, faults: &mut Faults) {
        if self.accept_bearer && self.audience.is_none() {
            faults.add(format!("{key}.audience"), "is needed by `accept_bearer`");
        }
        if self.audience.is_some() && self.audience == self.client_id {
            faults.add(format!("{key}.audience"), "must not be the `client_id`");
        }
        if self.rules.len() > RULES_MAX {
            faults.add(format!("{key}.rules"), format!("must be at most {RULES_MAX}"));
        }
        let mut names = HashSet::new();
        for (i, rule) in self.rules.iter().enumerate() {
            let key = format!("{key}.rules[{i}]");
            rule.check(&key, self, faults);
            if !names.insert(&rule.name) {
                faults.add(format!("{key}.name"), "repeats that of an earlier one");
            }
        }
    }
}

impl OidcRule {
    fn check(&self, key: &str, provider: &OidcProvider, faults: &mut Faults) {
        check_slug(&format!("{key}.name"), &self.name, faults);
        match self.audience.as_ref().or(provider.audience.as_ref()) {
            None => faults.add(format!("{key}.audience"), "is needed here or at the provider"),
            Some(audience) if provider.client_id.as_ref() == Some(audience) => {
                faults.add(format!("{key}.audience"), "must not be the `client_id`");
            }
            Some(audience) => check_text(&format!("{key}.audience"), audience, faults),
        }
        if self.conditions.is_empty() || self.conditions.len() > ITEMS_MAX {
            faults.add(format!("{key}.conditions"), format!("must have 1 to {ITEMS_MAX} entries"));
        }
        for (claim, condition) in &self.conditions {
            let key = format!("{key}.conditions.{claim}");
            if ["iss", "aud"].contains(&claim.as_str()) {
                faults.add(&key, "holds for every token of the issuer: remove the condition");
            }
            let values = condition.values();
            if values.is_empty()
                || values.iter().any(|value| value.trim_end_matches('*').is_empty())
            {
                faults.add(&key, "must not be empty or `*` alone, which matches every value");
            }
            check_list(&key, values, faults);
        }
        match (&self.service_principal, self.role) {
            (None, Some(role)) if role > provider.max_role => {
                let most = provider.max_role;
                let why = format!("is `{role}`, above `max_role`, which is `{most}`");
                faults.add(format!("{key}.role"), why);
            }
            (Some(_), None) | (None, Some(_)) => {}
            (Some(_), Some(_)) | (None, None) => {
                faults.add(key, "must have either `service_principal` or `role`");
            }
        }
    }
}

fn check_slug(key: &str, name: &str, faults: &mut Faults) {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let edge = |b: Option<&u8>| b.is_some_and(|b| *b != b'-');
    let bytes = name.as_bytes();
    let fits = bytes.len() <= NAME_CHARACTERS_MAX;
    if !(fits && edge(bytes.first()) && edge(bytes.last()) && name.bytes().all(good)) {
        let why = format!(
            "must be 1 to {NAME_CHARACTERS_MAX} lowercase letters, digits and inner `-`, got `{name}`"
        );
        faults.add(key, why);
    }
}

fn check_text(key: &str, text: &str, faults: &mut Faults) {
    let count = text.chars().count();
    if text.trim() != text || text.chars().any(is_invisible) {
        faults.add(key, "must have no space at its ends and no control or invisible characters");
    }
    if !(1..=TEXT_CHARACTERS_MAX).contains(&count) {
        faults.add(key, format!("must have 1 to {TEXT_CHARACTERS_MAX} characters, got {count}"));
    }
}

fn check_list(key: &str, list: &[String], faults: &mut Faults) {
    if list.len() > ITEMS_MAX {
        faults.add(key, format!("must be at most {ITEMS_MAX}"));
    }
    for (i, item) in list.iter().enumerate() {
        check_text(&format!("{key}[{i}]"), item, faults);
    }
}

fn issuer_fault(issuer: &str) -> Option<&'static str> {
    url_fault(issuer).or_else(|| issuer.contains('?').then_some("must have no query"))
}

/// Returns why a URL is not accepted, or `None`. `http` is accepted only on loopback: a code or key that crosses a
/// network unencrypted can be read by others.
fn url_fault(url: &str) -> Option<&'static str> {
    let Ok(uri) = url.parse::<Uri>() else { return Some("is not a valid URL") };
    let host = uri.host().unwrap_or_default();
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if is_loopback_host(host) => {}
        Some("http") => return Some("must begin with `https://`, as its host is not loopback"),
        _ => return Some("must begin with `https://`"),
    }
    if host.is_empty() || uri.authority().is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Some("must name a host and no user");
    }
    url.contains('#').then_some("must have no fragment")
}
