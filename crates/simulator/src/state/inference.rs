//! Inference routes: the provider and model of a workspace. Only in generation 0.0.

use tonic::Status;

use super::meta::{self, Meta};
use super::{ObjectKey, State};

/// Maximum number of routes in the gateway.
const ROUTES_MAX: usize = 1_000;

/// The route of a request without a route name.
const DEFAULT_ROUTE: &str = "default";

/// A route.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    /// Name and workspace.
    pub(crate) meta: Meta,
    /// Name of the provider.
    pub(crate) provider: String,
    /// Name of the model.
    pub(crate) model: String,
    /// Timeout of a response; 0 for the gateway's default.
    pub(crate) timeout_secs: u64,
    /// Incremented with each change.
    pub(crate) version: u64,
}

impl State {
    /// Sets a route.
    pub(crate) fn set_route(
        &mut self,
        at: &ObjectKey,
        provider: &str,
        model: &str,
        timeout_secs: u64,
    ) -> Result<Route, Status> {
        let at = self.route_key(at)?;
        if !self.providers.contains_key(&(at.0.clone(), provider.to_owned())) {
            return Err(Status::not_found(format!("provider '{provider}' not found")));
        }
        if model.is_empty() {
            return Err(Status::invalid_argument("model_id is required"));
        }
        meta::check_capacity("inference routes", self.routes.len(), ROUTES_MAX)?;
        let route = self.routes.entry(at.clone()).or_insert_with(|| Route {
            meta: Meta::new(&at.0, &at.1),
            provider: String::new(),
            model: String::new(),
            timeout_secs: 0,
            version: 0,
        });
        provider.clone_into(&mut route.provider);
        model.clone_into(&mut route.model);
        route.timeout_secs = timeout_secs;
        route.version += 1;
        route.meta.bump_version();
        Ok(route.clone())
    }

    /// Returns one route.
    pub(crate) fn get_route(&self, at: &ObjectKey) -> Result<Route, Status> {
        let at = self.route_key(at)?;
        self.routes.get(&at).cloned().ok_or_else(|| Status::not_found("inference route not found"))
    }

    /// Deletes a route. Returns whether it existed.
    pub(crate) fn delete_route(&mut self, at: &ObjectKey) -> Result<bool, Status> {
        let at = self.route_key(at)?;
        Ok(self.routes.remove(&at).is_some())
    }

    fn route_key(&self, at: &ObjectKey) -> Result<ObjectKey, Status> {
        let name = if at.1.is_empty() { DEFAULT_ROUTE } else { &at.1 };
        Ok((self.workspace(&at.0)?, name.to_owned()))
    }
}
