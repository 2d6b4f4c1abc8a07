//! The YAML files that the configuration names, one by one or by their folder.
//!
//! Invariants
//! - the number of files, the number of entries and the bytes of each file are limited;
//! - only regular files are opened: opening a pipe would wait for a writer.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Maximum number of entries in a folder, including other files.
pub const ENTRIES_MAX: usize = 10_000;

/// Limits of a folder.
#[derive(Debug, Clone, Copy)]
pub struct FolderLimits {
    /// Content of the files, as a plural for messages.
    pub content: &'static str,
    /// Maximum number of YAML files.
    pub files: usize,
    /// Maximum size of a file, in bytes.
    pub file_bytes: usize,
}

/// A YAML file of a folder.
#[derive(Debug)]
pub struct YamlFile {
    /// Name of the file, without the folder.
    pub name: String,
    /// Its text, or why it cannot be read.
    pub text: Result<String, String>,
}

/// Reads the files of a folder whose names end in `.yaml` or `.yml`, sorted by name.
///
/// # Errors
/// Why the folder cannot be read, or which limit it exceeds.
pub fn read_folder(folder: &Path, limits: FolderLimits) -> Result<Vec<YamlFile>, String> {
    let paths = list_files(folder, limits)?.into_iter();
    let read = |path: PathBuf| YamlFile {
        name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        text: read_file(&path, limits.file_bytes),
    };
    Ok(paths.map(read).collect())
}

fn list_files(folder: &Path, limits: FolderLimits) -> Result<Vec<PathBuf>, String> {
    let unreadable = |error| format!("cannot be read: {error}");
    let mut found = Vec::new();
    for (n, entry) in fs::read_dir(folder).map_err(unreadable)?.enumerate() {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|end| end == "yaml" || end == "yml") {
            found.push(path);
        }
        if found.len() > limits.files || n >= ENTRIES_MAX {
            let FolderLimits { content, files, .. } = limits;
            return Err(format!("must hold at most {files} {content}, and {ENTRIES_MAX} files"));
        }
    }
    found.sort();
    Ok(found)
}

/// Returns why a document is not valid YAML, in one line: without the excerpt of the document, which can be long.
#[must_use]
pub fn error_line(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string().replace(char::is_control, " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Reads a regular file of at most `bytes_max` bytes.
///
/// # Errors
/// Why it cannot be read, or which limit it exceeds.
pub fn read_file(path: &Path, bytes_max: usize) -> Result<String, String> {
    let unreadable = |error| format!("cannot be read: {error}");
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let limit = bytes_max as u64 + 1;
    File::open(path)
        .map_err(unreadable)?
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() > bytes_max {
        return Err(format!("must be at most {bytes_max} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
}
