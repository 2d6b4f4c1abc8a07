//! Selects the gateway of a call: by its credential if that is bound to a gateway, otherwise by the metadata, otherwise
//! by the authority, otherwise the only gateway that is visible to the caller (T02).

use http::uri::Authority;
use http::{HeaderMap, Request};

use crate::access::principal::{Caller, PrincipalId};
use crate::access::snapshot::Snapshot;
use crate::app::App;
use crate::db::types::{GatewayId, GatewayRef, NamedGateway};
use crate::error::{Error, Reason, ResourceKind};
use crate::role::Role;

/// Metadata key that names a gateway.
const HEADER: &str = "x-shoreguard-gateway";

/// Maximum number of gateways that are listed if the call names none.
const CHOICES_MAX: usize = 20;

/// Maximum length of a name that is repeated to the caller and the audit log, in characters.
const NAME_CHARACTERS_MAX: usize = 253;

/// A gateway that is visible to the caller, and the caller's role there.
#[derive(Debug, Clone)]
pub(crate) struct SelectedGateway {
    /// The gateway.
    pub(crate) gateway: GatewayRef,
    /// The caller's role there; never [`Role::None`].
    pub(crate) role: Role,
}

/// The gateway names in a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestedGateway<'a> {
    metadata: Option<&'a str>,
    authority: Option<&'a str>,
}

impl<'a> RequestedGateway<'a> {
    /// Reads metadata and authority.
    pub(crate) fn from_request(
        headers: &'a HeaderMap,
        authority: Option<&'a Authority>,
        domain: Option<&str>,
    ) -> Result<Self, Error> {
        let text = |value: &'a http::HeaderValue| value.to_str();
        let metadata = headers.get(HEADER).map(text).transpose();
        let why = "must be a gateway name in visible ASCII characters";
        let metadata = metadata.map_err(|_| Error::invalid(HEADER, why))?;
        let authority = domain.and_then(|domain| host_label(authority?.host(), domain));
        Ok(Self { metadata, authority })
    }
}

/// Selects the gateway of a call.
pub(crate) fn select(
    snapshot: &Snapshot,
    caller: &Caller,
    requested: RequestedGateway<'_>,
) -> Result<SelectedGateway, Error> {
    match caller.bound_gateway() {
        None => select_named(snapshot, caller.principal(), single_name(requested)?),
        Some(gateway) => select_bound(snapshot, caller.principal(), gateway, requested),
    }
}

/// Returns the gateway that a rejected call selects, for the audit log: as named by the caller, even if it does not
/// exist.
pub(crate) fn named_gateway<B>(
    app: &App,
    caller: &Caller,
    request: &Request<B>,
) -> Option<NamedGateway> {
    if let Some(id) = caller.bound_gateway() {
        return Some(NamedGateway { id: Some(id), name: app.snapshot.gateway_name(id)? });
    }
    let domain = app.config.server.gateway_domain.as_deref();
    let requested =
        RequestedGateway::from_request(request.headers(), request.uri().authority(), domain)
            .ok()?;
    let name: String = single_name(requested).ok()??.chars().take(NAME_CHARACTERS_MAX).collect();
    Some(NamedGateway { id: app.snapshot.gateway_id(&name), name: name.into() })
}

/// Selects the gateway to which the credential is bound. Naming any other gateway gets the same error, whether or not
/// it exists.
fn select_bound(
    snapshot: &Snapshot,
    principal: PrincipalId,
    gateway: GatewayId,
    requested: RequestedGateway<'_>,
) -> Result<SelectedGateway, Error> {
    let gone = || Error::Unauthenticated { reason: Reason::CredentialInvalid };
    let own = snapshot.gateway_name(gateway).ok_or_else(gone)?;
    if [requested.metadata, requested.authority].into_iter().flatten().any(|named| named != &*own) {
        let why = format!("the credential is valid only for gateway `{own}`");
        return Err(Error::refused(Reason::CredentialBound, why));
    }
    select_named(snapshot, principal, Some(&own))
}

/// Returns the name in the call, if any.
fn single_name(requested: RequestedGateway<'_>) -> Result<Option<&str>, Error> {
    match (requested.metadata, requested.authority) {
        // Host names are case-insensitive, gateway names are not: the authority is compared as a host name.
        (Some(m), Some(a)) if !m.eq_ignore_ascii_case(a) => {
            let why =
                "`x-shoreguard-gateway` and the host name select different gateways: send only one";
            Err(Error::refused(Reason::GatewayAmbiguous, why))
        }
        (named, other) => Ok(named.or(other)),
    }
}

/// Returns the label of a host directly below the domain, or `None` if the host is not one label below it.
fn host_label<'a>(host: &'a str, domain: &str) -> Option<&'a str> {
    let at = host.len().checked_sub(domain.len())?;
    let (label, end) = host.split_at_checked(at)?;
    let label = label.strip_suffix('.').filter(|_| end.eq_ignore_ascii_case(domain))?;
    (!label.is_empty() && !label.contains('.')).then_some(label)
}

/// Returns the named gateway, or the only visible one if `named` is `None`. A gateway that does not exist gets the same
/// error as one on which the caller has no role.
fn select_named(
    snapshot: &Snapshot,
    principal: PrincipalId,
    named: Option<&str>,
) -> Result<SelectedGateway, Error> {
    let Some(name) = named else { return select_only(snapshot, principal) };
    let found = snapshot.find_gateway(principal, name).filter(|(_, role)| *role > Role::None);
    let (gateway, role) = found.ok_or_else(|| {
        let name: String = name.chars().take(NAME_CHARACTERS_MAX).collect();
        Error::not_found(ResourceKind::Gateway, name)
    })?;
    Ok(SelectedGateway { gateway, role })
}

fn select_only(snapshot: &Snapshot, principal: PrincipalId) -> Result<SelectedGateway, Error> {
    let (visible, more) = snapshot.gateway_roles(principal, CHOICES_MAX);
    if let ([(name, _)], false) = (visible.as_slice(), more) {
        return select_named(snapshot, principal, Some(name));
    }
    let names: Vec<&str> = visible.iter().map(|(name, _)| &**name).collect();
    let list = names.join(", ");
    let hint = match (names.is_empty(), more) {
        (true, _) => "the caller has a role on no gateway".to_owned(),
        (false, true) => format!("set `{HEADER}`, for example to one of {list}"),
        (false, false) => format!("set `{HEADER}` to one of {list}"),
    };
    let why = format!("no gateway selected: {hint}");
    Err(Error::refused(Reason::GatewayAmbiguous, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(metadata: Option<&str>, authority: &str) -> Result<Option<String>, ()> {
        let mut headers = HeaderMap::new();
        if let Some(name) = metadata {
            headers.insert(HEADER, name.parse().unwrap());
        }
        let authority: Authority = authority.parse().unwrap();
        RequestedGateway::from_request(&headers, Some(&authority), Some("gw.example.com"))
            .and_then(single_name)
            .map(|name| name.map(str::to_owned))
            .map_err(|_| ())
    }

    #[test]
    fn metadata_or_the_authority_names_the_gateway_and_both_must_agree() {
        let prod = Ok(Some("prod".to_owned()));
        assert_eq!(parse(Some("prod"), "10.0.0.1:8443"), prod);
        assert_eq!(parse(None, "prod.gw.example.com:8443"), prod);
        assert_eq!(parse(None, "prod.GW.example.COM"), prod);
        assert_eq!(parse(Some("prod"), "prod.gw.example.com"), prod);
        assert_eq!(parse(Some("prod"), "PROD.gw.example.com"), prod);
        assert_eq!(parse(Some("prod"), "test.gw.example.com"), Err(()));
    }

    #[test]
    fn an_authority_that_is_not_one_label_under_the_domain_selects_no_gateway() {
        for authority in [
            "gw.example.com",
            "a.b.gw.example.com",
            "prodgw.example.com",
            "prod.gw.example.com.evil.test",
            "example.com",
            "127.0.0.1:80",
            "[::1]:80",
        ] {
            assert_eq!(parse(None, authority), Ok(None), "{authority}");
        }
    }
}
