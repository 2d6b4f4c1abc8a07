//! Which server is called, and with which credential: the argument, then the environment, then the context.
//!
//! Invariants
//! - the credential of a context belongs to the endpoint of this context;
//! - a context that is given by name comes before the environment.

use std::path::PathBuf;

use http::Uri;

use super::super::CliError;
use super::store::{Context, Credential, Store};
use super::{ConnectArgs, ServerArgs};
use crate::net::loopback::is_loopback_host;
use crate::secret::Secret;

/// The server of `shoreguard dev`.
pub(in crate::cli) const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:8443";

/// Variables of the environment. An empty one is the same as none.
#[derive(Debug, Default)]
pub(in crate::cli) struct Environment {
    /// `SHOREGUARD_ENDPOINT`.
    pub(in crate::cli) endpoint: Option<String>,
    /// `SHOREGUARD_KEY`.
    pub(in crate::cli) key: Option<Secret>,
}

impl Environment {
    /// Reads the variables.
    pub(in crate::cli) fn read() -> Result<Self, CliError> {
        let read = |name: &str| -> Result<Option<String>, CliError> {
            let Some(value) = std::env::var_os(name) else { return Ok(None) };
            // The value is not shown, since it can be a key.
            let text = value.into_string().map_err(|_| {
                CliError::Usage(format!("the variable `{name}` of the environment is not UTF-8"))
            })?;
            Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
        };
        let key = read("SHOREGUARD_KEY")?.map(Secret::from);
        Ok(Self { endpoint: read("SHOREGUARD_ENDPOINT")?, key })
    }
}

/// The address of a server.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Place {
    /// The URL.
    pub(in crate::cli) uri: Uri,
    /// Whether the connection uses TLS.
    pub(in crate::cli) is_tls: bool,
    host: String,
    port: u16,
}

impl Place {
    /// Parses the URL of a server.
    pub(in crate::cli) fn parse(endpoint: &str) -> Result<Self, CliError> {
        let wrong = |why: &str| Err(CliError::Usage(format!("endpoint `{endpoint}` {why}")));
        // A password in the URL is not repeated.
        if endpoint.contains('@') {
            let why = "the endpoint must not contain a user or a password";
            return Err(CliError::Usage(why.to_owned()));
        }
        let uri: Uri = match endpoint.parse() {
            Ok(uri) => uri,
            Err(error) => return wrong(&format!("is not a valid URL: {error}")),
        };
        let (is_tls, default_port) = match uri.scheme_str() {
            Some("https") => (true, 443),
            Some("http") => (false, 80),
            _ => return wrong("must begin with `https://` or `http://`"),
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return wrong("must not contain a path or a query");
        }
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        if host.is_empty() {
            return wrong("must contain a host");
        }
        // A port that is not one is no part of the parsed URL, which would have the default one in its place.
        let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let has_port = authority.get(host.len()..).is_some_and(|port| port.len() > 1);
        if has_port && uri.port_u16().unwrap_or_default() == 0 {
            return wrong("must have a port from 1 to 65535");
        }
        let port = uri.port_u16().unwrap_or(default_port);
        Ok(Self { uri, is_tls, host, port })
    }

    /// Whether the server is on this host.
    pub(in crate::cli) fn is_loopback(&self) -> bool {
        is_loopback_host(&self.host)
    }

    /// Returns the host, in lower case.
    pub(in crate::cli) fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port.
    pub(in crate::cli) fn port(&self) -> u16 {
        self.port
    }
}

// The URLs of one server can differ in case and in a port that is the default.
impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        (self.is_tls, &self.host, self.port) == (other.is_tls, &other.host, other.port)
    }
}

impl Eq for Place {}

/// The server of a call, and the credential.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) place: Place,
    pub(super) ca: Option<PathBuf>,
    pub(super) credential: Option<Credential>,
    /// The context of the server, if it has one.
    pub(super) context: Option<Context>,
}

impl Target {
    /// Determines the server and the credential.
    pub(super) fn resolve(
        args: &ConnectArgs,
        environment: &Environment,
        store: &Store,
    ) -> Result<Self, CliError> {
        let server = &args.server;
        let environment = if server.context.is_some() { None } else { Some(environment) };
        let endpoint = server.endpoint.as_ref().or(environment.and_then(|of| of.endpoint.as_ref()));
        let key = args.key.as_ref().or(environment.and_then(|of| of.key.as_ref()));
        let given = (endpoint.is_some(), key.is_some());
        let context = find_context(server, given, store)?;
        let stored = context.as_ref().map(|context| &context.endpoint);
        let place = Place::parse(endpoint.or(stored).map_or(DEFAULT_ENDPOINT, String::as_str))?;
        let is_of_place = |of: &Context| Place::parse(&of.endpoint).is_ok_and(|of| of == place);
        let context = context.filter(is_of_place);
        let credential = match (key, &context) {
            (Some(key), _) => {
                let key = key.expose().trim();
                Some(Credential::Key(Secret::new(key))).filter(|_| !key.is_empty())
            }
            (None, Some(context)) => store.credential(context)?,
            (None, None) => None,
        };
        if server.ca.is_some() && !place.is_tls {
            let why = format!("`--ca` requires an endpoint with `https://`, not `{}`", place.uri);
            return Err(CliError::Usage(why));
        }
        let ca = server.ca.clone().or(context.as_ref().and_then(|of| of.ca.clone()));
        let target = Self { place, ca, credential, context };
        if target.credential.is_some() {
            require_private(&target.place, server.allow_plaintext)?;
        }
        Ok(target)
    }
}

/// Refuses to send a credential without TLS over a network.
pub(super) fn require_private(place: &Place, allow_plaintext: bool) -> Result<(), CliError> {
    if place.is_tls || allow_plaintext || place.is_loopback() {
        return Ok(());
    }
    Err(CliError::Usage(format!(
        "the credential would be sent to `{}` without TLS: use https, or `--allow-plaintext`",
        place.uri
    )))
}

/// Returns the context that is given by name, or the current one. `given` says whether endpoint and key are. Without
/// both, and if no context is current although some exist, it is not known which server is meant.
fn find_context(
    server: &ServerArgs,
    given: (bool, bool),
    store: &Store,
) -> Result<Option<Context>, CliError> {
    let contexts = store.contexts();
    if let Some(name) = &server.context {
        return Ok(Some(contexts?.require(name)?));
    }
    // A file that is not valid does not matter if everything is given.
    if given == (true, true) {
        return Ok(contexts.and_then(|all| all.current()).unwrap_or_default());
    }
    let contexts = contexts?;
    let current = contexts.current()?;
    if current.is_none() && given == (false, false) && !contexts.names().is_empty() {
        let why =
            "no context is current: use `shoreguard context use NAME`, `--context` or `--endpoint`";
        return Err(CliError::Usage(why.to_owned()));
    }
    Ok(current)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    async fn store(folder: &Path) -> Store {
        let store = Store::at(folder);
        let lock = store.lock(None).await.unwrap();
        let mut contexts = lock.contexts().unwrap();
        for (name, endpoint) in [("prod", "https://prod.example"), ("test", "https://test.example")]
        {
            let context = Context {
                name: name.to_owned(),
                endpoint: endpoint.to_owned(),
                ca: None,
                gateway: Some(format!("{name}-eu")),
            };
            contexts.put(&context);
            let key = Credential::Key(Secret::new(format!("sg_{name}")));
            lock.begin_credentials().unwrap().put(&context, &key).unwrap();
        }
        contexts.set_current("prod");
        lock.write_contexts(&contexts).unwrap();
        drop(lock);
        store
    }

    fn args(context: &str, endpoint: &str, key: Option<&str>) -> ConnectArgs {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let (context, endpoint) = (some(context), some(endpoint));
        let server = ServerArgs { context, endpoint, ..ServerArgs::default() };
        ConnectArgs { server, key: key.map(Secret::from) }
    }

    fn environment(endpoint: &str, key: &str) -> Environment {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Environment { endpoint: some(endpoint), key: some(key).map(Secret::from) }
    }

    /// Returns the host and the key.
    fn found(target: &Target) -> (String, String) {
        let key = match &target.credential {
            Some(Credential::Key(key)) => key.expose().to_owned(),
            Some(Credential::Session(_)) => "session".to_owned(),
            None => String::new(),
        };
        (target.place.host().to_owned(), key)
    }

    #[tokio::test]
    async fn the_argument_precedes_the_environment_and_the_context() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path()).await;
        let (none, all) = (environment("", ""), environment("https://env.example", "sg_env"));
        for (args, environment, host, key) in [
            (args("", "", None), &none, "prod.example", "sg_prod"),
            (args("test", "", None), &none, "test.example", "sg_test"),
            (args("test", "", None), &all, "test.example", "sg_test"),
            (args("", "", None), &all, "env.example", "sg_env"),
            (args("", "https://arg.example", Some("sg_arg")), &all, "arg.example", "sg_arg"),
            (args("", "", Some("sg_arg")), &none, "prod.example", "sg_arg"),
            (args("", "", Some("")), &all, "env.example", ""),
        ] {
            let target = Target::resolve(&args, environment, &store).unwrap();
            assert_eq!(found(&target), (host.to_owned(), key.to_owned()), "{args:?}");
        }
    }

    #[tokio::test]
    async fn the_credential_of_a_context_is_not_for_another_endpoint() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path()).await;
        let none = environment("", "");
        for (given, key) in [
            ("https://other.example", ""),
            ("https://prod.example:8443", ""),
            ("https://test.example", ""),
            ("https://PROD.example:443/", "sg_prod"),
        ] {
            let target = Target::resolve(&args("", given, None), &none, &store).unwrap();
            assert_eq!(found(&target).1, key, "{given}");
            assert_eq!(target.context.is_some(), !key.is_empty(), "{given}");
            let by_variable = environment(given, "");
            let target = Target::resolve(&args("", "", None), &by_variable, &store).unwrap();
            assert_eq!(found(&target).1, key, "{given}");
            let target = Target::resolve(&args("prod", given, None), &none, &store).unwrap();
            assert_eq!(found(&target).1, key, "{given}");
        }
        let plain = Target::resolve(&args("", "http://prod.example", None), &none, &store);
        assert_eq!(found(&plain.unwrap()).1, "");
    }

    #[test]
    fn without_anything_the_server_is_on_this_host() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        let target = Target::resolve(&args("", "", None), &Environment::default(), &store).unwrap();
        assert_eq!(target.place, Place::parse(DEFAULT_ENDPOINT).unwrap());
        assert!(target.credential.is_none());
        let unknown = Target::resolve(&args("x", "", None), &Environment::default(), &store);
        assert!(unknown.unwrap_err().to_string().contains("`x` does not exist"));
    }

    #[test]
    fn a_credential_is_not_sent_without_tls_over_a_network() {
        for (endpoint, is_private) in [
            ("http://127.0.0.1:8443", true),
            ("http://[::1]:8443", true),
            ("http://localhost:8443", true),
            ("http://localhost.example:8443", false),
            ("http://10.0.0.1:8443", false),
            ("https://10.0.0.1:8443", true),
        ] {
            let place = Place::parse(endpoint).unwrap();
            assert_eq!(require_private(&place, false).is_ok(), is_private, "{endpoint}");
            assert!(require_private(&place, true).is_ok());
        }
    }

    #[test]
    fn an_endpoint_is_a_plain_url() {
        for endpoint in [
            "",
            "sg.example",
            "ftp://sg.example",
            "https://",
            "https://sg.example/api",
            "https://sg.example?a",
            "https://sg.example:99999",
            "http://[::1]:65536",
            "http://127.0.0.1:0",
        ] {
            assert!(Place::parse(endpoint).is_err(), "{endpoint}");
        }
        for (endpoint, port) in
            [("http://[::1]", 80), ("http://[::1]:65535", 65_535), ("https://sg.example", 443)]
        {
            assert_eq!(Place::parse(endpoint).unwrap().port(), port, "{endpoint}");
        }
        let why = Place::parse("https://ana:hunter2@sg.example").unwrap_err().to_string();
        assert!(!why.contains("hunter2"), "{why}");
    }
}
