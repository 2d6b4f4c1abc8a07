//! Sandboxes of a gateway: made, found, listed, started, stopped, deleted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use tracing::warn;

use super::gateway::{CALL_TIME, Passed};
use super::{Gateway, Generation, v0_0, v0_1};
use crate::clock::Timestamp;
use crate::db::types::{SandboxName, workspace_or_default};
use crate::error::{Error, Kind, Reason, Said};
use crate::upstream::budget::SANDBOXES_MAX;
use crate::upstream::message::MESSAGE_BYTES_MAX;
use crate::upstream::said::harmless;

pub(crate) const CREATE: &str = "/openshell.v1.OpenShell/CreateSandbox";
const GET: &str = "/openshell.v1.OpenShell/GetSandbox";
const LIST: &str = "/openshell.v1.OpenShell/ListSandboxes";
const DELETE: &str = "/openshell.v1.OpenShell/DeleteSandbox";
const START: &str = "/openshell.v1.OpenShell/StartSandbox";
const STOP: &str = "/openshell.v1.OpenShell/StopSandbox";

/// How long a creation may take to be answered: a gateway may pull an image first.
const CREATE_TIME: Duration = Duration::from_mins(2);
/// Sandboxes of one page of a listing.
pub(super) const PAGE: u32 = 200;
/// Pages of a listing that are read at most: a gateway may give short ones.
const PAGES_MAX: usize = 500;
/// Longest text of a gateway that is kept, in characters.
const TEXT_CHARACTERS_MAX: usize = 1_024;
/// Entries of a map, and items of a list, that are kept.
pub(super) const ITEMS_MAX: usize = 100;
/// Longest id of a sandbox, in characters; one that is longer is none.
const ID_CHARACTERS_MAX: usize = 128;
/// Conditions of one sandbox that are kept.
pub(super) const CONDITIONS_MAX: usize = 20;

/// How a sandbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The gateway does not say.
    Unspecified,
    /// It is being made.
    Provisioning,
    /// It runs, and commands can be given.
    Ready,
    /// It has failed.
    Error,
    /// It goes away.
    Deleting,
    /// The gateway does not know.
    Unknown,
    /// It is about to stand still.
    Stopping,
    /// It stands still.
    Stopped,
    /// It is about to run again.
    Starting,
    /// Its command has ended.
    Completed,
}

/// Something that the gateway says of a sandbox's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// What it is about.
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, for programs.
    pub reason: String,
    /// Why, for people.
    pub message: String,
}

/// A sandbox, as its gateway tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// The gateway's own id.
    pub id: String,
    /// Where it is.
    pub place: SandboxName,
    /// How it is.
    pub phase: Phase,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// Its image.
    pub image: String,
    /// Whether it has a GPU.
    pub gpu: bool,
    /// Providers that are attached.
    pub providers: Vec<String>,
    /// The last revision of its policy that is in force.
    pub policy_version: u32,
    /// The gateway's own labels.
    pub labels: BTreeMap<String, String>,
    /// The gateway's own annotations.
    pub annotations: BTreeMap<String, String>,
    /// What the gateway says of its state.
    pub conditions: Vec<Condition>,
    /// How its command has ended, where it has one that did.
    pub exit_code: Option<i32>,
}

/// A sandbox to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NewSandbox {
    /// Its workspace.
    pub workspace: String,
    /// Its name; empty lets the gateway choose one.
    pub name: String,
    /// Its image; empty is the gateway's own choice.
    pub image: String,
    /// Whether it gets a GPU.
    pub gpu: bool,
    /// Providers to attach.
    pub providers: Vec<String>,
    /// Environment.
    pub environment: BTreeMap<String, String>,
    /// How much it logs.
    pub log_level: String,
    /// Its policy, encoded as the gateway's own generation has it.
    pub policy: Option<Vec<u8>>,
    /// A template of the gateway's own, which generation 0.1 has.
    pub workload_template: String,
    /// Kept by the gateway with the sandbox.
    pub annotations: BTreeMap<String, String>,
    /// The id that a stock client of generation 0.1 gave its creation. Ours carry none: a gateway keeps each for good that
    /// fails, and takes few of one caller.
    pub request_id: String,
}

/// One page of a listing, and where the next begins.
pub(super) type Page<T> = (Vec<T>, Option<String>);

impl Gateway {
    /// Makes a sandbox. Sent once: an error says that nothing is known but what it says.
    pub async fn create_sandbox(&self, new: &NewSandbox) -> Result<Sandbox, Error> {
        let request = match self.generation() {
            Generation::V0_0 => v0_0::create(new)?,
            Generation::V0_1 => v0_1::create(new)?,
        };
        let answer = self.unary(CREATE, &request, CREATE_TIME).await?;
        self.read_sandbox(CREATE, &answer)
    }

    /// Passes a creation on as it is, and what the gateway has made of it.
    pub(crate) async fn pass_create(
        &self,
        headers: (HeaderMap, Option<Instant>),
        request: &[u8],
    ) -> Result<(Passed, Option<Sandbox>), Error> {
        let passed = self.pass(CREATE, headers, request, CREATE_TIME).await?;
        let made = passed.message.as_deref().filter(|_| passed.refused.is_none());
        let made = made.map(|answer| self.read_sandbox(CREATE, answer)).transpose()?;
        Ok((passed, made))
    }

    /// A creation in the caller's own bytes, with one annotation more, by which its sandbox is known. One that would be too
    /// large with it stays as it is.
    pub(crate) fn with_annotation(&self, request: Bytes, key: &str, value: &str) -> Bytes {
        let more = match self.generation() {
            Generation::V0_0 => v0_0::annotated(key, value),
            Generation::V0_1 => v0_1::annotated(key, value),
        };
        if request.len() + more.len() > MESSAGE_BYTES_MAX {
            return request;
        }
        // Of an encoded message the fields may come in pieces.
        [request.as_ref(), &more].concat().into()
    }

    /// Passes a deletion on in the caller's own bytes, and whether there was something to delete.
    pub(crate) async fn pass_delete(
        &self,
        headers: (HeaderMap, Option<Instant>),
        request: &[u8],
    ) -> Result<(Passed, bool), Error> {
        let passed = self.pass(DELETE, headers, request, CALL_TIME).await?;
        let answer = passed.message.as_deref().filter(|_| passed.refused.is_none());
        let deleted = answer.map(|answer| self.was_deleted(answer)).transpose()?;
        Ok((passed, deleted.unwrap_or(false)))
    }

    /// What a request asks for that hooks before a creation are told.
    pub(crate) fn asked_for(&self, request: &[u8]) -> Option<NewSandbox> {
        match self.generation() {
            Generation::V0_0 => v0_0::asked_for(request),
            Generation::V0_1 => v0_1::asked_for(request),
        }
    }

    fn was_deleted(&self, answer: &[u8]) -> Result<bool, Error> {
        let deleted = match self.generation() {
            Generation::V0_0 => v0_0::deleted(answer),
            Generation::V0_1 => v0_1::deleted(answer),
        };
        deleted.ok_or_else(|| self.unreadable(DELETE))
    }

    /// One sandbox.
    ///
    /// # Errors
    /// `NOT_FOUND` of the sandbox.
    pub async fn get_sandbox(&self, place: &SandboxName) -> Result<Sandbox, Error> {
        self.about_sandbox(GET, place).await
    }

    /// Lets a sandbox run again.
    pub async fn start_sandbox(&self, place: &SandboxName) -> Result<Sandbox, Error> {
        self.about_sandbox(START, place).await
    }

    /// Lets a sandbox stand still.
    pub async fn stop_sandbox(&self, place: &SandboxName) -> Result<Sandbox, Error> {
        self.about_sandbox(STOP, place).await
    }

    /// Begins to delete a sandbox; false where there was none. The gateway does it in its own time.
    pub async fn delete_sandbox(&self, place: &SandboxName) -> Result<bool, Error> {
        let request = self.named(place);
        let answer = match self.unary(DELETE, &request, CALL_TIME).await {
            Err(Error::Gateway { said: Said::Missing, .. }) => return Ok(false),
            answer => answer?,
        };
        self.was_deleted(&answer)
    }

    /// Every sandbox of a workspace, or of all; by place.
    ///
    /// # Errors
    /// `LIMIT_REACHED` where there are more than [`SANDBOXES_MAX`], or they come in more pages than are read.
    pub async fn list_sandboxes(&self, workspace: Option<&str>) -> Result<Vec<Sandbox>, Error> {
        let (all, whole) = self.list_sandboxes_within(workspace, usize::MAX).await?;
        if whole {
            return Ok(all);
        }
        let why = format!("gateway `{}` lists more than {SANDBOXES_MAX} sandboxes", self.name());
        Err(Error::refused(Reason::LimitReached, why))
    }

    /// The same, of at most so many bytes of answers; whether that was all there is.
    pub async fn list_sandboxes_within(
        &self,
        workspace: Option<&str>,
        bytes_max: usize,
    ) -> Result<(Vec<Sandbox>, bool), Error> {
        let mut all: BTreeMap<SandboxName, Sandbox> = BTreeMap::new();
        let (mut from, mut asked, mut bytes, mut whole) = (String::new(), 0, 0, false);
        // Where there is more than is read, nobody must take what was read for all there is.
        while all.len() < SANDBOXES_MAX && asked < PAGES_MAX && bytes < bytes_max {
            asked += 1;
            let request = match self.generation() {
                Generation::V0_0 => v0_0::list(workspace, &from),
                Generation::V0_1 => v0_1::list(workspace, &from),
            };
            let answer = self.unary(LIST, &request, CALL_TIME).await?;
            bytes += answer.len();
            let page = match self.generation() {
                Generation::V0_0 => v0_0::page(&answer, &from),
                Generation::V0_1 => v0_1::page(&answer),
            };
            let (page, next) = page.ok_or_else(|| self.unreadable(LIST))?;
            all.extend(page.into_iter().map(|sandbox| (sandbox.place.clone(), sandbox)));
            let Some(next) = next else {
                whole = true;
                break;
            };
            from = next;
        }
        whole &= all.len() <= SANDBOXES_MAX;
        if !whole && all.len() >= SANDBOXES_MAX {
            self.budget().too_many_sandboxes();
        }
        Ok((all.into_values().take(SANDBOXES_MAX).collect(), whole))
    }

    async fn about_sandbox(
        &self,
        path: &'static str,
        place: &SandboxName,
    ) -> Result<Sandbox, Error> {
        let answer = self.unary(path, &self.named(place), CALL_TIME).await;
        self.read_sandbox(path, &answer.map_err(about(place))?)
    }

    /// Get, delete, start and stop name a sandbox in the same fields.
    fn named(&self, place: &SandboxName) -> Vec<u8> {
        match self.generation() {
            Generation::V0_0 => v0_0::named(place),
            Generation::V0_1 => v0_1::named(place),
        }
    }

    fn read_sandbox(&self, path: &'static str, answer: &[u8]) -> Result<Sandbox, Error> {
        let sandbox = match self.generation() {
            Generation::V0_0 => v0_0::sandbox(answer),
            Generation::V0_1 => v0_1::sandbox(answer),
        };
        sandbox.ok_or_else(|| self.unreadable(path))
    }
}

/// What a gateway has answered is not what its generation answers.
pub(super) fn unreadable(gateway: &str, what: &str) -> Error {
    warn!(gateway, what, "an answer can't be read");
    let why = format!("gateway `{gateway}` has given an answer that can't be read");
    Error::unavailable(Reason::GatewayUnreachable, why)
}

/// A gateway that knows no such thing speaks of the sandbox.
pub(super) fn about(place: &SandboxName) -> impl Fn(Error) -> Error {
    |error| {
        if matches!(error, Error::Gateway { said: Said::Missing, .. }) {
            return Error::missing(Kind::Sandbox, &place.name);
        }
        error
    }
}

/// Text of a gateway, cut, without control characters.
pub(super) fn text(said: &str) -> String {
    harmless(said, TEXT_CHARACTERS_MAX)
}

/// Items of a gateway, cut in number and length.
pub(super) fn texts(said: &[String]) -> Vec<String> {
    said.iter().take(ITEMS_MAX).map(|item| text(item)).collect()
}

/// A map of a gateway, cut in number and length.
pub(super) fn map(said: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    said.iter().take(ITEMS_MAX).map(|(key, value)| (text(key), text(value))).collect()
}

/// The id of a sandbox; none where it is no id (T20). It is kept, so an empty or a long one is not read at all.
pub(super) fn id(said: &str) -> Option<String> {
    let sound = !said.is_empty()
        && said.chars().count() <= ID_CHARACTERS_MAX
        && !said.contains(char::is_control);
    sound.then(|| said.to_owned())
}

/// Where a sandbox is; none where it is named as nothing can be.
pub(super) fn place(workspace: &str, name: &str) -> Option<SandboxName> {
    let sound = |text: &str| text.len() <= 253 && !text.contains(char::is_control);
    let workspace = workspace_or_default(workspace);
    (!name.is_empty() && sound(name) && sound(workspace))
        .then(|| SandboxName { workspace: workspace.to_owned(), name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t20_what_is_no_id_is_not_read() {
        assert_eq!(id("sb-1").as_deref(), Some("sb-1"));
        assert!(id(&"a".repeat(ID_CHARACTERS_MAX)).is_some());
        for bad in ["", "a\0", "a\nb", &"a".repeat(ID_CHARACTERS_MAX + 1)] {
            assert!(id(bad).is_none(), "{bad:?}");
        }
    }
}
