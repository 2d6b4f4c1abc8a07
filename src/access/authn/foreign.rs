//! Access tokens of OIDC issuers, used directly as bearer tokens if the configuration accepts them.
//!
//! Invariants
//! - only the verifier of the issuer that the token names checks it, and only if bearer tokens of that issuer are
//!   accepted;
//! - a token authenticates the user that its identity is linked to, otherwise the service principal of the first
//!   matching rule; nothing is created for it, and a rule does not admit a user who is not allowed to call;
//! - it is verified on each call: no session could outlive it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use tracing::debug;

use super::AuthnError;
use crate::access::principal::{Caller, PrincipalId};
use crate::access::snapshot::Snapshot;
use crate::oidc::claims::Claims;
use crate::oidc::verify::{LEEWAY_SECONDS, TokenError};
use crate::oidc::{Oidc, Provider};

#[derive(Deserialize)]
struct IssuerClaim {
    iss: String,
}

/// Returns the provider that the token names, if its bearer tokens are accepted.
fn named_provider<'a>(oidc: &'a Oidc, token: &str) -> Option<&'a Arc<Provider>> {
    if !oidc.all().iter().any(|provider| provider.config.accept_bearer) {
        return None;
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let issued: IssuerClaim = serde_json::from_slice(&payload).ok()?;
    oidc.by_issuer(&issued.iss).filter(|provider| provider.config.accept_bearer)
}

/// Returns the caller of a token of an OIDC issuer, or `None` if the token is not valid.
pub(super) fn authenticate(
    oidc: &Oidc,
    token: &str,
    snapshot: &Snapshot,
    claims: Option<&Claims>,
) -> Result<Option<Caller>, AuthnError> {
    let Some(provider) = named_provider(oidc, token) else { return Ok(None) };
    if let Some(claims) = claims {
        return Ok(resolve_caller(provider, claims, snapshot));
    }
    match provider.verify_from_cache(token) {
        Ok(claims) => Ok(resolve_caller(provider, &claims, snapshot)),
        Err(TokenError::Refused(_)) => Ok(None),
        Err(TokenError::UnknownKey) => {
            Err(AuthnError::KeysNotCached(Arc::clone(provider), token.to_owned()))
        }
    }
}

fn resolve_caller(provider: &Provider, claims: &Claims, snapshot: &Snapshot) -> Option<Caller> {
    let config = &provider.config;
    let for_people = config.audience.as_ref().is_some_and(|audience| claims.is_for(audience));
    let linked = snapshot.linked_user(&config.issuer, claims.subject()).filter(|_| for_people);
    let found = if let Some(user) = linked {
        snapshot.caller(PrincipalId::User(user))?
    } else {
        let unmatched = |why: &&str| debug!(provider = config.name, why, "a token is not accepted");
        let rule = claims.first_matching_rule(config).inspect_err(unmatched).ok()?;
        let (id, _) =
            snapshot.live_service_principal(&rule.service_principal_name(&config.name))?;
        let principal = PrincipalId::ServicePrincipal(id);
        // A service principal that was created for the rule gets the role of the rule at the next exchange; until then
        // it is refused if its role is higher.
        if rule.role.is_some_and(|role| snapshot.global_role(principal) > role) {
            return None;
        }
        snapshot.caller(principal)?
    };
    let leeway = Duration::from_secs(LEEWAY_SECONDS.unsigned_abs());
    let ends = claims.expires_at().plus(leeway);
    let caller =
        Caller { expires_at: Some(found.expires_at.map_or(ends, |at| at.min(ends))), ..found };
    snapshot.is_live(&caller).then_some(caller)
}
