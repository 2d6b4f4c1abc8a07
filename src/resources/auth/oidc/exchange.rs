//! Exchanges access tokens of an issuer for session tokens of service principals, for CI jobs and workloads.
//!
//! Invariants
//! - the first matching rule decides, in the order of the configuration; a token that matches no rule is rejected;
//! - the session token becomes invalid with the key of its service principal, and expires no later than the exchanged
//!   token;
//! - a service principal created for a rule has a key that is never disclosed, and the role of the rule.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use crate::access::authn::token::TokenGrant;
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::ctx::AnonymousCtx;
use crate::error::{Error, Reason};
use crate::oidc::provider::ProviderError;
use crate::oidc::verify::TOKEN_BYTES_MAX;
use crate::resources::service_principals;
use crate::role::Role;
use crate::secret::Secret;

/// Maximum lifetime of a session token from an exchange.
pub const LIFETIME_MAX: Duration = Duration::from_mins(15);

/// Result of an exchange.
#[derive(Debug)]
pub struct ExchangedToken {
    /// Session token.
    pub token: Secret,
    /// When it expires.
    pub expires_at: Timestamp,
    /// Name of the service principal.
    pub service_principal: String,
    /// Global role of the service principal.
    pub role: Role,
}

fn reject(provider: &str, why: &str) -> Error {
    warn!(provider, why, "a token was not exchanged");
    Error::Unauthenticated { reason: Reason::CredentialInvalid }
}

/// Exchanges a token.
pub async fn exchange(
    anonymous: AnonymousCtx,
    provider: &str,
    token: &Secret,
) -> Result<ExchangedToken, Error> {
    let app = Arc::clone(anonymous.app());
    let unknown = || reject("unknown", "the provider is not configured");
    let provider = app.authn.oidc.by_name(provider).ok_or_else(unknown)?;
    let config = &provider.config;
    let size = token.expose().len();
    if size > TOKEN_BYTES_MAX {
        let why = format!("is too long: it must have at most {TOKEN_BYTES_MAX} bytes, got {size}");
        return Err(Error::invalid("token", why));
    }
    let claims = match provider.verify_access_token(token.expose()).await {
        Ok(claims) => claims,
        Err(ProviderError::Refused(why)) => return Err(reject(&config.name, why)),
        Err(ProviderError::Unavailable(error)) => return Err(error),
    };
    let fitting = claims.first_matching_rule(config).map_err(|why| reject(&config.name, why))?;
    // Truncated to whole seconds, the resolution of the token.
    let ends = app.clock.now().plus(LIFETIME_MAX).min(claims.expires_at());
    let expires_at = Timestamp::from_unix_seconds(ends.unix_seconds());
    if expires_at <= app.clock.now() {
        return Err(reject(&config.name, "it ends now"));
    }
    let name = fitting.service_principal_name(&config.name);
    let known = app.snapshot.live_service_principal(&name);
    if known.is_none() && fitting.role.is_none() {
        return Err(reject(&config.name, "the service principal of the rule does not exist"));
    }
    if let Some((id, _)) = known {
        app.credential_limit.admit(PrincipalId::ServicePrincipal(id))?;
    }
    let principal = known.map(|(id, _)| PrincipalId::ServicePrincipal(id));
    let role = principal.map_or(Role::None, |principal| app.snapshot.global_role(principal));
    let ctx = anonymous.identify(format!("sp:{name}").into(), principal, role).await?;
    ctx.add_audit_detail("provider", config.name.as_str());
    ctx.add_audit_detail("rule", fitting.name.as_str());
    ctx.add_audit_detail("sub", claims.subject());
    if let Some(role) = fitting.role {
        service_principals::from_config::ensure(&ctx, &name, role).await?;
    }
    let gone = || reject(&config.name, "the service principal of the rule may not call");
    let (id, version) = app.snapshot.live_service_principal(&name).ok_or_else(gone)?;
    let principal = PrincipalId::ServicePrincipal(id);
    let token = app.authn.tokens.issue(&TokenGrant {
        principal,
        version,
        session: None,
        gateway: None,
        authenticated_at: None,
        issued_at: ctx.now(),
        expires_at,
    })?;
    let role = app.snapshot.global_role(principal);
    Ok(ExchangedToken { token: Secret::new(token), expires_at, service_principal: name, role })
}
