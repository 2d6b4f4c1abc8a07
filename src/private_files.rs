//! Files that only their owner can read, such as keys, databases and credentials.
//!
//! Invariants
//! - a file has mode 0600 from its creation on, so that no other user can open it before its mode is set;
//! - a new file never replaces another, and is not created through a symbolic link;
//! - a draft gets its final name only after its content is on the disk, so that a crash leaves a complete file or none.
//!
//! Not here: who may read an existing file. Each reader decides that.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Access of the owner only.
const MODE: u32 = 0o600;

/// Creates a file. It is an error if the path exists, also as a symbolic link.
pub fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)
}

/// Opens a file for reading and writing, and creates an empty one if it does not exist. An existing file keeps its
/// content and its mode.
pub fn open_or_create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(MODE).open(path)
}

/// Stores the names in the folder of a file on the disk: otherwise a power loss could undo the creation or the renaming
/// of the file.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// A new file that gets its final name when it is complete. It is removed if it does not get that name.
#[derive(Debug)]
pub struct Draft {
    file: File,
    path: PathBuf,
    target: PathBuf,
    is_renamed: bool,
}

impl Draft {
    /// Creates a draft, which must be in the folder of its target. It is an error if the draft exists.
    pub fn create(path: &Path, target: &Path) -> io::Result<Self> {
        let file = create(path)?;
        Ok(Self { file, path: path.to_owned(), target: target.to_owned(), is_renamed: false })
    }

    /// Puts the draft in the place of its target. The name is stored by [`sync_folder_of`]: a caller decides whether a
    /// folder that cannot be stored is an error, since the new file is already in place.
    pub fn replace(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, &self.target)?;
        self.is_renamed = true;
        Ok(())
    }

    /// Gives the draft the name of its target, which must not exist: `AlreadyExists` otherwise, even if another process
    /// has created it meanwhile. The name is stored by [`sync_folder_of`].
    pub fn publish(self) -> io::Result<()> {
        self.file.sync_all()?;
        // Unlike a rename, a link never replaces a file. The name of the draft is removed in either case.
        fs::hard_link(&self.path, &self.target)
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_renamed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn draft(folder: &Path, content: &str) -> Draft {
        let mut draft = Draft::create(&folder.join("draft"), &folder.join("file")).unwrap();
        draft.write_all(content.as_bytes()).unwrap();
        draft
    }

    #[test]
    fn a_new_file_is_private_and_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("file"), folder.path().join("link"));
        create(&path).unwrap().write_all(b"first").unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(create(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        symlink(folder.path().join("elsewhere"), &link).unwrap();
        assert_eq!(create(&link).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no file behind the link");
    }

    #[test]
    fn an_existing_file_is_opened_with_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        open_or_create(&path).unwrap().write_all(b"first").unwrap();
        assert_eq!(mode(&path), 0o600);
        drop(open_or_create(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
    }

    #[test]
    fn a_draft_replaces_a_file_as_a_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        draft(folder.path(), "first").replace().unwrap();
        drop(draft(folder.path(), "dropped"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        draft(folder.path(), "second").replace().unwrap();
        sync_folder_of(&path).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path)), ("second", 0o600));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_published_draft_never_replaces_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        draft(folder.path(), "first").publish().unwrap();
        let error = draft(folder.path(), "second").publish().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path)), ("first", 0o600));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn the_folder_of_a_bare_name_is_the_working_directory() {
        sync_folder_of(Path::new("file")).unwrap();
        assert!(sync_folder_of(Path::new("/does/not/exist/file")).is_err());
    }
}
