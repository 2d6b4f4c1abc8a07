//! Which context a login is for: an existing one, or a new one with the name of the host.

use std::path::{Path, PathBuf};

use super::super::CliError;
use super::super::connect::{
    Context, Contexts, DEFAULT_ENDPOINT, Environment, Place, ServerArgs, check_name,
};

/// Returns the context. It is not stored yet.
pub(super) fn choose(
    server: &ServerArgs,
    environment: &Environment,
    contexts: &Contexts,
) -> Result<Context, CliError> {
    let (given, of_environment) = (server.endpoint.as_deref(), environment.endpoint.as_deref());
    let mut context = match &server.context {
        Some(name) => named(name, given, of_environment, contexts)?,
        None => unnamed(given.or(of_environment), contexts)?,
    };
    if let Some(ca) = &server.ca {
        context.ca = Some(absolute(ca)?);
    }
    Ok(context)
}

/// Refuses a context whose server is another one.
pub(in crate::cli) fn check_same_server(known: &Context, endpoint: &str) -> Result<(), CliError> {
    if Place::parse(&known.endpoint)? == Place::parse(endpoint)? {
        return Ok(());
    }
    Err(CliError::Usage(format!(
        "context `{}` is for `{}`: remove it with `shoreguard context remove {}`, or choose another name",
        known.name, known.endpoint, known.name
    )))
}

/// A known context comes before the environment, and a new one is for the server that the environment names.
fn named(
    name: &str,
    given: Option<&str>,
    of_environment: Option<&str>,
    contexts: &Contexts,
) -> Result<Context, CliError> {
    if let Some(known) = contexts.get(name)? {
        check_same_server(&known, given.unwrap_or(&known.endpoint))?;
        return Ok(known);
    }
    check_name(name)?;
    let Some(endpoint) = given.or(of_environment) else {
        if contexts.names().is_empty() {
            return create(name, DEFAULT_ENDPOINT);
        }
        let why = format!("`--endpoint` is required, since context `{name}` does not exist yet");
        return Err(CliError::Usage(why));
    };
    create(name, endpoint)
}

fn unnamed(endpoint: Option<&str>, contexts: &Contexts) -> Result<Context, CliError> {
    let Some(endpoint) = endpoint else {
        let current = contexts.current()?;
        return current.map_or_else(|| unnamed(Some(DEFAULT_ENDPOINT), contexts), Ok);
    };
    let place = Place::parse(endpoint)?;
    for name in contexts.current_name().into_iter().chain(contexts.names()) {
        let known = contexts.require(name)?;
        if Place::parse(&known.endpoint)? == place {
            return Ok(known);
        }
    }
    create(&free_name(&place, contexts), endpoint)
}

fn create(name: &str, endpoint: &str) -> Result<Context, CliError> {
    Place::parse(endpoint)?;
    let endpoint = endpoint.trim_end_matches('/').to_owned();
    Ok(Context { name: name.to_owned(), endpoint, ca: None, gateway: None })
}

/// Returns the host as a name, with the port or a number if another context has it.
fn free_name(place: &Place, contexts: &Contexts) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let host: String =
        place.host().chars().map(|c| if is_plain(c) { c } else { '-' }).take(48).collect();
    let host = host.trim_matches('-');
    let host = if host.is_empty() { "server" } else { host };
    let names = contexts.names();
    let with_port = format!("{host}-{}", place.port());
    let numbered = (2_u32..).map(|number| format!("{with_port}-{number}"));
    let mut names_to_try = [host.to_owned(), with_port.clone()].into_iter().chain(numbered);
    // The numbers do not end.
    names_to_try.find(|name| !names.contains(&name.as_str())).unwrap_or_default()
}

/// Returns a path that does not depend on the current folder.
pub(in crate::cli) fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    std::path::absolute(path)
        .map_err(|error| CliError::Usage(format!("`{}` is not a path: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contexts() -> Contexts {
        let mut contexts = Contexts::default();
        for (name, endpoint) in [("prod", "https://sg.example"), ("test", "https://test.example")] {
            contexts.put(&create(name, endpoint).unwrap());
        }
        contexts.set_current("prod");
        contexts
    }

    fn choice(name: &str, endpoint: &str, contexts: &Contexts) -> Result<Context, CliError> {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let server =
            ServerArgs { context: some(name), endpoint: some(endpoint), ..ServerArgs::default() };
        choose(&server, &Environment::default(), contexts)
    }

    #[test]
    fn a_login_is_for_the_context_of_the_server_or_a_new_one() {
        let none = Contexts::default();
        for (name, endpoint, contexts, expected) in [
            ("", "", &none, ("127.0.0.1", DEFAULT_ENDPOINT)),
            ("", "", &contexts(), ("prod", "https://sg.example")),
            ("", "https://TEST.example:443/", &contexts(), ("test", "https://test.example")),
            ("", "https://new.example/", &contexts(), ("new.example", "https://new.example")),
            ("test", "", &contexts(), ("test", "https://test.example")),
            ("new", "https://new.example", &contexts(), ("new", "https://new.example")),
            ("new", "", &none, ("new", DEFAULT_ENDPOINT)),
            ("", "http://[::1]:1", &none, ("1", "http://[::1]:1")),
        ] {
            let found = choice(name, endpoint, contexts).unwrap();
            assert_eq!((found.name.as_str(), found.endpoint.as_str()), expected);
        }
    }

    #[test]
    fn a_new_context_is_for_the_server_of_the_environment() {
        let environment =
            Environment { endpoint: Some("https://new.example".to_owned()), key: None };
        for (name, expected) in [("new", "https://new.example"), ("test", "https://test.example")] {
            let server = ServerArgs { context: Some(name.to_owned()), ..ServerArgs::default() };
            let found = choose(&server, &environment, &contexts()).unwrap();
            assert_eq!(found.endpoint, expected);
        }
        let why = choice("new", "", &contexts()).unwrap_err().to_string();
        assert!(why.contains("`--endpoint` is required"), "{why}");
    }

    #[test]
    fn a_context_is_not_used_for_another_server() {
        let why = choice("prod", "https://new.example", &contexts()).unwrap_err().to_string();
        assert!(why.contains("context `prod` is for `https://sg.example`"), "{why}");
        assert!(choice("a b", "https://new.example", &contexts()).is_err());
    }

    #[test]
    fn a_second_server_of_a_host_is_named_with_its_port() {
        let mut contexts = contexts();
        for expected in ["a", "a-1", "a-1-2"] {
            let place = Place::parse("http://a:1").unwrap();
            let name = free_name(&place, &contexts);
            assert_eq!(name, expected);
            contexts.put(&create(&name, "http://b").unwrap());
        }
    }
}
