//! The public address of this server.

use http::Uri;

use super::without_brackets;
use crate::error::Error;

/// The address at which callers reach this server.
#[derive(Debug)]
pub struct PublicAddress {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
    /// `http` or `https`.
    pub scheme: String,
}

impl PublicAddress {
    /// Parses the configured URL.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let fault = || Error::invalid("server.public_url", "is not a valid URL");
        let uri: Uri = url.parse().map_err(|_| fault())?;
        let scheme = uri.scheme_str().ok_or_else(fault)?.to_owned();
        let host = uri.host().ok_or_else(fault)?;
        let host = without_brackets(host).to_owned();
        let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        Ok(Self { host, port, scheme })
    }
}
