//! The master keys: how they are loaded, and the keys that are derived from them.
//!
//! Invariants
//! - the id of a key is derived from the key, so a key has the same id on every replica, and the id reveals nothing
//!   about it;
//! - a key file that others than its owner can read is refused;
//! - two processes that start together agree on one key file.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use ring::{hkdf, hmac};
use zeroize::Zeroizing;

use super::{KEY_BYTES, SealKey, TagKey, decode_hex, fill_random};
use crate::error::{Error, Reason};
use crate::private_files::{self, Draft};
use crate::secret::Secret;

/// More than any key rotation needs.
const KEYS_MAX: usize = 16;
const KEY_FILE_BYTES_MAX: u64 = 4 * 1024;
const FIELD: &str = "master_key";

/// The current master key, and older keys that can only open the values sealed with them.
pub struct MasterKeys {
    /// Never empty; the first is current.
    keys: Vec<MasterKey>,
}

pub(super) struct MasterKey {
    id: String,
    root: hkdf::Prk,
    sealing: SealKey,
}

impl MasterKey {
    fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"shoreguard master key").extract(bytes);
        let id = super::hex(&derive(&root, "key id")[..8]);
        let sealing = SealKey::from_bytes(&derive(&root, "seal"));
        Self { id, root, sealing }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn sealing(&self) -> &SealKey {
        &self.sealing
    }
}

fn derive(root: &hkdf::Prk, purpose: &str) -> Zeroizing<[u8; KEY_BYTES]> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    root.expand(&[purpose.as_bytes()], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut *key))
        .expect("32 bytes are what HKDF-SHA256 gives");
    key
}

impl MasterKeys {
    /// Parses keys from the configuration: the current key first, older keys after commas, each 32 bytes as 64
    /// hexadecimal digits or in base64.
    ///
    /// # Errors
    /// `Invalid`, without any of the text.
    pub fn parse(text: &Secret) -> Result<Self, Error> {
        let keys = text
            .expose()
            .split(',')
            .map(|key| key_bytes(key.trim()).map(|bytes| MasterKey::new(&bytes)))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| {
                Error::invalid(FIELD, "must be keys of 32 bytes each, in hexadecimal or base64")
            })?;
        if keys.len() > KEYS_MAX {
            return Err(Error::invalid(FIELD, format!("must be at most {KEYS_MAX} keys")));
        }
        Ok(Self { keys })
    }

    /// Reads the key file, or creates one with a new key if it does not exist.
    ///
    /// # Errors
    /// `Unavailable` if the file cannot be read or written, or if others than its owner can read it; `Invalid` if it
    /// contains no valid key.
    pub fn load_or_create(path: &Path) -> Result<Self, Error> {
        if let Some(keys) = Self::load(path)? {
            return Ok(keys);
        }
        create_key_file(path)?;
        // Read back, since another process may have created the file first.
        Self::load(path)?.ok_or_else(|| unusable(path, &io::ErrorKind::NotFound.into()))
    }

    /// Reads the key file. Returns `None` if it does not exist.
    ///
    /// # Errors
    /// As [`Self::load_or_create`].
    pub fn load(path: &Path) -> Result<Option<Self>, Error> {
        match read_key_file(path) {
            Ok(text) => Self::parse(&text).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unusable(path, &error)),
        }
    }

    /// The id of the current key.
    #[must_use]
    pub fn current_id(&self) -> &str {
        self.current().id()
    }

    /// Returns the ids of all keys, the current one first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(MasterKey::id)
    }

    /// The id and the key for digests of requests in the audit log. The digests are keyed so that a reader of the
    /// database cannot test guesses against them.
    #[must_use]
    pub fn digest_key(&self) -> (&str, hmac::Key) {
        let key = self.current();
        (key.id(), digest_key_of(key))
    }

    /// The key for digests that were made with an older master key.
    #[must_use]
    pub fn digest_key_by_id(&self, id: &str) -> Option<hmac::Key> {
        self.by_id(id).map(digest_key_of)
    }

    /// Derives a sealing key for one purpose, such as page tokens; the same on every replica.
    #[must_use]
    pub fn seal_key(&self, purpose: &str) -> SealKey {
        SealKey::from_bytes(&derive(&self.current().root, &format!("seal for {purpose}")))
    }

    /// Derives a key for tags of one purpose; the same on every replica.
    #[must_use]
    pub fn tag_key(&self, purpose: &str) -> TagKey {
        let key = derive(&self.current().root, &format!("tag for {purpose}"));
        TagKey(hmac::Key::new(hmac::HMAC_SHA256, &*key))
    }

    pub(super) fn current(&self) -> &MasterKey {
        self.keys.first().expect("parsing makes at least one key")
    }

    pub(super) fn by_id(&self, id: &str) -> Option<&MasterKey> {
        self.keys.iter().find(|key| key.id == id)
    }
}

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(MasterKey::id)).finish()
    }
}

fn digest_key_of(key: &MasterKey) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &*derive(&key.root, "digest"))
}

fn key_bytes(text: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let bytes = if text.len() == KEY_BYTES * 2 {
        decode_hex(text)?
    } else {
        STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()?
    };
    let bytes = Zeroizing::new(bytes);
    Some(Zeroizing::new(bytes.as_slice().try_into().ok()?))
}

fn read_key_file(path: &Path) -> io::Result<Secret> {
    let file = File::open(path)?;
    if file.metadata()?.mode() & 0o077 != 0 {
        return Err(io::Error::other("other users have access: chmod 600"));
    }
    let mut text = String::new();
    file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(Secret::new(text))
}

fn create_key_file(path: &Path) -> Result<(), Error> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    fill_random(&mut *bytes)?;
    let text = Zeroizing::new(STANDARD.encode(*bytes));
    let mut suffix = [0; 8];
    fill_random(&mut suffix)?;
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{:016x}", u64::from_be_bytes(suffix)));
    publish_key_file(Path::new(&draft), path, &text).map_err(|error| unusable(path, &error))
}

/// Stores the key unless another process has stored one meanwhile, whose file is kept. Its name is stored too: values
/// are sealed with this key next.
fn publish_key_file(draft: &Path, path: &Path, text: &str) -> io::Result<()> {
    let mut draft = Draft::create(draft, path)?;
    draft.write_all(text.as_bytes())?;
    draft.write_all(b"\n")?;
    match draft.publish() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        published => published?,
    }
    private_files::sync_folder_of(path)
}

fn unusable(path: &Path, error: &io::Error) -> Error {
    Error::unavailable(
        Reason::StorageUnavailable,
        format!("the master key file `{}` cannot be used: {error}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_master_key_is_hexadecimal_or_base64() {
        let hex = MasterKeys::parse(&"00".repeat(32).into()).unwrap();
        let base64 = MasterKeys::parse(&STANDARD.encode([0; 32]).into()).unwrap();
        assert_eq!(hex.current_id(), base64.current_id());
        assert_eq!(hex.current_id().len(), 16);
    }

    #[test]
    fn an_invalid_master_key_is_refused_and_not_repeated_in_the_error() {
        for text in
            ["", "secret-text", &"0".repeat(63), &"zz".repeat(32), &format!("{},", "00".repeat(32))]
        {
            let error = MasterKeys::parse(&text.into()).unwrap_err().to_string();
            assert!(!error.contains("secret-text"), "{error}");
        }
    }

    #[test]
    fn keys_derived_for_different_purposes_differ() {
        let keys = MasterKeys::parse(&"00".repeat(32).into()).unwrap();
        let sealed = keys.seal_key("page tokens").seal(b"", b"x").unwrap();
        assert!(keys.seal_key("page tokens").open(b"", &sealed).is_some());
        assert!(keys.seal_key("sessions").open(b"", &sealed).is_none());
        let (id, _) = keys.digest_key();
        assert!(keys.digest_key_by_id(id).is_some());
        assert_eq!(keys.ids().collect::<Vec<_>>(), [id]);
        assert!(keys.digest_key_by_id("other").is_none());
        let tag = |purpose| keys.tag_key(purpose).tag(&[b"x"]);
        assert_eq!(tag("a"), tag("a"));
        assert_ne!(tag("a"), tag("b"));
    }

    #[test]
    fn a_key_file_is_created_once_and_readable_only_by_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let made = MasterKeys::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
        let read = MasterKeys::load_or_create(&path).unwrap();
        assert_eq!(made.current_id(), read.current_id());
    }

    #[test]
    fn a_key_file_that_other_users_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        MasterKeys::load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = MasterKeys::load_or_create(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn an_empty_key_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        private_files::create(&path).unwrap();
        assert!(MasterKeys::load_or_create(&path).is_err());
    }
}
