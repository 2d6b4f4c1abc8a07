//! Common to all objects: ids, names, versions, labels, pages.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use ring::rand::{SecureRandom, SystemRandom};
use tonic::Status;

use super::DEFAULT_WORKSPACE;

/// Maximum length of a sandbox name, which is part of the sandbox's address.
pub(super) const SANDBOX_NAME_CHARS_MAX: usize = 19;

/// Maximum length of all other names.
pub(super) const NAME_CHARS_MAX: usize = 63;

/// Maximum number of labels or annotations per object.
pub(super) const LABELS_MAX: usize = 100;

/// Default page size.
const PAGE_SIZE: usize = 100;

/// Maximum page size.
const PAGE_SIZE_MAX: usize = 1_000;

/// The metadata of an object.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meta {
    /// Id assigned by the gateway.
    pub(crate) id: String,
    /// Unique for its kind of object in its workspace.
    pub(crate) name: String,
    /// Workspace of the object; empty if the object is not in a workspace.
    pub(crate) workspace: String,
    /// Milliseconds since 1970.
    pub(crate) created_ms: i64,
    /// Milliseconds since 1970; 0 if it is not being deleted.
    pub(crate) deletion_ms: i64,
    /// Free-form, can be used in selectors.
    pub(crate) labels: BTreeMap<String, String>,
    /// Free-form.
    pub(crate) annotations: BTreeMap<String, String>,
    /// Incremented with each write.
    pub(crate) resource_version: u64,
}

impl Meta {
    /// Returns the metadata of a new object.
    pub(crate) fn new(workspace: &str, name: &str) -> Self {
        Self {
            id: random_id(),
            name: name.to_owned(),
            workspace: workspace.to_owned(),
            created_ms: now_ms(),
            resource_version: 1,
            ..Self::default()
        }
    }

    /// Increments the version after a write.
    pub(crate) fn bump_version(&mut self) {
        self.resource_version += 1;
    }

    /// Refuses a write that expects another version; 0 disables the check.
    pub(crate) fn check_version(&self, version: u64) -> Result<(), Status> {
        if version == 0 || version == self.resource_version {
            return Ok(());
        }
        Err(Status::aborted(format!(
            "resource version mismatch: expected {version}, current {}",
            self.resource_version
        )))
    }

    /// Whether the labels match a selector: `key=value` pairs separated by commas.
    pub(crate) fn matches_selector(&self, selector: &str) -> Result<bool, Status> {
        for pair in selector.split(',').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(Status::invalid_argument(format!("invalid label selector '{pair}'")));
            };
            if self.labels.get(key).map(String::as_str) != Some(value) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A section of a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    /// Number of items before the page.
    pub(crate) offset: usize,
    /// Number of items; 0 for the default.
    pub(crate) size: usize,
}

impl Page {
    /// Returns the page at an offset.
    pub(crate) fn from_offset(offset: u32, limit: u32) -> Self {
        Self {
            offset: usize::try_from(offset).unwrap_or(usize::MAX),
            size: usize::try_from(limit).unwrap_or(usize::MAX),
        }
    }

    /// Returns the page of a token, which is the offset in decimal digits.
    pub(crate) fn from_token(token: &str, size: i32) -> Result<Self, Status> {
        let offset = match token {
            "" => 0,
            digits => digits.parse().map_err(|_| Status::invalid_argument("invalid page_token"))?,
        };
        let size = usize::try_from(size)
            .map_err(|_| Status::invalid_argument("page_size must not be negative"))?;
        Ok(Self { offset, size })
    }

    /// Returns the page, and the token of the next one, which is empty on the last page.
    pub(crate) fn paginate<T>(self, all: impl Iterator<Item = T>) -> (Vec<T>, String) {
        let size = if self.size == 0 { PAGE_SIZE } else { self.size.min(PAGE_SIZE_MAX) };
        let mut page: Vec<T> = all.skip(self.offset).take(size + 1).collect();
        if page.len() <= size {
            return (page, String::new());
        }
        page.truncate(size);
        (page, self.offset.saturating_add(size).to_string())
    }
}

/// Current time, in milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "a gateway keeps its own time")]
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Returns a new id.
pub(crate) fn random_id() -> String {
    uuid::Builder::from_random_bytes(random()).into_uuid().to_string()
}

/// Returns sixteen random bytes in hexadecimal, for a token or the suffix of a name.
pub(crate) fn random_hex() -> String {
    hex(&random())
}

/// Encodes bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

/// Returns the workspace of a request, which may be empty for the default one.
pub(super) fn workspace_or_default(workspace: &str) -> &str {
    if workspace.is_empty() { DEFAULT_WORKSPACE } else { workspace }
}

/// Refuses names that are not a DNS label of at most `max` characters.
pub(super) fn check_label(field: &str, name: &str, max: usize) -> Result<(), Status> {
    let shape = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if shape && (1..=max).contains(&name.len()) {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "{field} must be a DNS label of 1..={max} characters, got '{name}'"
    )))
}

/// Refuses too many labels or annotations.
pub(super) fn check_map_size(field: &str, map: &BTreeMap<String, String>) -> Result<(), Status> {
    if map.len() <= LABELS_MAX {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("{field} has more than {LABELS_MAX} entries")))
}

/// Refuses to let a collection grow past its limit.
pub(super) fn check_capacity(kind: &str, count: usize, max: usize) -> Result<(), Status> {
    if count < max {
        return Ok(());
    }
    Err(Status::resource_exhausted(format!("the gateway holds at most {max} {kind}")))
}
