//! Provider profiles: built-in ones, reduced to what distinguishes them, and imported ones.

use std::sync::LazyLock;

use tonic::Status;

use super::meta::{self, NAME_CHARS_MAX, Page};
use super::{ObjectKey, State};
use shoreguard_proto::v0_0::openshell::sandbox::v1::NetworkEndpoint;
use shoreguard_proto::v0_0::openshell::v1::{
    ProviderProfile, ProviderProfileCategory as Category, ProviderProfileCredential,
    ProviderProfileDiagnostic, ProviderProfileImportItem,
};

/// Maximum number of imported profiles in the gateway.
const PROFILES_MAX: usize = 1_000;

/// Maximum number of profiles per request.
const IMPORT_MAX: usize = 100;

/// Id, category, environment variable of the credential, host (may be empty).
type BuiltInProfile = (&'static str, Category, &'static str, &'static str);

const BUILT_IN: [BuiltInProfile; 13] = [
    ("aws", Category::Other, "AWS_SECRET_ACCESS_KEY", ""),
    ("aws-bedrock", Category::Inference, "AWS_BEARER_TOKEN_BEDROCK", ""),
    ("aws-s3", Category::Data, "AWS_SECRET_ACCESS_KEY", "s3.amazonaws.com"),
    ("claude-code", Category::Agent, "ANTHROPIC_API_KEY", "api.anthropic.com"),
    ("codex", Category::Agent, "OPENAI_API_KEY", "api.openai.com"),
    ("copilot", Category::Agent, "COPILOT_GITHUB_TOKEN", "api.githubcopilot.com"),
    ("cursor", Category::Agent, "CURSOR_API_KEY", "api.cursor.com"),
    ("deepinfra", Category::Inference, "DEEPINFRA_API_KEY", "api.deepinfra.com"),
    ("github", Category::SourceControl, "GITHUB_TOKEN", "api.github.com"),
    ("google-cloud", Category::Other, "GOOGLE_ACCESS_TOKEN", ""),
    ("google-vertex-ai", Category::Inference, "GOOGLE_ACCESS_TOKEN", "aiplatform.googleapis.com"),
    ("nvidia", Category::Inference, "NVIDIA_API_KEY", "integrate.api.nvidia.com"),
    ("pypi", Category::Other, "TWINE_PASSWORD", "pypi.org"),
];

static PROFILES: LazyLock<Vec<ProviderProfile>> =
    LazyLock::new(|| BUILT_IN.iter().map(built_in_profile).collect());

fn built_in_profile((id, category, variable, host): &BuiltInProfile) -> ProviderProfile {
    let endpoint =
        NetworkEndpoint { host: (*host).to_owned(), port: 443, ..NetworkEndpoint::default() };
    ProviderProfile {
        id: (*id).to_owned(),
        display_name: (*id).to_owned(),
        category: (*category).into(),
        credentials: vec![ProviderProfileCredential {
            name: "token".to_owned(),
            env_vars: vec![(*variable).to_owned()],
            required: true,
            auth_style: "bearer".to_owned(),
            ..ProviderProfileCredential::default()
        }],
        endpoints: if host.is_empty() { Vec::new() } else { vec![endpoint] },
        inference_capable: *category == Category::Inference,
        resource_version: 1,
        source: "builtin".to_owned(),
        scope: "platform".to_owned(),
        ..ProviderProfile::default()
    }
}

impl State {
    /// Returns the profile with an id as seen by a workspace: its own, otherwise that of the platform, otherwise a
    /// built-in one.
    pub(crate) fn profile(&self, workspace: &str, id: &str) -> Option<&ProviderProfile> {
        self.profiles
            .get(&(workspace.to_owned(), id.to_owned()))
            .or_else(|| self.profiles.get(&(String::new(), id.to_owned())))
            .or_else(|| PROFILES.iter().find(|profile| profile.id == id))
    }

    /// Returns a copy of that profile, or `NOT_FOUND`.
    pub(crate) fn get_profile(&self, at: &ObjectKey) -> Result<ProviderProfile, Status> {
        self.profile(meta::workspace_or_default(&at.0), &at.1)
            .cloned()
            .ok_or_else(|| Status::not_found(format!("provider profile '{}' not found", at.1)))
    }

    /// Returns all profiles that a workspace sees.
    pub(crate) fn list_profiles(
        &self,
        workspace: &str,
        page: Page,
    ) -> Result<(Vec<ProviderProfile>, String), Status> {
        let workspace = self.workspace(workspace)?;
        let imported =
            self.profiles.iter().filter(|((place, _), _)| place.is_empty() || *place == workspace);
        let imported: Vec<_> = imported.map(|(_, profile)| profile).collect();
        let is_replaced = |id: &str| imported.iter().any(|profile| profile.id == id);
        let built_in = PROFILES.iter().filter(|profile| !is_replaced(&profile.id));
        Ok(page.paginate(built_in.chain(imported.iter().copied()).cloned()))
    }

    /// Returns the errors in profiles; empty if they can be imported.
    pub(crate) fn lint_profiles(
        items: &[ProviderProfileImportItem],
    ) -> Result<Vec<ProviderProfileDiagnostic>, Status> {
        if items.len() > IMPORT_MAX {
            return Err(Status::invalid_argument(format!("more than {IMPORT_MAX} profiles")));
        }
        let mut found = Vec::new();
        for item in items {
            let profile = item.profile.clone().unwrap_or_default();
            let mut say = |field: &str, message: String| {
                found.push(ProviderProfileDiagnostic {
                    source: item.source.clone(),
                    profile_id: profile.id.clone(),
                    field: field.to_owned(),
                    message,
                    severity: "error".to_owned(),
                });
            };
            if let Err(status) = meta::check_label("id", &profile.id, NAME_CHARS_MAX) {
                say("id", status.message().to_owned());
            }
            if PROFILES.iter().any(|known| known.id == profile.id) {
                say("id", format!("'{}' is a built-in profile", profile.id));
            }
            if profile.endpoints.iter().any(|endpoint| endpoint.host.is_empty()) {
                say("endpoints", "an endpoint has no host".to_owned());
            }
        }
        Ok(found)
    }

    /// Imports all profiles or none, into a workspace, or into the platform if `workspace` is empty.
    pub(crate) fn import_profiles(
        &mut self,
        workspace: &str,
        items: Vec<ProviderProfileImportItem>,
    ) -> Result<(Vec<ProviderProfileDiagnostic>, Vec<ProviderProfile>), Status> {
        let place = self.profile_workspace_key(workspace)?;
        let diagnostics = Self::lint_profiles(&items)?;
        if !diagnostics.is_empty() {
            return Ok((diagnostics, Vec::new()));
        }
        meta::check_capacity("profiles", self.profiles.len() + items.len(), PROFILES_MAX)?;
        let mut imported = Vec::new();
        for mut profile in items.into_iter().filter_map(|item| item.profile) {
            profile.resource_version = 1;
            "imported".clone_into(&mut profile.source);
            let scope = if place.is_empty() { "platform" } else { "workspace" };
            scope.clone_into(&mut profile.scope);
            self.profiles.insert((place.clone(), profile.id.clone()), profile.clone());
            imported.push(profile);
        }
        Ok((diagnostics, imported))
    }

    /// Replaces an imported profile if it still has the expected version.
    pub(crate) fn update_profile(
        &mut self,
        at: &ObjectKey,
        item: Option<ProviderProfileImportItem>,
        expected: u64,
    ) -> Result<(Vec<ProviderProfileDiagnostic>, Option<ProviderProfile>), Status> {
        let place = self.profile_workspace_key(&at.0)?;
        let Some(item) = item else {
            return Err(Status::invalid_argument("profile is required"));
        };
        if expected == 0 {
            return Err(Status::invalid_argument("expected_resource_version is required"));
        }
        let diagnostics = Self::lint_profiles(std::slice::from_ref(&item))?;
        let Some(kept) = self.profiles.get_mut(&(place, at.1.clone())) else {
            return Err(Status::not_found(format!("provider profile '{}' not found", at.1)));
        };
        if kept.resource_version != expected {
            return Err(Status::aborted("resource version mismatch"));
        }
        if !diagnostics.is_empty() {
            return Ok((diagnostics, None));
        }
        let next = item.profile.unwrap_or_default();
        *kept = ProviderProfile {
            id: kept.id.clone(),
            resource_version: kept.resource_version + 1,
            source: kept.source.clone(),
            scope: kept.scope.clone(),
            ..next
        };
        Ok((diagnostics, Some(kept.clone())))
    }

    /// Changes a profile, which may be a built-in one, without a request.
    pub(crate) fn change_profile(
        &mut self,
        at: &ObjectKey,
        change: impl FnOnce(&mut ProviderProfile),
    ) -> Result<(), Status> {
        let place = self.profile_workspace_key(&at.0)?;
        let mut profile = self.get_profile(at)?;
        change(&mut profile);
        profile.resource_version += 1;
        self.profiles.insert((place, at.1.clone()), profile);
        Ok(())
    }

    /// Deletes an imported profile. Returns whether it existed.
    pub(crate) fn delete_profile(&mut self, at: &ObjectKey) -> Result<bool, Status> {
        let place = self.profile_workspace_key(&at.0)?;
        if PROFILES.iter().any(|profile| profile.id == at.1) {
            return Err(Status::failed_precondition("built-in profiles cannot be deleted"));
        }
        Ok(self.profiles.remove(&(place, at.1.clone())).is_some())
    }

    /// Returns the workspace of an imported profile; empty for the platform.
    fn profile_workspace_key(&self, workspace: &str) -> Result<String, Status> {
        if workspace.is_empty() { Ok(String::new()) } else { self.workspace(workspace) }
    }
}
