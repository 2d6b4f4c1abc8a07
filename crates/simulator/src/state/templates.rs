//! Workload templates, only in generation 0.1; their content is stored as received.

use tonic::Status;

use super::meta::{self, Meta, NAME_CHARS_MAX, Page};
use super::{ObjectKey, State};
use shoreguard_proto::v0_1::openshell::v1::SandboxWorkloadTemplateSpec;

/// Maximum number of templates in the gateway.
const TEMPLATES_MAX: usize = 1_000;

/// A template.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    /// Name, workspace, labels.
    pub(crate) meta: Meta,
    /// Settings of sandboxes that are created from it.
    pub(crate) spec: SandboxWorkloadTemplateSpec,
}

impl State {
    /// Creates a template.
    pub(crate) fn create_template(
        &mut self,
        workspace: &str,
        meta: Meta,
        spec: SandboxWorkloadTemplateSpec,
    ) -> Result<Template, Status> {
        let workspace = self.workspace(workspace)?;
        meta::check_label("template.metadata.name", &meta.name, NAME_CHARS_MAX)?;
        meta::check_capacity("templates", self.templates.len(), TEMPLATES_MAX)?;
        let key = (workspace, meta.name.clone());
        if self.templates.contains_key(&key) {
            return Err(Status::already_exists(format!("template '{}' already exists", meta.name)));
        }
        let template = Template { meta: Meta { workspace: key.0.clone(), ..meta }, spec };
        self.templates.insert(key, template.clone());
        Ok(template)
    }

    /// Returns one template.
    pub(crate) fn get_template(&self, at: &ObjectKey) -> Result<Template, Status> {
        let workspace = self.workspace(&at.0)?;
        self.templates
            .get(&(workspace, at.1.clone()))
            .cloned()
            .ok_or_else(|| Status::not_found("template not found"))
    }

    /// Returns the templates of a workspace, or of all workspaces.
    pub(crate) fn list_templates(
        &self,
        workspace: Option<&str>,
        selector: &str,
        page: Page,
    ) -> Result<(Vec<Template>, String), Status> {
        let workspace = workspace.map(|name| self.workspace(name)).transpose()?;
        let mut found = Vec::new();
        for template in self.templates.values() {
            let here = workspace.as_ref().is_none_or(|name| *name == template.meta.workspace);
            if here && template.meta.matches_selector(selector)? {
                found.push(template.clone());
            }
        }
        Ok(page.paginate(found.into_iter()))
    }

    /// Deletes a template. Returns whether it existed.
    pub(crate) fn delete_template(&mut self, at: &ObjectKey) -> Result<bool, Status> {
        let workspace = self.workspace(&at.0)?;
        Ok(self.templates.remove(&(workspace, at.1.clone())).is_some())
    }
}
