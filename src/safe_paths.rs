//! Checks of files and folders: that the server can write them, or that only root and its own user can change them,
//! since programs run from them were put there by an operator of the host.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// Write bits of group and others.
const WRITABLE: u32 = 0o022;
/// In a folder with this bit, only the owner of an entry can rename or remove it.
const STICKY: u32 = 0o1000;
/// The execute bits of owner, group and others.
const RUNNABLE: u32 = 0o111;

/// Returns the canonical path of a folder if it and all its parents are trusted; the error says why they are not.
pub fn check_folder(path: &Path) -> Result<PathBuf, String> {
    if !path.is_absolute() {
        return Err("must be an absolute path".to_owned());
    }
    let found = fs::canonicalize(path).map_err(|error| format!("cannot be read: {error}"))?;
    let about = read_metadata(&found)?;
    if !about.is_dir() {
        return Err("is not a folder".to_owned());
    }
    check_trusted(&about)?;
    // A user who can rename a parent folder can replace this one.
    for above in found.ancestors().skip(1) {
        let about = read_metadata(above)?;
        if about.mode() & STICKY == 0 || !is_trusted(&about) {
            check_trusted(&about)
                .map_err(|why| format!("lies in `{}`, which {why}", above.display()))?;
        }
    }
    Ok(found)
}

/// Checks that the process can create files in a folder, or can create the folder. The error says why it cannot.
pub fn check_can_create_files(folder: &Path) -> Result<(), String> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let existing = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let shown = existing.display();
    if !existing.is_dir() {
        return Err(format!("cannot be used: `{shown}` is not a folder"));
    }
    access(existing, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| format!("cannot be used: no file can be created in `{shown}`: {error}"))
}

/// Checks that the process can read and write a file. The error says why it cannot.
pub fn check_read_write(file: &Path) -> Result<(), String> {
    if !file.is_file() {
        return Err(format!("cannot be used: `{}` is not a regular file", file.display()));
    }
    access(file, Access::READ_OK | Access::WRITE_OK)
        .map_err(|error| format!("cannot be used: `{}`: {error}", file.display()))
}

/// Returns the canonical path of a program: a trusted executable file directly in `folder`, which is a result of
/// [`check_folder`]. The error says why it is not.
pub fn find_executable(folder: &Path, program: &str) -> Result<PathBuf, String> {
    let named = Path::new(program);
    let plain = !program.contains('/') && !matches!(program, "" | "." | "..");
    if !plain && !named.is_absolute() {
        return Err("must be the name of a file, or its absolute path".to_owned());
    }
    // `join` with an absolute path replaces the folder.
    let found = fs::canonicalize(folder.join(named))
        .map_err(|_| "is not a file in the folder of hooks".to_owned())?;
    if found.parent() != Some(folder) {
        return Err("is not a file in the folder of hooks".to_owned());
    }
    let about = read_metadata(&found)?;
    if !about.is_file() || about.mode() & RUNNABLE == 0 {
        return Err("is not an executable file".to_owned());
    }
    check_trusted(&about)?;
    Ok(found)
}

fn read_metadata(path: &Path) -> Result<Metadata, String> {
    fs::symlink_metadata(path).map_err(|error| format!("cannot be read: {error}"))
}

fn is_trusted(about: &Metadata) -> bool {
    about.uid() == 0 || about.uid() == rustix::process::geteuid().as_raw()
}

fn check_trusted(about: &Metadata) -> Result<(), String> {
    if !is_trusted(about) {
        return Err("belongs to neither root nor the user that the server runs as".to_owned());
    }
    if about.mode() & WRITABLE != 0 {
        return Err("can be written by others than its owner".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn put(folder: &Path, name: &str, mode: u32) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_folder_that_other_users_can_write_is_refused() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("hooks");
        fs::create_dir(&inner).unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode));
        mode(&inner, 0o755).unwrap();
        assert_eq!(check_folder(&inner).unwrap(), fs::canonicalize(&inner).unwrap());
        for bad in [0o775, 0o757, 0o777] {
            mode(&inner, bad).unwrap();
            assert!(check_folder(&inner).unwrap_err().contains("written by others"), "{bad:o}");
        }
        mode(&inner, 0o755).unwrap();
        mode(outer.path(), 0o777).unwrap();
        assert!(check_folder(&inner).unwrap_err().contains("lies in"));
        mode(outer.path(), 0o1777).unwrap();
        assert!(check_folder(&inner).is_ok(), "as /tmp is");
        assert!(check_folder(Path::new("hooks")).unwrap_err().contains("absolute"));
        assert!(check_folder(&inner.join("none")).unwrap_err().contains("cannot be read"));
        assert!(check_folder(&put(&inner, "file", 0o755)).unwrap_err().contains("not a folder"));
    }

    #[test]
    fn only_executables_directly_in_the_folder_are_accepted() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("hooks");
        fs::create_dir_all(inner.join("deep")).unwrap();
        let inner = check_folder(&inner).unwrap();
        let good = put(&inner, "check", 0o755);
        let outside = put(outer.path(), "evil", 0o755);
        put(&inner.join("deep"), "below", 0o755);
        put(&inner, "shared", 0o775);
        put(&inner, "plain", 0o644);
        symlink(&outside, inner.join("link")).unwrap();
        symlink(&good, inner.join("alias")).unwrap();
        symlink("/bin/sh", inner.join("sh")).unwrap();

        for named in ["check", "alias", good.to_str().unwrap()] {
            assert_eq!(find_executable(&inner, named).unwrap(), good, "{named}");
        }
        for named in [
            "",
            ".",
            "..",
            "none",
            "deep",
            "deep/below",
            "../evil",
            "./check",
            "link",
            "sh",
            "shared",
            "plain",
            "/bin/sh",
            outside.to_str().unwrap(),
            inner.join("../evil").to_str().unwrap(),
        ] {
            assert!(find_executable(&inner, named).is_err(), "{named}");
        }
    }
}
