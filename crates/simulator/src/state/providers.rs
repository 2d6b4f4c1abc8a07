//! Providers: credentials that a workspace makes available to its sandboxes. Credential values are never returned.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tonic::Status;

use super::meta::{self, Meta, NAME_CHARS_MAX, Page};
use super::{ObjectKey, Refresh, Sandbox, State};

/// Maximum number of providers in the gateway.
const PROVIDERS_MAX: usize = 10_000;

/// Maximum number of providers per sandbox.
const ATTACHED_MAX: usize = 20;

/// Replaces every credential in a response.
const REDACTED: &str = "REDACTED";

/// Types without a profile that are accepted.
const LEGACY: [&str; 4] = ["openai", "anthropic", "generic", "outlook"];

/// A provider.
#[derive(Debug, Clone, Default)]
pub(crate) struct Provider {
    /// Name, workspace, versions.
    pub(crate) meta: Meta,
    /// The id of its profile.
    pub(crate) kind: String,
    /// Secret.
    pub(crate) credentials: BTreeMap<String, String>,
    /// Not secret.
    pub(crate) config: BTreeMap<String, String>,
    /// Expiry of credentials, in milliseconds since 1970.
    pub(crate) expires_ms: BTreeMap<String, i64>,
    /// Workspace of its profile.
    pub(crate) profile_workspace: String,
    /// Renewal of its credentials, by key.
    pub(crate) refreshes: BTreeMap<String, Refresh>,
}

impl Provider {
    /// Returns the provider with redacted credentials.
    pub(crate) fn redacted(&self) -> Self {
        let mut shown = self.clone();
        for value in shown.credentials.values_mut() {
            REDACTED.clone_into(value);
        }
        shown
    }
}

impl State {
    /// Creates a provider.
    pub(crate) fn create_provider(
        &mut self,
        workspace: &str,
        new: Option<Provider>,
    ) -> Result<Provider, Status> {
        let Some(mut provider) = new else {
            return Err(Status::invalid_argument("provider is required"));
        };
        let workspace = self.workspace(workspace)?;
        let name = provider.meta.name.clone();
        meta::check_label("provider.metadata.name", &name, NAME_CHARS_MAX)?;
        let typed = self.profile(&workspace, &provider.kind).is_some()
            || LEGACY.contains(&provider.kind.as_str());
        if !typed {
            return Err(Status::invalid_argument(format!(
                "unknown provider type '{}'",
                provider.kind
            )));
        }
        meta::check_map_size("config", &provider.config)?;
        meta::check_map_size("credentials", &provider.credentials)?;
        meta::check_capacity("providers", self.providers.len(), PROVIDERS_MAX)?;
        let key = (workspace, name.clone());
        if self.providers.contains_key(&key) {
            return Err(Status::already_exists(format!("provider '{name}' already exists")));
        }
        provider.meta = Meta { labels: provider.meta.labels, ..Meta::new(&key.0, &name) };
        self.providers.insert(key, provider.clone());
        Ok(provider.redacted())
    }

    /// Returns one provider.
    pub(crate) fn provider(&mut self, at: &ObjectKey) -> Result<&mut Provider, Status> {
        let workspace = self.workspace(&at.0)?;
        self.providers
            .get_mut(&(workspace, at.1.clone()))
            .ok_or_else(|| Status::not_found(format!("provider '{}' not found", at.1)))
    }

    /// Returns the providers of a workspace, or of all workspaces.
    pub(crate) fn list_providers(
        &self,
        workspace: Option<&str>,
        selector: &str,
        page: Page,
    ) -> Result<(Vec<Provider>, String), Status> {
        let workspace = workspace.map(|name| self.workspace(name)).transpose()?;
        let mut found = Vec::new();
        for provider in self.providers.values() {
            let here = workspace.as_ref().is_none_or(|name| *name == provider.meta.workspace);
            if here && provider.meta.matches_selector(selector)? {
                found.push(provider.redacted());
            }
        }
        Ok(page.paginate(found.into_iter()))
    }

    /// Updates a provider: given values are set, credentials and config entries with an empty value are removed.
    pub(crate) fn update_provider(
        &mut self,
        workspace: &str,
        change: Option<Provider>,
    ) -> Result<Provider, Status> {
        let Some(change) = change else {
            return Err(Status::invalid_argument("provider is required"));
        };
        let provider = self.provider(&(workspace.to_owned(), change.meta.name.clone()))?;
        provider.meta.check_version(change.meta.resource_version)?;
        if !change.kind.is_empty() && change.kind != provider.kind {
            return Err(Status::invalid_argument("the type of a provider cannot be changed"));
        }
        set_or_remove(&mut provider.credentials, change.credentials);
        set_or_remove(&mut provider.config, change.config);
        provider.expires_ms.extend(change.expires_ms);
        provider.expires_ms.retain(|_, at| *at != 0);
        provider.meta.bump_version();
        Ok(provider.redacted())
    }

    /// Deletes a provider that is not attached to a sandbox. Returns whether it existed.
    pub(crate) fn delete_provider(&mut self, at: &ObjectKey) -> Result<bool, Status> {
        let at = (self.workspace(&at.0)?, at.1.clone());
        let used = self.sandboxes.values().find(|sandbox| {
            sandbox.meta.workspace == at.0 && sandbox.spec.providers.contains(&at.1)
        });
        if let Some(sandbox) = used {
            return Err(Status::failed_precondition(format!(
                "provider '{}' is attached to sandbox '{}'",
                at.1, sandbox.meta.name
            )));
        }
        Ok(self.providers.remove(&at).is_some())
    }

    /// Attaches a provider to a sandbox, or detaches it. Returns whether that changed anything.
    pub(crate) fn set_attached(
        &mut self,
        at: &ObjectKey,
        provider: &str,
        expected: u64,
        attach: bool,
    ) -> Result<(Sandbox, bool), Status> {
        let at = self.sandbox(at)?.key();
        if attach {
            self.provider(&(at.0.clone(), provider.to_owned()))?;
        }
        let sandbox = self.sandbox(&at)?;
        sandbox.meta.check_version(expected)?;
        let attached = sandbox.spec.providers.iter().any(|name| name == provider);
        if attached != attach {
            if attach {
                meta::check_capacity(
                    "providers of a sandbox",
                    sandbox.spec.providers.len(),
                    ATTACHED_MAX,
                )?;
                sandbox.spec.providers.push(provider.to_owned());
            } else {
                sandbox.spec.providers.retain(|name| name != provider);
            }
            self.mark_changed(&at);
        }
        Ok((self.sandbox(&at)?.clone(), attached != attach))
    }

    /// Returns the providers of a sandbox.
    pub(crate) fn sandbox_providers(&mut self, at: &ObjectKey) -> Result<Vec<Provider>, Status> {
        let sandbox = self.sandbox(at)?.clone();
        let workspace = &sandbox.meta.workspace;
        Ok(sandbox
            .spec
            .providers
            .iter()
            .filter_map(|name| self.providers.get(&(workspace.clone(), name.clone())))
            .map(Provider::redacted)
            .collect())
    }

    /// Returns the names and versions of a sandbox's providers and profiles as one string, which changes whenever they
    /// do.
    pub(super) fn provider_versions(&self, workspace: &str, providers: &[String]) -> String {
        let mut all = String::new();
        for name in providers {
            let key = (workspace.to_owned(), name.clone());
            let provider = self.providers.get(&key);
            let version = provider.map_or(0, |provider| provider.meta.resource_version);
            let profile = provider.and_then(|provider| self.profile(workspace, &provider.kind));
            let of_profile = profile.map_or(0, |profile| profile.resource_version);
            let _ = write!(all, "{name}@{version}/{of_profile};");
        }
        all
    }
}

fn set_or_remove(map: &mut BTreeMap<String, String>, change: BTreeMap<String, String>) {
    for (key, value) in change {
        if value.is_empty() {
            map.remove(&key);
        } else {
            map.insert(key, value);
        }
    }
}
