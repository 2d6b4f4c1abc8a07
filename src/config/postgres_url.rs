//! URLs of PostgreSQL: every option is used, or refused with its name.
//!
//! Invariants
//! - an error can name an option, but repeats no value, since a URL contains a password;
//! - whenever TLS is used, the certificate and the host name are verified: `sslmode` only decides whether it is used;
//! - the timeouts of connections and the choice of the primary are Shoreguard's own, not those of a URL.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use crate::net::loopback::{is_loopback, is_loopback_host};

/// Options that are used as they are, in the syntax of libpq.
const KNOWN: [&str; 10] = [
    "application_name",
    "channel_binding",
    "dbname",
    "host",
    "hostaddr",
    "load_balance_hosts",
    "options",
    "password",
    "port",
    "user",
];
/// Options of libpq whose values Shoreguard sets itself.
const OWN: [&str; 6] = [
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "tcp_user_timeout",
];
/// Maximum length of the name of an option in an error, in characters.
const NAME_CHARACTERS_MAX: usize = 40;

/// A parsed URL.
#[derive(Debug, Clone)]
pub struct PostgresUrl {
    /// Host, user, database and whether TLS is used.
    pub config: tokio_postgres::Config,
    /// PEM file of the CAs that are trusted; `None` means the CAs of the system.
    pub ca_path: Option<PathBuf>,
}

impl PostgresUrl {
    /// Parses `postgres://user:password@host:port/name?option=value`. `ca_path` is the file of
    /// `database.tls_ca_path`.
    ///
    /// Without `sslmode`, connections to loopback or a socket do not use TLS unless a CA is set; all others do.
    ///
    /// # Errors
    /// A sentence without a subject. It names the option, but no value.
    pub fn parse(url: &str, ca_path: Option<&Path>) -> Result<Self, String> {
        let (base, options) = split_options(url);
        let (mut kept, mut mode, mut url_ca) = (Vec::new(), None, None);
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option
                .split_once('=')
                .ok_or("has an option without a value: write `name=value`")?;
            let (name, value) = (decode(name)?, decode(value)?);
            match &*name {
                "sslmode" => mode = Some(ssl_mode(&value)?),
                // As in libpq, the CAs of the system.
                "sslrootcert" if value == "system" => {}
                "sslrootcert" => url_ca = Some(PathBuf::from(&*value)),
                "target_session_attrs" => check_session(&value)?,
                name if KNOWN.contains(&name) => kept.push(option),
                name => return Err(refuse_option(name)),
            }
        }
        if url_ca.is_some() && ca_path.is_some() {
            return Err(
                "has `sslrootcert` beside `database.tls_ca_path`: set one of them".to_owned()
            );
        }
        let ca_path = url_ca.or_else(|| ca_path.map(Path::to_owned));
        let config = parse_config(base, &kept)?;
        Self::with_tls(config, mode, ca_path)
    }

    fn with_tls(
        mut config: tokio_postgres::Config,
        mode: Option<SslMode>,
        ca_path: Option<PathBuf>,
    ) -> Result<Self, String> {
        let mode = match mode {
            // PostgreSQL has no TLS on sockets, and libpq ignores `sslmode` there.
            _ if is_socket(&config) => SslMode::Disable,
            Some(SslMode::Disable) if ca_path.is_some() => {
                return Err("has `sslmode=disable`, but a CA is set: use `sslmode=verify-full`, or remove the CA"
                    .to_owned());
            }
            Some(mode) => mode,
            None if is_local(&config) && ca_path.is_none() => SslMode::Disable,
            None => SslMode::Require,
        };
        // Each connection is checked when it is opened. If the URL names several hosts, the primary is found this way.
        config.ssl_mode(mode).target_session_attrs(TargetSessionAttrs::ReadWrite);
        Ok(Self { config, ca_path })
    }
}

/// Splits at the `?` before the options, where tokio-postgres does it: after the first `@`.
fn split_options(url: &str) -> (&str, &str) {
    let authority = url.find('@').map_or(0, |at| at + 1);
    match url[authority..].find('?') {
        None => (url, ""),
        Some(at) => (&url[..authority + at], &url[authority + at + 1..]),
    }
}

fn decode(text: &str) -> Result<Cow<'_, str>, String> {
    percent_decode_str(text).decode_utf8().map_err(|_| "has an option that is not UTF-8".to_owned())
}

fn parse_config(base: &str, options: &[&str]) -> Result<tokio_postgres::Config, String> {
    let mut text = base.to_owned();
    if !options.is_empty() {
        text.push('?');
        text.push_str(&options.join("&"));
    }
    let config: tokio_postgres::Config = text.parse().map_err(|error: tokio_postgres::Error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        format!("is not a URL of PostgreSQL: {cause}")
    })?;
    let (hosts, addresses) = (config.get_hosts().len(), config.get_hostaddrs().len());
    if hosts == 0 && addresses == 0 {
        return Err("must name a host".to_owned());
    }
    if hosts > 0 && addresses > 0 && hosts != addresses {
        return Err("must have as many hosts as `hostaddr` has addresses".to_owned());
    }
    let ports = config.get_ports().len();
    if ports > 1 && ports != hosts.max(addresses) {
        return Err("must have one port, or as many ports as hosts".to_owned());
    }
    Ok(config)
}

/// Returns whether TLS is used for a value of `sslmode`, which the error names if it is not supported.
fn ssl_mode(value: &str) -> Result<SslMode, String> {
    match value {
        "disable" => Ok(SslMode::Disable),
        "prefer" => Ok(SslMode::Prefer),
        "require" | "verify-full" => Ok(SslMode::Require),
        "verify-ca" => Err("has `sslmode=verify-ca`, which is not supported, since any host with a certificate of the \
                            CA could answer: use `verify-full`, and a certificate with the host's name"
            .to_owned()),
        "allow" => Err("has `sslmode=allow`, which is not supported: use `prefer`, or `disable`".to_owned()),
        _ => Err("has an unknown `sslmode`: it must be disable, prefer, require or verify-full".to_owned()),
    }
}

fn check_session(value: &str) -> Result<(), String> {
    if matches!(value, "any" | "read-write" | "primary") {
        return Ok(());
    }
    Err("has a `target_session_attrs` that is not supported: Shoreguard needs the primary, so remove the option, or \
         use `read-write`"
        .to_owned())
}

fn refuse_option(name: &str) -> String {
    if OWN.contains(&name) {
        return format!("has the option `{name}`, which Shoreguard sets itself: remove it");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let name =
        if name.len() <= NAME_CHARACTERS_MAX && name.chars().all(plain) { name } else { "?" };
    format!(
        "has the option `{name}`, which is not known: use sslmode, sslrootcert, target_session_attrs, {}, or the keys \
         of `[database]`",
        KNOWN.join(", ")
    )
}

fn is_socket(config: &tokio_postgres::Config) -> bool {
    let hosts = config.get_hosts();
    config.get_hostaddrs().is_empty() && hosts.iter().all(|host| !matches!(host, Host::Tcp(_)))
}

/// Returns whether all connections stay on this machine. `hostaddr` replaces the address of `host`.
fn is_local(config: &tokio_postgres::Config) -> bool {
    let mut addresses = config.get_hostaddrs().iter().copied();
    let local_name = |host: &Host| match host {
        Host::Tcp(name) => is_loopback_host(name),
        Host::Unix(_) => true,
    };
    addresses.all(is_loopback) && config.get_hosts().iter().all(local_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<PostgresUrl, String> {
        PostgresUrl::parse(url, None)
    }

    #[test]
    fn tls_is_required_by_default_for_remote_hosts() {
        for (url, mode) in [
            ("postgres://localhost/sg", SslMode::Disable),
            ("postgres://127.0.0.1/sg", SslMode::Disable),
            ("postgres://%2Frun%2Fpostgresql/sg", SslMode::Disable),
            ("postgres://%2Frun%2Fpostgresql/sg?sslmode=verify-full", SslMode::Disable),
            ("postgres://db.example/sg", SslMode::Require),
            ("postgres://localhost,db.example/sg", SslMode::Require),
            ("postgres://localhost/sg?hostaddr=10.0.0.1", SslMode::Require),
            ("postgres://u@/sg?hostaddr=10.0.0.1", SslMode::Require),
            ("postgres://localhost/sg?sslrootcert=ca.pem", SslMode::Require),
        ] {
            assert_eq!(parse(url).unwrap().config.get_ssl_mode(), mode, "{url}");
        }
    }

    #[test]
    fn every_sslmode_is_used_or_refused_by_its_name() {
        let mode = |mode: &str| parse(&format!("postgres://u:p@db.example/sg?sslmode={mode}"));
        for (name, expected) in [
            ("disable", SslMode::Disable),
            ("prefer", SslMode::Prefer),
            ("require", SslMode::Require),
            ("verify-full", SslMode::Require),
            ("verify%2Dfull", SslMode::Require),
        ] {
            assert_eq!(mode(name).unwrap().config.get_ssl_mode(), expected, "{name}");
        }
        for name in ["verify-ca", "allow"] {
            let why = mode(name).unwrap_err();
            assert!(
                why.starts_with(&format!("has `sslmode={name}`, which is not supported")),
                "{why}"
            );
        }
        assert!(mode("on").unwrap_err().contains("unknown `sslmode`"));
        let why = parse("postgres://h/d?sslmode=disable&sslrootcert=ca.pem").unwrap_err();
        assert!(why.contains("a CA is set"), "{why}");
    }

    #[test]
    fn a_ca_is_named_by_the_key_or_by_the_url_but_not_by_both() {
        let (url, key) = ("postgres://h/d?sslrootcert=%2Fetc%2Fca.pem", Path::new("/key.pem"));
        assert_eq!(parse(url).unwrap().ca_path, Some("/etc/ca.pem".into()));
        assert_eq!(parse("postgres://h/d?sslrootcert=system").unwrap().ca_path, None);
        let by_key = PostgresUrl::parse("postgres://h/d", Some(key)).unwrap();
        assert_eq!(by_key.ca_path.as_deref(), Some(key));
        assert!(PostgresUrl::parse(url, Some(key)).unwrap_err().contains("set one of them"));
    }

    #[test]
    fn an_option_that_has_no_effect_is_refused_by_its_name_without_a_value() {
        for (option, part) in [
            ("pgbouncer=hunter2", "`pgbouncer`, which is not known"),
            ("sslcert=hunter2", "`sslcert`, which is not known"),
            ("connect_timeout=10", "`connect_timeout`, which Shoreguard sets itself"),
            ("keepalives=0", "`keepalives`, which Shoreguard sets itself"),
            ("target_session_attrs=read-only", "`target_session_attrs`"),
            ("hunter2%20x=1", "`?`"),
            ("hunter2", "an option without a value"),
            ("port=hunter2", "`port`"),
            ("channel_binding=hunter2", "`channel_binding`"),
        ] {
            let why = parse(&format!("postgres://u:hunter2@h/d?user=u&{option}")).unwrap_err();
            assert!(why.contains(part) && !why.contains("hunter2"), "{option}: {why}");
        }
        for url in ["postgres://", "postgres:///sg", "postgres://h/d?port=1,2", "postgres://a:b:c"]
        {
            assert!(parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn known_options_are_used() {
        let url =
            "postgres://u:a%40b@db.example:6000/sg?application_name=x&target_session_attrs=any";
        let config = parse(url).unwrap().config;
        assert_eq!((config.get_user(), config.get_dbname()), (Some("u"), Some("sg")));
        assert_eq!(config.get_password(), Some("a@b".as_bytes()));
        assert_eq!(config.get_application_name(), Some("x"));
        assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
    }
}
