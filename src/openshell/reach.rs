//! Which sandboxes of a gateway name which providers, and which profiles these use: what a change of a provider or a
//! profile reaches.
//!
//! Invariant: names are those of the gateway, never shortened as those for display, and a row that cannot be read is an
//! error: what is left out here would be left out of a decision.

use super::gateway::CALL_TIME;
use super::sandbox::Page;
use super::{Gateway, Generation, v0_0, v0_1};
use crate::db::types::SandboxName;
use crate::error::{Error, Reason};

const LIST_PROVIDERS: &str = "/openshell.v1.OpenShell/ListProviders";
const LIST_SANDBOXES: &str = "/openshell.v1.OpenShell/ListSandboxes";

/// Maximum number of rows that are read, and of requested pages: a gateway may return short ones.
const ROWS_MAX: usize = 10_000;
const PAGES_MAX: usize = 500;

/// A sandbox, and the providers that its specification names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedProviders {
    /// The sandbox.
    pub sandbox: SandboxName,
    /// Names of the providers.
    pub providers: Vec<String>,
}

/// A provider, and the profile that it uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderProfile {
    /// Workspace of the provider.
    pub workspace: String,
    /// Name of the provider.
    pub name: String,
    /// Its type, which is the id of its profile.
    pub profile: String,
    /// Workspace of the profile; empty if it is that of the provider or the whole gateway.
    pub profile_workspace: String,
}

impl Gateway {
    /// Returns the sandboxes of a workspace, or of all workspaces, with the providers that they name.
    ///
    /// # Errors
    /// `LIMIT_REACHED` if there are more than are read; `GATEWAY_UNREACHABLE` if a row cannot be read; those of the
    /// call.
    pub async fn attached_providers(
        &self,
        workspace: Option<&str>,
    ) -> Result<Vec<AttachedProviders>, Error> {
        self.read_all(LIST_SANDBOXES, workspace, encode_sandboxes, decode_sandboxes).await
    }

    /// Returns the providers of a workspace, or of all workspaces, with the profiles that they use.
    ///
    /// # Errors
    /// Those of [`Gateway::attached_providers`].
    pub async fn provider_profiles(
        &self,
        workspace: Option<&str>,
    ) -> Result<Vec<ProviderProfile>, Error> {
        self.read_all(LIST_PROVIDERS, workspace, encode_providers, decode_providers).await
    }

    /// Reads every page of a list.
    async fn read_all<T>(
        &self,
        path: &'static str,
        workspace: Option<&str>,
        encode: fn(Generation, Option<&str>, &str) -> Vec<u8>,
        decode: fn(Generation, &[u8], &str) -> Option<Page<T>>,
    ) -> Result<Vec<T>, Error> {
        let (mut all, mut from) = (Vec::new(), String::new());
        for _ in 0..PAGES_MAX {
            let request = encode(self.generation(), workspace, &from);
            let answer = self.unary(path, &request, CALL_TIME).await?;
            let page = decode(self.generation(), &answer, &from);
            let (page, next) = page.ok_or_else(|| self.unreadable(path))?;
            all.extend(page);
            match next {
                _ if all.len() > ROWS_MAX => break,
                None => return Ok(all),
                Some(next) => from = next,
            }
        }
        let why = format!(
            "gateway `{}` lists more than {ROWS_MAX} objects, or more than {PAGES_MAX} pages of them",
            self.name()
        );
        Err(Error::refused(Reason::LimitReached, why))
    }
}

fn encode_sandboxes(generation: Generation, workspace: Option<&str>, from: &str) -> Vec<u8> {
    match generation {
        Generation::V0_0 => v0_0::encode_list(workspace, from),
        Generation::V0_1 => v0_1::encode_list(workspace, from),
    }
}

fn decode_sandboxes(
    generation: Generation,
    answer: &[u8],
    from: &str,
) -> Option<Page<AttachedProviders>> {
    match generation {
        Generation::V0_0 => v0_0::decode_attached_providers(answer, from),
        Generation::V0_1 => v0_1::decode_attached_providers(answer),
    }
}

fn encode_providers(generation: Generation, workspace: Option<&str>, from: &str) -> Vec<u8> {
    match generation {
        Generation::V0_0 => v0_0::encode_list_providers(workspace, from),
        Generation::V0_1 => v0_1::encode_list_providers(workspace, from),
    }
}

fn decode_providers(
    generation: Generation,
    answer: &[u8],
    from: &str,
) -> Option<Page<ProviderProfile>> {
    match generation {
        Generation::V0_0 => v0_0::decode_providers(answer, from),
        Generation::V0_1 => v0_1::decode_providers(answer),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::pb::{v0_0 as old, v0_1 as new};

    /// Returns a list of sandboxes with these names, all of which name these providers.
    fn list(generation: Generation, names: &[&str], providers: &[String]) -> Vec<u8> {
        let providers = || providers.to_vec();
        match generation {
            Generation::V0_0 => {
                let sandbox = |name: &&str| old::openshell::v1::Sandbox {
                    metadata: Some(old::openshell::datamodel::v1::ObjectMeta {
                        name: (*name).to_owned(),
                        ..Default::default()
                    }),
                    spec: Some(old::openshell::v1::SandboxSpec {
                        providers: providers(),
                        ..Default::default()
                    }),
                    ..Default::default()
                };
                let sandboxes = names.iter().map(sandbox).collect();
                old::openshell::v1::ListSandboxesResponse { sandboxes }.encode_to_vec()
            }
            Generation::V0_1 => {
                let sandbox = |name: &&str| new::openshell::v1::Sandbox {
                    metadata: Some(new::openshell::datamodel::v1::ObjectMeta {
                        name: (*name).to_owned(),
                        ..Default::default()
                    }),
                    spec: Some(new::openshell::v1::SandboxSpec {
                        providers: providers(),
                        ..Default::default()
                    }),
                    ..Default::default()
                };
                let sandboxes = names.iter().map(sandbox).collect();
                let answer =
                    new::openshell::v1::ListSandboxesResponse { sandboxes, ..Default::default() };
                answer.encode_to_vec()
            }
        }
    }

    #[test]
    fn g08_every_provider_of_a_sandbox_counts_as_the_gateway_names_it() {
        let mut providers: Vec<String> = (0..200).map(|at| format!("p{at}")).collect();
        providers.extend(["a\u{7}b".to_owned(), "long".repeat(1_000)]);
        for generation in Generation::ALL {
            let answer = list(generation, &["box"], &providers);
            let (rows, _) = decode_sandboxes(generation, &answer, "").unwrap();
            assert_eq!(rows[0].providers, providers, "{generation}");
        }
    }

    #[test]
    fn g08_a_row_that_cannot_be_read_makes_the_list_unreadable() {
        for generation in Generation::ALL {
            for names in [["box", ""], ["a\nb", "box"]] {
                let answer = list(generation, &names, &[]);
                assert!(decode_sandboxes(generation, &answer, "").is_none(), "{generation}");
            }
        }
        let provider = old::openshell::datamodel::v1::Provider::default();
        let answer = old::openshell::v1::ListProvidersResponse { providers: vec![provider] };
        assert!(decode_providers(Generation::V0_0, &answer.encode_to_vec(), "").is_none());
    }
}
