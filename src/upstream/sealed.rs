//! Encrypts the credentials of a gateway, bound to its destination (T04), and decrypts them.

use sha2::{Digest, Sha256};

use super::credentials::Credentials;
use super::row::GatewayRow;
use crate::error::Error;
use crate::seal::{Aad, MasterKeys};
use crate::secret::Secret;

/// Returns the destination to which the secrets of a row are bound (T04): where they are sent, and how the peer is
/// authenticated.
#[must_use]
pub fn destination(row: &GatewayRow) -> String {
    let ca =
        row.ca_cert.as_deref().map(|pem| format!("{:x?}", Sha256::digest(pem))).unwrap_or_default();
    let mode = row.auth_mode();
    let to = format!("{}://{} {mode} {ca}", row.scheme, row.endpoint);
    match &row.oidc_token_url {
        None => to,
        Some(url) => format!("{to} {url}"),
    }
}

fn aad<'a>(column: &'a str, row: &'a str, destination: &'a str) -> Aad<'a> {
    Aad { table: "gateways", column, row, destination }
}

/// Stores credentials in a row, encrypted for its current destination.
pub fn seal_credentials(
    master: &MasterKeys,
    row: &mut GatewayRow,
    credentials: &Credentials,
) -> Result<(), Error> {
    let destination = destination(row);
    let seal = |column: &str, secret: &Option<Secret>| {
        let seal = |secret: &Secret| {
            master.seal(&aad(column, &row.name, &destination), secret.expose().as_bytes())
        };
        secret.as_ref().map(seal).transpose()
    };
    let key = seal("client_key", &credentials.client_key)?;
    let token = seal("bearer_token", &credentials.bearer_token)?;
    let oidc_secret = seal("oidc_client_secret", &credentials.oidc_client_secret)?;
    row.client_cert.clone_from(&credentials.client_cert);
    row.oidc_client_id.clone_from(&credentials.oidc_client_id);
    (row.client_key, row.bearer_token, row.oidc_client_secret) = (key, token, oidc_secret);
    Ok(())
}

/// Decrypts the credentials of a row.
pub fn open_credentials(master: &MasterKeys, row: &GatewayRow) -> Result<Credentials, Error> {
    let destination = destination(row);
    let open = |column: &str, sealed: &Option<Vec<u8>>| {
        let open = |sealed: &Vec<u8>| {
            let opened = master.open(&aad(column, &row.name, &destination), sealed)?;
            let text = std::str::from_utf8(&opened).map_err(Error::internal)?;
            Ok::<_, Error>(Secret::new(text))
        };
        sealed.as_ref().map(open).transpose()
    };
    Ok(Credentials {
        client_cert: row.client_cert.clone(),
        client_key: open("client_key", &row.client_key)?,
        bearer_token: open("bearer_token", &row.bearer_token)?,
        oidc_client_id: row.oidc_client_id.clone(),
        oidc_client_secret: open("oidc_client_secret", &row.oidc_client_secret)?,
    })
}
