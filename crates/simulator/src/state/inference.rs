//! Inference routes: which provider and model a workspace asks. Only generation 0.0 has them.

use tonic::Status;

use super::meta::{self, Meta};
use super::{Key, State};

/// Routes of the whole gateway.
const ROUTES_MAX: usize = 1_000;

/// The route of a request that names none.
const DEFAULT_ROUTE: &str = "default";

/// A route.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    /// Name and workspace.
    pub(crate) meta: Meta,
    /// Who is asked.
    pub(crate) provider: String,
    /// Which model.
    pub(crate) model: String,
    /// How long an answer may take; 0 for the gateway's own limit.
    pub(crate) timeout_secs: u64,
    /// Counts changes.
    pub(crate) version: u64,
}

impl State {
    /// Sets a route.
    pub(crate) fn set_route(
        &mut self,
        at: &Key,
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
        meta::room("inference routes", self.routes.len(), ROUTES_MAX)?;
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
        route.meta.touch();
        Ok(route.clone())
    }

    /// One route.
    pub(crate) fn get_route(&self, at: &Key) -> Result<Route, Status> {
        let at = self.route_key(at)?;
        self.routes.get(&at).cloned().ok_or_else(|| Status::not_found("inference route not found"))
    }

    /// Takes a route away; says whether there was one.
    pub(crate) fn delete_route(&mut self, at: &Key) -> Result<bool, Status> {
        let at = self.route_key(at)?;
        Ok(self.routes.remove(&at).is_some())
    }

    fn route_key(&self, at: &Key) -> Result<Key, Status> {
        let name = if at.1.is_empty() { DEFAULT_ROUTE } else { &at.1 };
        Ok((self.workspace(&at.0)?, name.to_owned()))
    }
}
