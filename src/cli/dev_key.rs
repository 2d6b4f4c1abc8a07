//! The files in which `dev` keeps its keys, so that a shell that has read a key stays usable over a restart.
//!
//! Such a file marks a folder of `dev`: `dev` adds no keys to the data of a server, and a server does not use the data
//! of `dev` (T12).
//!
//! Invariants
//! - a file that other users can read, or that is not a regular file of this user, is refused and not repaired: others
//!   may know its key, or may have placed it;
//! - a file appears with all of its content, so that a crash leaves no part of a key.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::CliError;
use crate::private_files::{Draft, sync_folder_of};
use crate::secret::Secret;

/// File of the key of the admin.
pub(super) const ADMIN_FILE: &str = "admin-key";
/// File of the key of the approver.
pub(super) const APPROVER_FILE: &str = "approver-key";

/// Maximum length that is read, in bytes. A key has 46.
const BYTES_MAX: u64 = 256;
/// Access of group and others.
const SHARED: u32 = 0o077;

/// Returns whether a folder has a file with a key, of any kind. Without access to the folder it has none.
pub(super) fn has_keys(folder: &Path) -> bool {
    [ADMIN_FILE, APPROVER_FILE].iter().any(|file| folder.join(file).symlink_metadata().is_ok())
}

/// Reads a key, which may no longer be valid, from its file in a data folder. Returns `None` if the file does not
/// exist.
///
/// # Errors
/// `Io` if it is a symbolic link, not a regular file, accessible to other users, or owned by one of them.
pub(super) fn read(folder: &Path, file: &str) -> Result<Option<Secret>, CliError> {
    let path = folder.join(file);
    // Without NONBLOCK, opening a pipe would wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path.as_path(), flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(unusable(&path, "it is a symbolic link: remove it")),
        Err(error) => return Err(unusable(&path, &io::Error::from(error).to_string())),
    };
    let read = check(&file).and_then(|()| {
        let mut text = Zeroizing::new(String::new());
        file.take(BYTES_MAX).read_to_string(&mut text).map_err(|error| error.to_string())?;
        Ok(Secret::new(text.trim()))
    });
    read.map(Some).map_err(|why| unusable(&path, &why))
}

fn check(file: &File) -> Result<(), String> {
    let about = file.metadata().map_err(|error| error.to_string())?;
    if !about.is_file() {
        return Err("it is not a regular file: remove it".to_owned());
    }
    if about.uid() != rustix::process::geteuid().as_raw() {
        return Err("it belongs to another user: remove it".to_owned());
    }
    if about.mode() & SHARED != 0 {
        return Err("other users have access, so they may know the key: remove it".to_owned());
    }
    Ok(())
}

/// Stores a key in a file with mode 0600, in place of the previous one.
///
/// # Errors
/// `Io` if the file cannot be written.
pub(super) fn write(folder: &Path, file: &str, key: &Secret) -> Result<(), CliError> {
    let path = folder.join(file);
    let draft = folder.join(format!("{file}.new"));
    // Left by a crash.
    let _ = fs::remove_file(&draft);
    place(&draft, &path, key).map_err(|error| unusable(&path, &error.to_string()))
}

fn place(draft: &Path, path: &Path, key: &Secret) -> io::Result<()> {
    let mut draft = Draft::create(draft, path)?;
    writeln!(draft, "{}", key.expose())?;
    draft.replace()?;
    // Otherwise a power loss could bring back the previous key.
    sync_folder_of(path)
}

fn unusable(path: &Path, why: &str) -> CliError {
    CliError::Io(format!("the key file `{}` cannot be used: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    const FILE: &str = ADMIN_FILE;

    #[test]
    fn a_key_is_stored_for_its_owner_only_and_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path(), FILE).unwrap().is_none());
        fs::write(folder.path().join("admin-key.new"), "left by a crash").unwrap();
        for key in ["sg_first", "sg_second"] {
            write(folder.path(), FILE, &Secret::new(key)).unwrap();
            assert_eq!(read(folder.path(), FILE).unwrap().unwrap().expose(), key);
            let mode = fs::metadata(folder.path().join(FILE)).unwrap().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_folder_has_keys_if_one_of_the_files_exists() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!has_keys(folder.path()) && !has_keys(&folder.path().join("none")));
        for file in [ADMIN_FILE, APPROVER_FILE] {
            // A link without a target counts, too.
            symlink("/nonexistent/key", folder.path().join(file)).unwrap();
            assert!(has_keys(folder.path()), "{file}");
            fs::remove_file(folder.path().join(file)).unwrap();
        }
    }

    #[test]
    fn a_key_file_with_looser_modes_or_of_another_kind_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (at, elsewhere) = (folder.path().join(FILE), folder.path().join("elsewhere"));
        write(folder.path(), FILE, &Secret::new("sg_x")).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o610, 0o666] {
            fs::set_permissions(&at, fs::Permissions::from_mode(mode)).unwrap();
            let error = read(folder.path(), FILE).unwrap_err().to_string();
            assert!(error.contains("other users have access"), "{mode:o}: {error}");
            assert!(!error.contains("sg_x"), "{error}");
        }
        fs::set_permissions(&at, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(read(folder.path(), FILE).unwrap().is_some());
        fs::rename(&at, &elsewhere).unwrap();
        symlink(&elsewhere, &at).unwrap();
        let error = read(folder.path(), FILE).unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{error}");
        fs::remove_file(&at).unwrap();
        fs::create_dir(&at).unwrap();
        fs::set_permissions(&at, fs::Permissions::from_mode(0o700)).unwrap();
        let error = read(folder.path(), FILE).unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
    }
}
