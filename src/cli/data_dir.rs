//! The folder for files that the server creates. It holds keys, so a new folder is accessible to its owner only.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use super::CliError;

/// Creates the folder if it does not exist.
pub(super) fn create(path: &Path) -> Result<(), CliError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| CliError::Io(format!("`{}` cannot be made: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_new_data_folder_is_private_to_its_owner_and_an_existing_one_is_unchanged() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("a/b");
        create(&path).unwrap();
        create(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert!(create(&outer.path().join("a/b/c").join("\0")).is_err());
    }
}
