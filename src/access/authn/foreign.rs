//! Access tokens of OIDC issuers, sent as they are, where the configuration takes them.
//!
//! Invariants
//! - it is one issuer's verifier that looks at a token: the one that the token names, if that one is taken here at all;
//! - a token stands for the user that its identity is linked to, or else for whom the first fitting rule names; nothing is
//!   made for it, and a user who may not call is not let in by a rule instead;
//! - it is verified at each call: there is no session that could outlive it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::Unknown;
use crate::access::principal::{Caller, PrincipalId};
use crate::access::snapshot::Snapshot;
use crate::oidc::claims::Claims;
use crate::oidc::verify::{Fault, LEEWAY_SECONDS};
use crate::oidc::{Oidc, Provider};

#[derive(Deserialize)]
struct Issued {
    iss: String,
}

/// The provider whose token this says it is.
fn provider<'a>(oidc: &'a Oidc, token: &str) -> Option<&'a Arc<Provider>> {
    if !oidc.all().iter().any(|provider| provider.config.accept_bearer) {
        return None;
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let issued: Issued = serde_json::from_slice(&payload).ok()?;
    oidc.by_issuer(&issued.iss).filter(|provider| provider.config.accept_bearer)
}

/// The caller of a foreign token.
pub(super) fn caller(
    oidc: &Oidc,
    token: &str,
    snapshot: &Snapshot,
    claims: Option<&Claims>,
) -> Result<Option<Caller>, Unknown> {
    let Some(provider) = provider(oidc, token) else { return Ok(None) };
    if let Some(claims) = claims {
        return Ok(stands_for(provider, claims, snapshot));
    }
    match provider.access_now(token) {
        Ok(claims) => Ok(stands_for(provider, &claims, snapshot)),
        Err(Fault::Refused(_)) => Ok(None),
        Err(Fault::UnknownKey) => Err(Unknown::KeysWanted(Arc::clone(provider), token.to_owned())),
    }
}

fn stands_for(provider: &Provider, claims: &Claims, snapshot: &Snapshot) -> Option<Caller> {
    let config = &provider.config;
    let for_people = config.audience.as_ref().is_some_and(|audience| claims.is_for(audience));
    let linked = snapshot.linked_to(&config.issuer, claims.subject()).filter(|_| for_people);
    let found = match linked {
        Some(user) => snapshot.caller(PrincipalId::User(user))?,
        None => {
            let rule = claims.rule(config)?;
            let (id, _) = snapshot.service_principal(&rule.holder(&config.name))?;
            let principal = PrincipalId::ServicePrincipal(id);
            // One that was made for the rule has its role from the next exchange on; until then no more than it says.
            if rule.role.is_some_and(|role| snapshot.global_role(principal) > role) {
                return None;
            }
            snapshot.caller(principal)?
        }
    };
    let leeway = Duration::from_secs(LEEWAY_SECONDS.unsigned_abs());
    let ends = claims.expires_at().plus(leeway);
    let caller =
        Caller { expires_at: Some(found.expires_at.map_or(ends, |at| at.min(ends))), ..found };
    snapshot.is_live(&caller).then_some(caller)
}
