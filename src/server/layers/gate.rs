//! Checks the method, and whether this caller could ever call it, before the body is read.
//!
//! A path that no table describes is rejected. So is a caller that does not hold the role of the method anywhere, and a
//! caller with a credential for one gateway that calls Shoreguard's own API (T02). The exact scope is checked later, on
//! the decoded message.

use http::Uri;
use http::uri::PathAndQuery;

use crate::access::policy::{
    self, AllowedCallers, AuditMode, Method, UPSTREAM_V0_0, UPSTREAM_V0_1, UpstreamMethod,
};
use crate::access::principal::Caller;
use crate::access::principal::require_user;
use crate::app::App;
use crate::error::{Error, Reason};
use crate::proxy::target;
use crate::role::Role;
use crate::server::stages::{CallFailure, CallState, GatedCall, IdentifiedCall};

/// Rejects paths that no table describes, and callers that could never pass the exact check.
pub(in crate::server) fn admit(identified: IdentifiedCall) -> Result<GatedCall, CallFailure> {
    let IdentifiedCall(mut state) = identified;
    let unknown = || Err(Error::internal("a route that was taken"));
    let route = std::mem::replace(&mut state.route, unknown());
    let route = route.map_err(|error| CallFailure::Refused(error, None))?;
    let CallState { shared, ip, call, .. } = &*state;
    let refuse = |error| CallFailure::Refused(error, Some(route));
    if let Route::Own(Method { access: AllowedCallers::Public, .. }) = &route {
        shared.public_limit.admit(*ip).map_err(refuse)?;
    }
    if let Err(error) = check_caller(&shared.app, &route, call.caller.as_ref()) {
        if let (Route::Proxied { .. }, Some(caller)) = (&route, &call.caller) {
            call.note.lock().selected_gateway =
                target::named_gateway(&shared.app, caller, &state.request);
        }
        return Err(refuse(error));
    }
    Ok(GatedCall { state, route })
}

/// The target of a path.
#[derive(Debug, Clone, Copy)]
pub enum Route {
    /// One of Shoreguard's own RPCs.
    Own(&'static Method),
    /// Health or reflection, which only return public information.
    Open(&'static str),
    /// An upstream RPC, with its row in each generation.
    Proxied {
        /// The path.
        path: &'static str,
        /// Its row in generation 0.0.
        v0_0: Option<&'static UpstreamMethod>,
        /// Its row in generation 0.1.
        v0_1: Option<&'static UpstreamMethod>,
    },
}

impl Route {
    /// Returns the path, as stored in the table.
    #[must_use]
    pub fn path(&self) -> &'static str {
        match self {
            Self::Own(method) => method.path,
            Self::Open(path) | Self::Proxied { path, .. } => path,
        }
    }

    /// Returns whether the response is a stream: streams end when a drain begins, other calls are finished.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        match self {
            Self::Own(method) => method.streaming.is_server_streaming(),
            Self::Open(path) => !OPEN_UNARY_METHODS.contains(path),
            Self::Proxied { v0_0, v0_1, .. } => {
                let mut rows = [v0_0, v0_1].into_iter().flatten();
                rows.any(|row| row.streaming.is_server_streaming())
            }
        }
    }
}

/// Public methods that the router serves and that have no row in the policy table.
const OPEN_METHODS: [&str; 5] = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Those of [`OPEN_METHODS`] whose response is one message.
const OPEN_UNARY_METHODS: [&str; 2] =
    ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/List"];

/// The only own method that a credential for one gateway can call: it returns what the credential is.
const IDENTITY_METHOD: &str = "/shoreguard.v1.AuthService/GetCurrentIdentity";

/// Public writes with which an admin gets access. Below the disk reserve they are checked after the caller has
/// authenticated; other public writes are rejected at once. A login on a device begins with a row that any caller can
/// store, so neither of its calls is among them: an admin without a browser uses a password or an API key.
const SIGN_IN_METHODS: [&str; 7] = [
    "/shoreguard.v1.AuthService/AcceptInvite",
    "/shoreguard.v1.AuthService/BeginOidcLogin",
    "/shoreguard.v1.AuthService/CompleteOidcLogin",
    "/shoreguard.v1.AuthService/ExchangeOidcToken",
    "/shoreguard.v1.AuthService/Login",
    "/shoreguard.v1.AuthService/RefreshSession",
    "/shoreguard.v1.AuthService/Setup",
];

/// Returns `:path` as sent, with its query. In gRPC over HTTP/2, `:path` is `/`, a service, `/` and a method: a path with
/// a query names no method.
pub(super) fn method_path(uri: &Uri) -> &str {
    uri.path_and_query().map_or("", PathAndQuery::as_str)
}

/// Returns the route of a path (see `method_path`), compared byte for byte (T09).
///
/// # Errors
/// `Unimplemented` if no table has the path.
pub fn route(path: &str) -> Result<Route, Error> {
    if let Some(method) = policy::find_method(path) {
        return Ok(Route::Own(method));
    }
    let (v0_0, v0_1) = (
        policy::find_upstream_method(UPSTREAM_V0_0, path),
        policy::find_upstream_method(UPSTREAM_V0_1, path),
    );
    if let Some(row) = v0_0.or(v0_1) {
        return Ok(Route::Proxied { path: row.path, v0_0, v0_1 });
    }
    if let Some(path) = OPEN_METHODS.iter().find(|open| **open == path) {
        return Ok(Route::Open(path));
    }
    // A query can contain a credential, so it is not repeated.
    let without_query = path.split('?').next().unwrap_or_default();
    Err(Error::Unimplemented { path: without_query.chars().take(200).collect() })
}

/// Rejects a caller that could never pass the exact check.
fn check_caller(app: &App, route: &Route, caller: Option<&Caller>) -> Result<(), Error> {
    let bound = caller.and_then(Caller::bound_gateway);
    if let (Route::Own(method), Some(_)) = (route, bound)
        && method.path != IDENTITY_METHOD
    {
        let why = "the credential is valid only for the proxied API of one gateway";
        return Err(Error::refused(Reason::CredentialBound, why));
    }
    let needed = match route {
        Route::Own(Method { access: AllowedCallers::Public, path, .. })
            if is_write(route) && !SIGN_IN_METHODS.contains(path) =>
        {
            return app.disk.admit(Role::None);
        }
        Route::Open(_) | Route::Own(Method { access: AllowedCallers::Public, .. }) => return Ok(()),
        Route::Own(Method {
            access: AllowedCallers::Authenticated | AllowedCallers::User, ..
        }) => Role::None,
        Route::Own(Method { access: AllowedCallers::Role(role), .. }) => *role,
        Route::Proxied { path, v0_0, v0_1 } => {
            let guards = [v0_0, v0_1].into_iter().filter_map(|row| row.as_ref()?.policy.as_ref());
            match guards.map(|guard| guard.role).min() {
                Some(role) => role,
                // Rejected for every caller: the method is for sandboxes, peers or operators of a gateway.
                None => {
                    return Err(Error::refused(
                        Reason::MethodNotForwarded,
                        format!("`{path}` is never forwarded"),
                    ));
                }
            }
        }
    };
    let caller = caller.ok_or(Error::Unauthenticated { reason: Reason::CredentialMissing })?;
    app.snapshot.check_fresh()?;
    if let Route::Own(Method { access: AllowedCallers::User, .. }) = route {
        require_user(caller.principal())?;
    }
    let best = match bound {
        None => app.snapshot.best_role(caller.principal()),
        Some(gateway) => app.snapshot.role_on(caller.principal(), gateway),
    };
    if best < needed {
        let why = format!("role `{needed}` is needed, the caller has `{best}` at most");
        return Err(Error::Denied { why });
    }
    if is_write(route) { app.disk.admit(best) } else { Ok(()) }
}

/// Returns whether a call is audited as a write.
#[must_use]
pub fn is_write(route: &Route) -> bool {
    match route {
        Route::Open(_) => false,
        Route::Own(method) => method.audit == AuditMode::Write,
        Route::Proxied { v0_0, v0_1, .. } => {
            let guards = [v0_0, v0_1].into_iter().filter_map(|row| row.as_ref()?.policy.as_ref());
            guards.into_iter().any(|guard| guard.audit == AuditMode::Write)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::layers::fixture::{Fixture, LIST_GATEWAYS, LOGIN, grpc_request, refusal};

    #[tokio::test(flavor = "multi_thread")]
    async fn public_methods_need_no_credential_and_other_methods_do() {
        let fixture = Fixture::new("").await;
        let gated = admit(fixture.identified(grpc_request(LOGIN))).unwrap();
        assert_eq!(gated.route.path(), LOGIN);
        let (error, route) = refusal(admit(fixture.identified(grpc_request(LIST_GATEWAYS))));
        let missing = Error::Unauthenticated { reason: Reason::CredentialMissing };
        assert_eq!(error.to_string(), missing.to_string());
        assert_eq!(route.unwrap().path(), LIST_GATEWAYS);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_unknown_path_is_refused_without_a_route() {
        let fixture = Fixture::new("").await;
        let (error, route) = refusal(admit(fixture.identified(grpc_request("/a.B/C"))));
        assert!(matches!(error, Error::Unimplemented { .. }) && route.is_none(), "{error}");
    }

    #[test]
    fn the_query_is_part_of_the_path_of_a_method() {
        for path in [LOGIN, "/a.B/C?", "/a.B/C?x=y"] {
            for uri in [path.to_owned(), format!("http://localhost{path}")] {
                assert_eq!(method_path(&uri.parse().unwrap()), path);
            }
        }
    }

    #[test]
    fn a_path_is_matched_byte_for_byte() {
        assert!(matches!(route("/openshell.v1.OpenShell/Health"), Ok(Route::Proxied { .. })));
        for near in [
            "/openshell.v1.OpenShell/health",
            "/openshell.v1.OpenShell//Health",
            "/openshell.v1.OpenShell/Health/",
            "/openshell.v1.OpenShell/Healt%68",
            "/openshell.v1.openshell/Health",
            "/openshell.v1.OpenShell/Health?",
            "/openshell.v1.OpenShell/Health?gateway=edge",
            "/_ws_tunnel",
            "/",
            "",
        ] {
            assert!(matches!(route(near), Err(Error::Unimplemented { .. })), "{near}");
        }
    }
}
