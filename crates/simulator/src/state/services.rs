//! Services: ports of a sandbox with an address of their own.

use tonic::Status;

use super::meta::{self, Meta, NAME_CHARS_MAX, Page};
use super::{Key, State};

/// Services of the whole gateway.
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
    /// In the sandbox.
    pub(crate) port: u32,
    /// Has an address of its own.
    pub(crate) domain: bool,
    /// The number of the mode; only generation 0.1 has it.
    pub(crate) authorization: i32,
}

/// A port to expose.
#[derive(Debug)]
pub(crate) struct NewService {
    /// The sandbox's place.
    pub(crate) at: Key,
    /// Empty for the sandbox's one service without a name.
    pub(crate) name: String,
    /// In the sandbox.
    pub(crate) port: u32,
    /// Has an address of its own.
    pub(crate) domain: bool,
    /// The number of the mode; only generation 0.1 has it.
    pub(crate) authorization: i32,
}

impl Service {
    /// Its address, on the gateway's own port.
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
    /// Exposes a port, or changes which one a service stands for.
    pub(crate) fn expose(&mut self, new: &NewService) -> Result<Service, Status> {
        if !(1..=65_535).contains(&new.port) {
            return Err(Status::invalid_argument("target_port must be 1..=65535"));
        }
        if !new.name.is_empty() {
            meta::label("service", &new.name, NAME_CHARS_MAX)?;
        }
        meta::room("services", self.services.len(), SERVICES_MAX)?;
        let sandbox = self.sandbox(&new.at)?;
        let (sandbox_id, at) = (sandbox.meta.id.clone(), sandbox.place());
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

    /// One service.
    pub(crate) fn get_service(&self, at: &Key, name: &str) -> Result<Service, Status> {
        let workspace = self.workspace(&at.0)?;
        self.services
            .get(&(workspace, at.1.clone(), name.to_owned()))
            .cloned()
            .ok_or_else(|| Status::not_found("service not found"))
    }

    /// The services of a sandbox, of a workspace, or of all.
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
        Ok(page.cut(found.cloned()))
    }

    /// Takes a service away; says whether there was one.
    pub(crate) fn delete_service(&mut self, at: &Key, name: &str) -> Result<bool, Status> {
        let workspace = self.workspace(&at.0)?;
        Ok(self.services.remove(&(workspace, at.1.clone(), name.to_owned())).is_some())
    }
}
