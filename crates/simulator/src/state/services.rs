//! Services: exposed ports of a sandbox, with their own addresses.

use tonic::Status;

use super::meta::{self, Meta, NAME_CHARS_MAX, Page};
use super::{ObjectKey, State};

/// Maximum number of services in the gateway.
const SERVICES_MAX: usize = 10_000;

/// An exposed port.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    /// Id, name, workspace.
    pub(crate) meta: Meta,
    /// The sandbox's id.
    pub(crate) sandbox_id: String,
    /// The sandbox's name.
    pub(crate) sandbox: String,
    /// Port in the sandbox.
    pub(crate) port: u32,
    /// Whether the service has its own address.
    pub(crate) domain: bool,
    /// Number of the mode in the proto enum; only in generation 0.1.
    pub(crate) authorization: i32,
}

/// A port to expose.
#[derive(Debug)]
pub(crate) struct NewService {
    /// Workspace and name of the sandbox.
    pub(crate) at: ObjectKey,
    /// Empty for the only unnamed service of the sandbox.
    pub(crate) name: String,
    /// Port in the sandbox.
    pub(crate) port: u32,
    /// Whether the service has its own address.
    pub(crate) domain: bool,
    /// Number of the mode in the proto enum; only in generation 0.1.
    pub(crate) authorization: i32,
}

impl Service {
    /// Returns the URL of the service, on the gateway's port.
    pub(crate) fn url(&self, scheme: &str, port: u16) -> String {
        let name = match self.meta.name.as_str() {
            "" => String::new(),
            name => format!("--{name}"),
        };
        let (workspace, sandbox) = (&self.meta.workspace, &self.sandbox);
        format!("{scheme}://{workspace}--{sandbox}{name}.openshell.localhost:{port}/")
    }
}

impl State {
    /// Exposes a port, or changes the port of a service.
    pub(crate) fn expose(&mut self, new: &NewService) -> Result<Service, Status> {
        if !(1..=65_535).contains(&new.port) {
            return Err(Status::invalid_argument("target_port must be 1..=65535"));
        }
        if !new.name.is_empty() {
            meta::check_label("service", &new.name, NAME_CHARS_MAX)?;
        }
        meta::check_capacity("services", self.services.len(), SERVICES_MAX)?;
        let sandbox = self.sandbox(&new.at)?;
        let (sandbox_id, at) = (sandbox.meta.id.clone(), sandbox.key());
        let key = (at.0.clone(), at.1.clone(), new.name.clone());
        let service = self.services.entry(key).or_insert_with(|| Service {
            meta: Meta::new(&at.0, &new.name),
            sandbox_id,
            sandbox: at.1,
            port: 0,
            domain: false,
            authorization: 0,
        });
        service.port = new.port;
        service.domain = new.domain;
        service.authorization = new.authorization;
        Ok(service.clone())
    }

    /// Returns one service.
    pub(crate) fn get_service(&self, at: &ObjectKey, name: &str) -> Result<Service, Status> {
        let workspace = self.workspace(&at.0)?;
        self.services
            .get(&(workspace, at.1.clone(), name.to_owned()))
            .cloned()
            .ok_or_else(|| Status::not_found("service not found"))
    }

    /// Returns the services of a sandbox, of a workspace, or of all workspaces.
    pub(crate) fn list_services(
        &self,
        workspace: Option<&str>,
        sandbox: &str,
        page: Page,
    ) -> Result<(Vec<Service>, String), Status> {
        let workspace = workspace.map(|name| self.workspace(name)).transpose()?;
        let found = self.services.values().filter(|service| {
            workspace.as_ref().is_none_or(|name| *name == service.meta.workspace)
                && (sandbox.is_empty() || sandbox == service.sandbox)
        });
        Ok(page.paginate(found.cloned()))
    }

    /// Deletes a service. Returns whether it existed.
    pub(crate) fn delete_service(&mut self, at: &ObjectKey, name: &str) -> Result<bool, Status> {
        let workspace = self.workspace(&at.0)?;
        Ok(self.services.remove(&(workspace, at.1.clone(), name.to_owned())).is_some())
    }
}
