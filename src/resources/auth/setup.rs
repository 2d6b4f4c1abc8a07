//! The setup token, which authorizes creating the first admin once.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::store;
use crate::app::App;
use crate::error::{Error, Reason};
use crate::private_files;
use crate::resources::users;
use crate::seal::{fill_random, hex};
use crate::secret::Secret;

const FILE: &str = "setup-token";
const TOKEN_BYTES: usize = 32;

/// Returns the SHA-256 of a token, in hexadecimal digits.
#[must_use]
pub fn hash_token(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

/// Returns the path of the file with the token.
#[must_use]
pub fn token_file(app: &App) -> PathBuf {
    app.config.server.data_dir.join(FILE)
}

/// Creates a setup token if there is no user yet, replacing the previous one, and writes it to a file with mode 0600.
pub async fn ensure_token(app: &App) -> Result<Option<Secret>, Error> {
    let mut bytes = [0; TOKEN_BYTES];
    fill_random(&mut bytes)?;
    let token = URL_SAFE_NO_PAD.encode(bytes);
    let (hash, now) = (hash_token(&token), app.clock.now());
    let offered = app
        .db
        .transaction(async |conn| {
            if users::store::has_any(conn).await? {
                return Ok(false);
            }
            store::put_setup_token(conn, &hash, now).await?;
            Ok(true)
        })
        .await?;
    if !offered {
        return Ok(None);
    }
    let path = token_file(app);
    write(&path, &token).map_err(|error| {
        let why = format!("`{}` cannot be written: {error}", path.display());
        Error::unavailable(Reason::StorageUnavailable, why)
    })?;
    Ok(Some(Secret::new(token)))
}

fn write(path: &Path, token: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // Removed first: an existing file may be readable by other users or open in another process.
    let _ = std::fs::remove_file(path);
    writeln!(private_files::create(path)?, "{token}")
}
