//! Which sandboxes of a gateway name which providers, and which profiles these use: what a change of a provider or a
//! profile reaches.
//!
//! Invariants
//! - names are those of the gateway, never shortened as those for display, and a row that cannot be read is an error:
//!   what is left out here would be left out of a decision;
//! - a list of several pages counts only if it is shown to be complete. Its pages are read one after the other, and a
//!   deletion between two of them moves a later row to a page that was read already (T10).

use std::collections::HashSet;

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
/// How often a list of several pages is read, until no row of one reading is missing in the next.
const READINGS_MAX: usize = 4;

/// Names by which gateways find one profile, in lower case: a provider of the type `gh` has the profile `github`,
/// unless there is a profile with the id `gh`. Versions differ in which of them they know.
const PROFILE_NAMES: [&[&str]; 6] = [
    &["amazon", "aws"],
    &["claude", "claude-code", "claude_code"],
    &["gcp", "google-cloud"],
    &["gcp-vertex", "google-vertex", "google-vertex-ai", "vertex", "vertex-ai"],
    &["gh", "github"],
    &["glab", "gitlab"],
];

/// A row of a list.
trait Listed {
    /// Returns workspace, name and id of the object: that of another object of the same name is another one.
    fn identity(&self) -> (&str, &str, &str);
}

/// A sandbox, and the providers that its specification names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedProviders {
    /// The sandbox.
    pub sandbox: SandboxName,
    /// The gateway's id of the sandbox.
    pub id: String,
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
    /// The gateway's id of the provider.
    pub id: String,
    /// Its type, which is the id of its profile.
    pub profile: String,
    /// Workspace of the profile; empty if it is that of the provider or the whole gateway.
    pub profile_workspace: String,
}

impl ProviderProfile {
    /// Returns whether its profile may be the one with an id. Gateways ignore case and spaces at the ends.
    #[must_use]
    pub fn may_have_profile(&self, id: &str) -> bool {
        let own = self.profile.trim().to_ascii_lowercase();
        let id = id.trim().to_ascii_lowercase();
        let is_in = |names: &[&str], text: &str| names.contains(&text);
        own == id || PROFILE_NAMES.iter().any(|names| is_in(names, &own) && is_in(names, &id))
    }
}

impl Listed for AttachedProviders {
    fn identity(&self) -> (&str, &str, &str) {
        (&self.sandbox.workspace, &self.sandbox.name, &self.id)
    }
}

impl Listed for ProviderProfile {
    fn identity(&self) -> (&str, &str, &str) {
        (&self.workspace, &self.name, &self.id)
    }
}

/// Returns whether no row of a list is missing in the next reading of it.
fn is_complete<T: Listed>(read: &[T], next: &[T]) -> bool {
    let still_there: HashSet<_> = next.iter().map(Listed::identity).collect();
    read.iter().all(|row| still_there.contains(&row.identity()))
}

impl Gateway {
    /// Returns the sandboxes of a workspace, or of all workspaces, with the providers that they name.
    ///
    /// # Errors
    /// `LIMIT_REACHED` if there are more than are read; `GATEWAY_UNREACHABLE` if a row cannot be read;
    /// `WRITE_IN_FLIGHT` if rows are deleted each time that the list is read; those of the call.
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

    /// Reads a list of which no row is left out. A row is left out only if one before it, which was read, is deleted:
    /// then the next reading lacks that one.
    async fn read_all<T: Listed>(
        &self,
        path: &'static str,
        workspace: Option<&str>,
        encode: fn(Generation, Option<&str>, &str) -> Vec<u8>,
        decode: fn(Generation, &[u8], &str) -> Option<Page<T>>,
    ) -> Result<Vec<T>, Error> {
        let (mut read, pages) = self.read_pages(path, workspace, encode, decode).await?;
        if pages == 1 {
            return Ok(read);
        }
        for _ in 1..READINGS_MAX {
            let (next, _) = self.read_pages(path, workspace, encode, decode).await?;
            if is_complete(&read, &next) {
                return Ok(read);
            }
            read = next;
        }
        let why = format!(
            "gateway `{}` deleted objects each time that its list of them was read: try again",
            self.name()
        );
        Err(Error::explained(Reason::WriteInFlight, why, []))
    }

    /// Reads every page of a list. Also returns their number.
    async fn read_pages<T>(
        &self,
        path: &'static str,
        workspace: Option<&str>,
        encode: fn(Generation, Option<&str>, &str) -> Vec<u8>,
        decode: fn(Generation, &[u8], &str) -> Option<Page<T>>,
    ) -> Result<(Vec<T>, usize), Error> {
        let (mut all, mut from) = (Vec::new(), String::new());
        for pages in 1..=PAGES_MAX {
            let request = encode(self.generation(), workspace, &from);
            let answer = self.unary(path, &request, CALL_TIME).await?;
            let page = decode(self.generation(), &answer, &from);
            let (page, next) = page.ok_or_else(|| self.unreadable(path))?;
            all.extend(page);
            match next {
                _ if all.len() > ROWS_MAX => break,
                None => return Ok((all, pages)),
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

    #[test]
    fn t10_a_list_is_complete_if_no_row_of_it_was_deleted_until_the_next_reading() {
        let row = |name: &str, id: &str| AttachedProviders {
            sandbox: SandboxName { workspace: "default".to_owned(), name: name.to_owned() },
            id: id.to_owned(),
            providers: Vec::new(),
        };
        let read = [row("a", "1"), row("b", "2")];
        assert!(is_complete(&read, &[row("c", "3"), row("b", "2"), row("a", "1")]));
        assert!(!is_complete(&read, &[row("b", "2")]));
        assert!(!is_complete(&read, &[row("a", "4"), row("b", "2")]), "it was created again");
    }
}
