//! Workspaces and their members.

use std::collections::BTreeMap;

use tonic::Status;

use super::meta::{self, Meta, NAME_CHARS_MAX, Page};
use super::{DEFAULT_WORKSPACE, State};

/// Maximum number of workspaces.
const WORKSPACES_MAX: usize = 1_000;

/// Maximum number of members per workspace.
const MEMBERS_MAX: usize = 1_000;

/// A workspace.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    /// Id, name, labels.
    pub(crate) meta: Meta,
    /// Members, by subject.
    pub(crate) members: BTreeMap<String, Member>,
}

/// A member of a workspace.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// Id and times.
    pub(crate) meta: Meta,
    /// Subject from the identity provider.
    pub(crate) subject: String,
    /// Number of the role in the proto enum.
    pub(crate) role: i32,
}

impl Workspace {
    /// Returns a workspace without members.
    pub(super) fn new(name: &str) -> Self {
        Self { meta: Meta::new("", name), members: BTreeMap::new() }
    }
}

impl State {
    /// Creates a workspace.
    pub(crate) fn create_workspace(
        &mut self,
        name: &str,
        labels: BTreeMap<String, String>,
    ) -> Result<Workspace, Status> {
        meta::check_label("name", name, NAME_CHARS_MAX)?;
        meta::check_map_size("labels", &labels)?;
        meta::check_capacity("workspaces", self.workspaces.len(), WORKSPACES_MAX)?;
        if self.workspaces.contains_key(name) {
            return Err(Status::already_exists(format!("workspace '{name}' already exists")));
        }
        let mut workspace = Workspace::new(name);
        workspace.meta.labels = labels;
        self.workspaces.insert(name.to_owned(), workspace.clone());
        Ok(workspace)
    }

    /// Returns a workspace by name.
    pub(crate) fn get_workspace(&mut self, name: &str) -> Result<&mut Workspace, Status> {
        let name = self.workspace(name)?;
        self.workspaces
            .get_mut(&name)
            .ok_or_else(|| Status::not_found(format!("workspace '{name}' not found")))
    }

    /// Returns the workspaces that match a selector, sorted by name.
    pub(crate) fn list_workspaces(
        &self,
        selector: &str,
        page: Page,
    ) -> Result<(Vec<Workspace>, String), Status> {
        let mut found = Vec::new();
        for workspace in self.workspaces.values() {
            if workspace.meta.matches_selector(selector)? {
                found.push(workspace.clone());
            }
        }
        Ok(page.paginate(found.into_iter()))
    }

    /// Deletes an empty workspace. Returns whether it existed.
    pub(crate) fn delete_workspace(&mut self, name: &str) -> Result<bool, Status> {
        if name == DEFAULT_WORKSPACE {
            return Err(Status::failed_precondition("the default workspace cannot be deleted"));
        }
        let full = self.sandboxes.keys().chain(self.providers.keys()).any(|at| at.0 == name);
        if full {
            return Err(Status::failed_precondition(format!("workspace '{name}' is not empty")));
        }
        Ok(self.workspaces.remove(name).is_some())
    }

    /// Adds a member.
    pub(crate) fn add_member(
        &mut self,
        workspace: &str,
        subject: &str,
        role: i32,
    ) -> Result<Member, Status> {
        if subject.is_empty() {
            return Err(Status::invalid_argument("principal_subject is required"));
        }
        if !(1..=2).contains(&role) {
            return Err(Status::invalid_argument("role is required"));
        }
        let workspace = self.get_workspace(workspace)?;
        meta::check_capacity("members of a workspace", workspace.members.len(), MEMBERS_MAX)?;
        if workspace.members.contains_key(subject) {
            return Err(Status::already_exists(format!("'{subject}' is already a member")));
        }
        let meta = Meta::new(&workspace.meta.name, subject);
        let member = Member { meta, subject: subject.to_owned(), role };
        workspace.members.insert(subject.to_owned(), member.clone());
        Ok(member)
    }
}
