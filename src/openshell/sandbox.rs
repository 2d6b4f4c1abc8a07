//! Creates, gets, lists, starts, stops and deletes the sandboxes of a gateway.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tracing::warn;

use super::gateway::{CALL_TIME, ForwardedResponse, Forwarding};
use super::{Gateway, Generation, v0_0, v0_1};
use crate::clock::Timestamp;
use crate::db::types::{SandboxName, workspace_or_default};
use crate::error::{Error, GatewayRefusal, Reason, ResourceKind};
use crate::upstream::errors::{sanitize, without_credentials};
use crate::upstream::message::MESSAGE_BYTES_MAX;
use crate::words;

pub(crate) const CREATE: &str = "/openshell.v1.OpenShell/CreateSandbox";
const GET: &str = "/openshell.v1.OpenShell/GetSandbox";
const LIST: &str = "/openshell.v1.OpenShell/ListSandboxes";
const DELETE: &str = "/openshell.v1.OpenShell/DeleteSandbox";
const START: &str = "/openshell.v1.OpenShell/StartSandbox";
const STOP: &str = "/openshell.v1.OpenShell/StopSandbox";

/// Timeout of a creation: a gateway may pull an image first.
pub(crate) const CREATE_TIME: Duration = Duration::from_mins(2);
/// Sandboxes per page of a list.
pub(super) const PAGE_SIZE: u32 = 200;
/// Maximum number of pages that are read per list: a gateway may return short ones.
const PAGES_MAX: usize = 500;
/// Maximum length of a stored text from a gateway, in characters.
const TEXT_CHARACTERS_MAX: usize = 1_024;
/// Maximum number of stored entries of a map or a list.
pub(super) const ITEMS_MAX: usize = 100;
/// Maximum length of a sandbox id, in characters; a longer one is invalid.
const ID_CHARACTERS_MAX: usize = 128;
/// Maximum number of stored conditions per sandbox.
pub(super) const CONDITIONS_MAX: usize = 20;

words! {
    /// Phase of a sandbox.
    pub enum Phase {
        /// Not reported by the gateway.
        Unspecified = "unspecified",
        /// Being created.
        Provisioning = "provisioning",
        /// Running, and ready for commands.
        Ready = "ready",
        /// Failed.
        Error = "error",
        /// Being deleted.
        Deleting = "deleting",
        /// Not known to the gateway.
        Unknown = "unknown",
        /// Being stopped.
        Stopping = "stopping",
        /// Stopped.
        Stopped = "stopped",
        /// Being started again.
        Starting = "starting",
        /// Its main command has exited.
        Completed = "completed",
    }
}

/// A condition of a sandbox, as reported by its gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Type of the condition.
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Reason, machine-readable.
    pub reason: String,
    /// Reason, human-readable.
    pub message: String,
}

/// A sandbox, as reported by its gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// The gateway's own id.
    pub id: String,
    /// Its workspace and name.
    pub full_name: SandboxName,
    /// Current phase.
    pub phase: Phase,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// Its image.
    pub image: String,
    /// Whether it has a GPU.
    pub gpu: bool,
    /// Attached providers.
    pub providers: Vec<String>,
    /// The policy revision in force.
    pub policy_version: u32,
    /// Number that the gateway changes with each write of the sandbox, also one of its status.
    pub resource_version: u64,
    /// The gateway's own labels.
    pub labels: BTreeMap<String, String>,
    /// The gateway's own annotations.
    pub annotations: BTreeMap<String, String>,
    /// Conditions reported by the gateway.
    pub conditions: Vec<Condition>,
    /// Exit code of its main command; `None` if it has not exited.
    pub exit_code: Option<i32>,
}

/// A sandbox to be created.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NewSandbox {
    /// Its workspace.
    pub workspace: String,
    /// Its name; if empty, the gateway chooses one.
    pub name: String,
    /// Its image; if empty, the gateway's default.
    pub image: String,
    /// Whether it gets a GPU.
    pub gpu: bool,
    /// Providers to attach.
    pub providers: Vec<String>,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
    /// Log level.
    pub log_level: String,
    /// Its policy, encoded for the gateway's generation.
    pub policy: Option<Vec<u8>>,
    /// Name of a template stored on the gateway. Only in generation 0.1.
    pub workload_template: String,
    /// Stored by the gateway with the sandbox.
    pub annotations: BTreeMap<String, String>,
    /// Request id of the creation by a stock client of generation 0.1. Shoreguard's own creations have none: a gateway
    /// stores the ids of failed calls permanently, and accepts few per caller.
    pub request_id: String,
}

/// One page of a list, and the token of the next page.
pub(super) type Page<T> = (Vec<T>, Option<String>);

impl Gateway {
    /// Creates a sandbox, `until` a time of the clock that includes sleep. The request is sent only once; unless the
    /// error says so, a failed call may have created the sandbox.
    pub async fn create_sandbox(
        &self,
        new: &NewSandbox,
        until: Duration,
    ) -> Result<Sandbox, Error> {
        let request = match self.generation() {
            Generation::V0_0 => v0_0::encode_create(new)?,
            Generation::V0_1 => v0_1::encode_create(new)?,
        };
        let answer = self.unary_until(CREATE, &request, until).await?;
        self.decode_sandbox(CREATE, &answer)
    }

    /// Forwards a creation unchanged. Returns the response and, on success, the created sandbox.
    pub(crate) async fn forward_create(
        &self,
        forwarding: Forwarding,
        request: &[u8],
        within: Duration,
    ) -> Result<(ForwardedResponse, Option<Sandbox>), Error> {
        let response = self.forward(CREATE, forwarding, request, Some(within)).await?;
        let sandbox = response.message.as_deref().filter(|_| response.error.is_none());
        let sandbox = sandbox.map(|answer| self.decode_sandbox(CREATE, answer)).transpose()?;
        Ok((response, sandbox))
    }

    /// Appends an annotation to a caller's creation request, by which its sandbox is found later. Returns the request
    /// unchanged if it would become too large.
    pub(crate) fn with_annotation(&self, request: Bytes, key: &str, value: &str) -> Bytes {
        let extra = match self.generation() {
            Generation::V0_0 => v0_0::encode_annotation(key, value),
            Generation::V0_1 => v0_1::encode_annotation(key, value),
        };
        if request.len() + extra.len() > MESSAGE_BYTES_MAX {
            return request;
        }
        // Concatenating two encoded messages merges their fields.
        [request.as_ref(), &extra].concat().into()
    }

    /// Forwards a deletion with the caller's own bytes. Returns the response and whether the sandbox existed.
    pub(crate) async fn forward_delete(
        &self,
        forwarding: Forwarding,
        request: &[u8],
        within: Duration,
    ) -> Result<(ForwardedResponse, bool), Error> {
        let response = self.forward(DELETE, forwarding, request, Some(within)).await?;
        let answer = response.message.as_deref().filter(|_| response.error.is_none());
        let deleted = answer.map(|answer| self.decode_deleted(answer)).transpose()?;
        Ok((response, deleted.unwrap_or(false)))
    }

    /// Parses the part of a creation request that is passed to pre-creation hooks.
    pub(crate) fn parse_create_request(&self, request: &[u8]) -> Option<NewSandbox> {
        match self.generation() {
            Generation::V0_0 => v0_0::decode_create(request),
            Generation::V0_1 => v0_1::decode_create(request),
        }
    }

    fn decode_deleted(&self, answer: &[u8]) -> Result<bool, Error> {
        let deleted = match self.generation() {
            Generation::V0_0 => v0_0::decode_deleted(answer),
            Generation::V0_1 => v0_1::decode_deleted(answer),
        };
        deleted.ok_or_else(|| self.unreadable(DELETE))
    }

    /// Returns a sandbox.
    ///
    /// # Errors
    /// `NOT_FOUND` if the sandbox does not exist.
    pub async fn get_sandbox(&self, sandbox: &SandboxName) -> Result<Sandbox, Error> {
        self.call_on_sandbox(GET, sandbox).await
    }

    /// Starts a stopped sandbox.
    pub async fn start_sandbox(&self, sandbox: &SandboxName) -> Result<Sandbox, Error> {
        self.call_on_sandbox(START, sandbox).await
    }

    /// Stops a sandbox.
    pub async fn stop_sandbox(&self, sandbox: &SandboxName) -> Result<Sandbox, Error> {
        self.call_on_sandbox(STOP, sandbox).await
    }

    /// Starts the deletion of a sandbox, which the gateway completes later, `until` a time of the clock that includes
    /// sleep. Returns false if the sandbox does not exist.
    pub async fn delete_sandbox(
        &self,
        sandbox: &SandboxName,
        until: Duration,
    ) -> Result<bool, Error> {
        let request = self.encode_name(sandbox);
        let answer = match self.unary_until(DELETE, &request, until).await {
            Err(Error::Gateway { refusal: GatewayRefusal::NotFound, .. }) => return Ok(false),
            answer => answer?,
        };
        self.decode_deleted(&answer)
    }

    /// Returns all sandboxes of a workspace, or of all workspaces if it is `None`, sorted by workspace and name.
    ///
    /// # Errors
    /// `LIMIT_REACHED` if there are more than `gateways.sandboxes_max`, or more pages than are read.
    pub async fn list_sandboxes(&self, workspace: Option<&str>) -> Result<Vec<Sandbox>, Error> {
        let (all, complete) = self.list_sandboxes_within(workspace, usize::MAX).await?;
        if complete {
            return Ok(all);
        }
        let why = format!(
            "gateway `{}` lists more than {} sandboxes, or more than {PAGES_MAX} pages of them",
            self.name(),
            self.budget().sandboxes_max()
        );
        Err(Error::refused(Reason::LimitReached, why))
    }

    /// As [`Gateway::list_sandboxes`], but stops after `bytes_max` bytes of responses. Returns whether the list is
    /// complete.
    pub async fn list_sandboxes_within(
        &self,
        workspace: Option<&str>,
        bytes_max: usize,
    ) -> Result<(Vec<Sandbox>, bool), Error> {
        let mut all: BTreeMap<SandboxName, Sandbox> = BTreeMap::new();
        let (mut from, mut pages, mut bytes, mut complete) = (String::new(), 0, 0, false);
        let most = self.budget().sandboxes_max();
        // A truncated list must not be mistaken for a complete one.
        while all.len() < most && pages < PAGES_MAX && bytes < bytes_max {
            pages += 1;
            let request = match self.generation() {
                Generation::V0_0 => v0_0::encode_list(workspace, &from),
                Generation::V0_1 => v0_1::encode_list(workspace, &from),
            };
            let answer = self.unary(LIST, &request, CALL_TIME).await?;
            bytes += answer.len();
            let page = match self.generation() {
                Generation::V0_0 => v0_0::decode_page(&answer, &from),
                Generation::V0_1 => v0_1::decode_page(&answer),
            };
            let (page, next) = page.ok_or_else(|| self.unreadable(LIST))?;
            all.extend(page.into_iter().map(|sandbox| (sandbox.full_name.clone(), sandbox)));
            let Some(next) = next else {
                complete = true;
                break;
            };
            from = next;
        }
        complete &= all.len() <= most;
        if !complete && all.len() >= most {
            self.budget().record_too_many_sandboxes();
        }
        Ok((all.into_values().take(most).collect(), complete))
    }

    async fn call_on_sandbox(
        &self,
        path: &'static str,
        sandbox: &SandboxName,
    ) -> Result<Sandbox, Error> {
        let answer = self.unary(path, &self.encode_name(sandbox), CALL_TIME).await;
        self.decode_sandbox(path, &answer.map_err(map_not_found(sandbox))?)
    }

    /// Encodes the request of get, delete, start and stop, which have the same fields.
    pub(super) fn encode_name(&self, sandbox: &SandboxName) -> Vec<u8> {
        match self.generation() {
            Generation::V0_0 => v0_0::encode_name(sandbox),
            Generation::V0_1 => v0_1::encode_name(sandbox),
        }
    }

    fn decode_sandbox(&self, path: &'static str, answer: &[u8]) -> Result<Sandbox, Error> {
        let sandbox = match self.generation() {
            Generation::V0_0 => v0_0::decode_sandbox(answer),
            Generation::V0_1 => v0_1::decode_sandbox(answer),
        };
        sandbox.ok_or_else(|| self.unreadable(path))
    }
}

/// Returns the error for a response that does not match the gateway's generation.
pub(super) fn unreadable(gateway: &str, what: &str) -> Error {
    warn!(gateway, what, "a response cannot be decoded");
    let why = format!("gateway `{gateway}` returned a response that cannot be decoded");
    Error::unavailable(Reason::GatewayUnreachable, why)
}

/// Converts the gateway's `NOT_FOUND` to that of the sandbox.
pub(super) fn map_not_found(sandbox: &SandboxName) -> impl Fn(Error) -> Error {
    |error| {
        if matches!(error, Error::Gateway { refusal: GatewayRefusal::NotFound, .. }) {
            return Error::not_found(ResourceKind::Sandbox, &sandbox.name);
        }
        error
    }
}

/// Truncates a text from a gateway and replaces control characters.
pub(super) fn sanitize_text(text: &str) -> String {
    sanitize(text, TEXT_CHARACTERS_MAX)
}

/// Does the same with a text about a failure, which is stored, and removes what of a URL can be a credential.
pub(super) fn sanitize_cause(text: &str) -> String {
    sanitize_text(&without_credentials(text))
}

/// Truncates a list from a gateway, in number and length.
pub(super) fn sanitize_texts(texts: &[String]) -> Vec<String> {
    texts.iter().take(ITEMS_MAX).map(|item| sanitize_text(item)).collect()
}

/// Truncates a map from a gateway, in number and length.
pub(super) fn sanitize_map(entries: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    entries
        .iter()
        .take(ITEMS_MAX)
        .map(|(key, value)| (sanitize_text(key), sanitize_text(value)))
        .collect()
}

/// Returns the id of a sandbox, or `None` if it is invalid (T20). Ids are stored, so an empty or too long id is
/// rejected instead of truncated.
pub(super) fn parse_id(text: &str) -> Option<String> {
    let is_valid = !text.is_empty()
        && text.chars().count() <= ID_CHARACTERS_MAX
        && !text.contains(char::is_control);
    is_valid.then(|| text.to_owned())
}

/// Returns the workspace and name of a sandbox, or `None` if they are invalid.
pub(super) fn parse_name(workspace: &str, name: &str) -> Option<SandboxName> {
    let is_valid = |text: &str| text.len() <= 253 && !text.contains(char::is_control);
    let workspace = workspace_or_default(workspace);
    (!name.is_empty() && is_valid(name) && is_valid(workspace))
        .then(|| SandboxName { workspace: workspace.to_owned(), name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t20_an_invalid_sandbox_id_of_a_gateway_is_ignored() {
        assert_eq!(parse_id("sb-1").as_deref(), Some("sb-1"));
        assert!(parse_id(&"a".repeat(ID_CHARACTERS_MAX)).is_some());
        for bad in ["", "a\0", "a\nb", &"a".repeat(ID_CHARACTERS_MAX + 1)] {
            assert!(parse_id(bad).is_none(), "{bad:?}");
        }
    }
}
