//! Reads and replaces the files of a user.
//!
//! Invariants
//! - the content of a file is never part of an error: it can be a credential;
//! - a file of another user is not used, except one of root: it could direct credentials to another server;
//! - a file is replaced as a whole, and only its owner can read it.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use toml::Table;

use super::super::super::CliError;
use super::toml_text::format_document;
use crate::app::new_id;
use crate::private_files::{self, Draft};

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// The user that can read and write all files anyway.
const ROOT: u32 = 0;

/// Access of other users that the mode of a file must not permit.
#[derive(Debug, Clone, Copy)]
pub(super) enum Protection {
    /// Neither reading nor writing: the file has credentials.
    Secret,
    /// Writing: another user could direct credentials to another server.
    Trusted,
}

/// Reads a document. A missing file is an empty document.
pub(super) fn read(path: &Path, protection: Protection) -> Result<Table, CliError> {
    let unreadable =
        |error: io::Error| CliError::Usage(format!("`{}` cannot be read: {error}", path.display()));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if is_missing(&error) => return Ok(Table::new()),
        Err(error) => return Err(unreadable(error)),
    };
    // Owner and mode of the open file, since the file at the path can be replaced in between.
    let about = file.metadata().map_err(unreadable)?;
    check_owner(path, about.uid(), rustix::process::geteuid().as_raw())?;
    check_mode(path, about.mode(), protection)?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let why = format!("`{}` is larger than {FILE_BYTES_MAX} bytes", path.display());
        return Err(CliError::Usage(why));
    }
    text.parse().map_err(|error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let line = text.get(..at).map_or(0, |before| before.matches('\n').count()) + 1;
        CliError::Usage(format!("line {line} of `{}` is not valid TOML", path.display()))
    })
}

fn check_owner(path: &Path, owner: u32, user: u32) -> Result<(), CliError> {
    if owner == user || owner == ROOT {
        return Ok(());
    }
    Err(CliError::Usage(format!("`{}` belongs to another user", path.display())))
}

fn check_mode(path: &Path, mode: u32, protection: Protection) -> Result<(), CliError> {
    let (refused, what) = match protection {
        Protection::Secret => (0o077, "read"),
        Protection::Trusted => (0o022, "write"),
    };
    if mode & refused == 0 {
        return Ok(());
    }
    let path = path.display();
    Err(CliError::Usage(format!("other users can {what} `{path}`: run `chmod 600 '{path}'`")))
}

/// Whether the file or its folder does not exist.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The new content of a file. Its own file exists already, so that a folder that cannot be written is found before
/// the content is requested. The file is removed if it is not committed.
#[derive(Debug)]
pub(super) struct Replacement {
    target: PathBuf,
    draft: Draft,
}

impl Replacement {
    /// Creates the file that will replace the target.
    pub(super) fn begin(target: &Path) -> Result<Self, CliError> {
        let stem = target.file_stem().unwrap_or_default().to_string_lossy();
        let temporary = target.with_file_name(format!(".{stem}-{}", new_id().simple()));
        let draft =
            Draft::create(&temporary, target).map_err(|error| unwritable(target, &error))?;
        Ok(Self { target: target.to_owned(), draft })
    }

    /// Replaces the target. The content is on disk before the name, so that a crash leaves the old or the new file.
    pub(super) fn commit(self, document: &Table) -> Result<(), CliError> {
        let Self { target, mut draft } = self;
        let written = draft.write_all(format_document(document).as_bytes());
        written.and_then(|()| draft.replace()).map_err(|error| unwritable(&target, &error))?;
        // The new file is in place, so a folder that cannot be synchronized is not an error.
        let _ = private_files::sync_folder_of(&target);
        Ok(())
    }
}

/// Opens the file of the lock, which stays empty.
pub(super) fn open_lock(path: &Path) -> Result<File, CliError> {
    private_files::open_or_create(path).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &io::Error) -> CliError {
    CliError::Io(format!("`{}` cannot be written: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn put(folder: &Path, text: &str, mode: u32) -> PathBuf {
        let path = folder.join("credentials.toml");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_file_that_others_can_read_or_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (mode, secret, trusted) in [
            (0o600, true, true),
            (0o644, false, true),
            (0o620, false, false),
            (0o602, false, false),
        ] {
            let path = put(folder.path(), "a = 1\n", mode);
            assert_eq!(read(&path, Protection::Secret).is_ok(), secret, "{mode:o}");
            assert_eq!(read(&path, Protection::Trusted).is_ok(), trusted, "{mode:o}");
        }
        let path = put(folder.path(), "a = 1\n", 0o640);
        let why = read(&path, Protection::Secret).unwrap_err().to_string();
        assert!(why.contains("other users can read") && why.contains("chmod 600"), "{why}");
    }

    #[test]
    fn a_file_of_another_user_is_refused() {
        let path = Path::new("contexts.toml");
        assert!(check_owner(path, 1000, 1000).is_ok() && check_owner(path, 0, 1000).is_ok());
        for (owner, user) in [(1001, 1000), (1000, 0)] {
            let why = check_owner(path, owner, user).unwrap_err().to_string();
            assert!(why.contains("belongs to another user"), "{why}");
        }
    }

    #[test]
    fn a_file_that_is_too_large_is_refused_and_not_cut() {
        let folder = tempfile::tempdir().unwrap();
        let size = usize::try_from(FILE_BYTES_MAX).unwrap();
        let path = put(folder.path(), &"#".repeat(size), 0o600);
        assert!(read(&path, Protection::Secret).unwrap().is_empty());
        let path = put(folder.path(), &"#".repeat(size + 1), 0o600);
        let why = read(&path, Protection::Secret).unwrap_err().to_string();
        assert!(why.contains("is larger than"), "{why}");
    }

    #[test]
    fn an_invalid_file_is_reported_by_its_line_without_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = put(folder.path(), "a = 1\nkey = sg_hunter2\n", 0o600);
        let why = read(&path, Protection::Secret).unwrap_err().to_string();
        assert!(why.contains("line 2 of") && !why.contains("hunter2"), "{why}");
        for missing in ["none.toml", "credentials.toml/none.toml"] {
            assert!(read(&folder.path().join(missing), Protection::Secret).unwrap().is_empty());
        }
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = put(folder.path(), "a = 1\n", 0o644);
        drop(Replacement::begin(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "a = 1\n");
        let document: Table = "a = 2\n".parse().unwrap();
        Replacement::begin(&path).unwrap().commit(&document).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a = 2\n");
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "temporary files are removed");
        assert!(Replacement::begin(&folder.path().join("none/x.toml")).is_err());
    }
}
