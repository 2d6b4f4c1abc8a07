//! Contexts and credentials of a user: `contexts.toml` and `credentials.toml` in the folder `shoreguard` of
//! `$XDG_CONFIG_HOME` or `~/.config`. The SDKs read and write the same files.
//!
//! Invariants
//! - a program that writes a file holds the lock, and reads the file again after it got the lock (type: [`Locked`]);
//! - credentials that other users can read, and contexts that they can write, are refused;
//! - a credential is stored with the endpoint that it is for.

mod credential;
mod files;
mod toml_text;

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use toml::{Table, Value};

use super::super::{CliError, data_dir};
use files::{Protection, Replacement};

pub(in crate::cli) use credential::{Credential, Session};

const CONTEXTS: &str = "contexts.toml";
const CREDENTIALS: &str = "credentials.toml";
const LOCK: &str = "credentials.lock";
/// How long to wait for another program that holds the lock, unless the user has given less time. It makes one call at
/// most.
const LOCK_TIME_MAX: Duration = Duration::from_mins(1);
/// Pause between attempts to get the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Maximum length of the name of a context, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// A named server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Context {
    /// Name.
    pub(in crate::cli) name: String,
    /// URL of the server.
    pub(in crate::cli) endpoint: String,
    /// CA certificate of the server; `None` for those of the system.
    pub(in crate::cli) ca: Option<PathBuf>,
    /// The gateway of proxied calls that name none.
    pub(in crate::cli) gateway: Option<String>,
}

/// The folder of a user.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Store {
    folder: Option<PathBuf>,
}

impl Store {
    /// Returns the folder that the environment names. Without a home folder, nothing is stored.
    pub(in crate::cli) fn open() -> Self {
        let folder = |name: &str| {
            std::env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from)
        };
        let base = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")));
        Self { folder: base.map(|base| base.join("shoreguard")) }
    }

    /// Returns this folder, for tests.
    #[cfg(test)]
    pub(in crate::cli) fn at(folder: &Path) -> Self {
        Self { folder: Some(folder.to_owned()) }
    }

    /// Reads the contexts.
    pub(in crate::cli) fn contexts(&self) -> Result<Contexts, CliError> {
        let Some(path) = self.path(CONTEXTS) else { return Ok(Contexts::default()) };
        let document = files::read(&path, Protection::Trusted)?;
        Ok(Contexts { document, path })
    }

    /// Reads the credential of a context. It is withheld if it was stored for another endpoint.
    pub(in crate::cli) fn credential(
        &self,
        context: &Context,
    ) -> Result<Option<Credential>, CliError> {
        let Some(path) = self.path(CREDENTIALS) else { return Ok(None) };
        let document = files::read(&path, Protection::Secret)?;
        let Some(table) = entry(&document, &context.name, &path)? else { return Ok(None) };
        let endpoint = table.get("endpoint").and_then(Value::as_str);
        if endpoint.is_some_and(|endpoint| endpoint != context.endpoint) {
            return Ok(None);
        }
        credential::from_table(table).map_err(|why| {
            CliError::Usage(format!("context `{}` in `{}`: {why}", context.name, path.display()))
        })
    }

    /// Waits until no other program writes, and keeps others from writing. The wait ends after a minute, or after the
    /// timeout that the user gave, if that is shorter.
    ///
    /// # Errors
    /// `Busy` if another program has the lock until then; `Usage` without a folder; `Io` if the lock cannot be used.
    pub(in crate::cli) async fn lock(
        &self,
        timeout: Option<Duration>,
    ) -> Result<Locked<'_>, CliError> {
        let Some(folder) = &self.folder else {
            let why = "no folder for contexts: set `HOME` or `XDG_CONFIG_HOME`";
            return Err(CliError::Usage(why.to_owned()));
        };
        data_dir::create(folder)?;
        let path = folder.join(LOCK);
        let file = files::open_lock(&path)?;
        let time_max = timeout.map_or(LOCK_TIME_MAX, |timeout| timeout.min(LOCK_TIME_MAX));
        let begun = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Locked { store: self, folder, _file: file }),
                Err(Errno::WOULDBLOCK | Errno::INTR) if begun.elapsed() < time_max => {
                    tokio::time::sleep(LOCK_PAUSE).await;
                }
                Err(Errno::WOULDBLOCK | Errno::INTR) => return Err(busy(&path, time_max)),
                Err(error) => {
                    let path = path.display();
                    return Err(CliError::Io(format!("`{path}` cannot be locked: {error}")));
                }
            }
        }
    }

    fn path(&self, file: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(file))
    }
}

/// The right to write. It ends when this is dropped.
#[derive(Debug)]
pub(in crate::cli) struct Locked<'a> {
    store: &'a Store,
    folder: &'a Path,
    _file: File,
}

impl Locked<'_> {
    /// Reads the contexts.
    pub(in crate::cli) fn contexts(&self) -> Result<Contexts, CliError> {
        self.store.contexts()
    }

    /// Replaces the contexts.
    pub(in crate::cli) fn write_contexts(&self, contexts: &Contexts) -> Result<(), CliError> {
        Replacement::begin(&self.folder.join(CONTEXTS))?.commit(&contexts.document)
    }

    /// Prepares a change of credentials, so that a folder that cannot be written is found before a refresh token is
    /// used.
    pub(in crate::cli) fn begin_credentials(&self) -> Result<CredentialChange, CliError> {
        let path = self.folder.join(CREDENTIALS);
        let document = files::read(&path, Protection::Secret)?;
        entry(&document, "", &path)?;
        Ok(CredentialChange { document, replacement: Replacement::begin(&path)? })
    }

    /// Removes the credential of a context.
    pub(in crate::cli) fn remove_credential(&self, context: &str) -> Result<(), CliError> {
        self.begin_credentials()?.remove(context)
    }
}

/// A change of one credential. It has no `Debug`, since the document has secrets.
pub(in crate::cli) struct CredentialChange {
    document: Table,
    replacement: Replacement,
}

impl CredentialChange {
    /// Stores the credential of a context, with the endpoint that it is for.
    pub(in crate::cli) fn put(
        mut self,
        context: &Context,
        credential: &Credential,
    ) -> Result<(), CliError> {
        let mut table = credential::to_table(credential);
        table.insert("endpoint".to_owned(), Value::String(context.endpoint.clone()));
        entries(&mut self.document).insert(context.name.clone(), Value::Table(table));
        self.replacement.commit(&self.document)
    }

    fn remove(mut self, context: &str) -> Result<(), CliError> {
        if entries(&mut self.document).remove(context).is_none() {
            return Ok(());
        }
        self.replacement.commit(&self.document)
    }
}

/// The contexts of a user, as stored.
#[derive(Debug, Default)]
pub(in crate::cli) struct Contexts {
    document: Table,
    path: PathBuf,
}

impl Contexts {
    /// Returns the names, sorted.
    pub(in crate::cli) fn names(&self) -> Vec<&str> {
        let entries = self.document.get("contexts").and_then(Value::as_table);
        entries.into_iter().flat_map(Table::keys).map(String::as_str).collect()
    }

    /// Returns the name of the current context.
    pub(in crate::cli) fn current_name(&self) -> Option<&str> {
        self.document.get("current").and_then(Value::as_str).filter(|name| !name.is_empty())
    }

    /// Returns the current context. The error says that it does not exist.
    pub(in crate::cli) fn current(&self) -> Result<Option<Context>, CliError> {
        self.current_name().map(|name| self.require(name)).transpose()
    }

    /// Returns a context.
    pub(in crate::cli) fn get(&self, name: &str) -> Result<Option<Context>, CliError> {
        let Some(table) = entry(&self.document, name, &self.path)? else { return Ok(None) };
        let text = |field: &str| match table.get(field) {
            None => Ok(None),
            Some(value) => match value.as_str() {
                Some(text) => Ok(Some(text.to_owned()).filter(|text| !text.is_empty())),
                None => Err(self.fault(&format!("`contexts.{name}.{field}` must be a text"))),
            },
        };
        let Some(endpoint) = text("endpoint")? else {
            return Err(self.fault(&format!("`contexts.{name}.endpoint` is missing")));
        };
        let ca = text("ca")?.map(PathBuf::from);
        Ok(Some(Context { name: name.to_owned(), endpoint, ca, gateway: text("gateway")? }))
    }

    /// Returns a context that must exist.
    pub(in crate::cli) fn require(&self, name: &str) -> Result<Context, CliError> {
        self.get(name)?.ok_or_else(|| {
            let known = self.names().join("`, `");
            let hint = if known.is_empty() {
                "`shoreguard login` creates one".to_owned()
            } else {
                format!("known are `{known}`")
            };
            CliError::Usage(format!("context `{name}` does not exist: {hint}"))
        })
    }

    /// Adds or replaces a context.
    pub(in crate::cli) fn put(&mut self, context: &Context) {
        let entries = entries(&mut self.document);
        let known = entries.remove(&context.name);
        let mut table = if let Some(Value::Table(table)) = known { table } else { Table::new() };
        let ca = context.ca.as_ref().map(|ca| ca.to_string_lossy().into_owned());
        for (field, value) in [
            ("endpoint", Some(context.endpoint.clone())),
            ("ca", ca),
            ("gateway", context.gateway.clone()),
        ] {
            match value {
                Some(value) => table.insert(field.to_owned(), Value::String(value)),
                None => table.remove(field),
            };
        }
        entries.insert(context.name.clone(), Value::Table(table));
    }

    /// Makes a context the current one.
    pub(in crate::cli) fn set_current(&mut self, name: &str) {
        self.document.insert("current".to_owned(), Value::String(name.to_owned()));
    }

    /// Removes a context. No context is current afterward if it was.
    pub(in crate::cli) fn remove(&mut self, name: &str) {
        entries(&mut self.document).remove(name);
        if self.current_name() == Some(name) {
            self.document.remove("current");
        }
    }

    fn fault(&self, why: &str) -> CliError {
        CliError::Usage(format!("`{}` is not valid: {why}", self.path.display()))
    }
}

/// Checks the name of a new context, which becomes a key of both files.
pub(in crate::cli) fn check_name(name: &str) -> Result<(), CliError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(is_plain) {
        return Ok(());
    }
    Err(CliError::Usage(format!(
        "`{name}` is not a valid name of a context: use at most {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`"
    )))
}

/// Says that another program has kept the lock for so long.
fn busy(path: &Path, time_max: Duration) -> CliError {
    let more = if time_max < LOCK_TIME_MAX { ", or give more time with `--timeout`" } else { "" };
    CliError::Busy(format!(
        "another program has locked the stored credentials with `{}`: try again when it has ended{more}",
        path.display()
    ))
}

/// Returns the table of a context.
fn entry<'a>(document: &'a Table, name: &str, path: &Path) -> Result<Option<&'a Table>, CliError> {
    let wrong = |what: &str| {
        CliError::Usage(format!("`{}` is not valid: {what} must be a table", path.display()))
    };
    let Some(contexts) = document.get("contexts") else { return Ok(None) };
    let contexts = contexts.as_table().ok_or_else(|| wrong("`contexts`"))?;
    let Some(found) = contexts.get(name) else { return Ok(None) };
    found.as_table().map(Some).ok_or_else(|| wrong(&format!("`contexts.{name}`")))
}

/// Returns the tables of all contexts, to be changed. What is not a table is replaced: [`entry`] refuses it before.
fn entries(document: &mut Table) -> &mut Table {
    let contexts = document.entry("contexts").or_insert_with(|| Value::Table(Table::new()));
    if !contexts.is_table() {
        *contexts = Value::Table(Table::new());
    }
    contexts.as_table_mut().expect("it is a table now")
}

#[cfg(test)]
mod tests;
