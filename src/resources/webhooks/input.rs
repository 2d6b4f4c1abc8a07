//! Parses what callers send: addresses of receivers, limits. A value of these types is valid.

use std::fmt;
use std::net::Ipv6Addr;
use std::time::Duration;

use http::Uri;

use super::channels::Channel;
use crate::error::Error;
use crate::texts::check_text;

/// Maximum length of a URL, in characters.
pub const URL_CHARS_MAX: usize = 2_048;
/// Maximum length of the name of a host, in characters.
pub(super) const HOST_CHARS_MAX: usize = 253;
/// Maximum length of a description, in characters.
pub const DESCRIPTION_CHARS_MAX: usize = 500;
/// Maximum number of gateways that a webhook is limited to.
pub const GATEWAYS_MAX: usize = 50;
/// Maximum number of messages that are sent to one receiver at once.
pub const IN_FLIGHT_MAX: i32 = 64;
/// Number of messages that are sent at once by default.
const IN_FLIGHT_DEFAULT: i32 = 4;
/// Maximum number of messages that are sent per second.
pub const RATE_MAX: i32 = 1_000;
/// Overlap of a rotation by default.
pub const OVERLAP_DEFAULT: Duration = Duration::from_hours(24);
/// Maximum overlap of a rotation.
pub const OVERLAP_MAX: Duration = Duration::from_hours(7 * 24);

/// Address of a receiver by HTTP.
#[derive(Clone, PartialEq, Eq)]
pub struct ReceiverUrl {
    text: String,
    /// Whether it uses TLS.
    pub secure: bool,
    /// Host, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Host and port as in the URL.
    pub authority: String,
    /// Path and query.
    pub path: String,
}

// Without the path, which may be a secret.
impl fmt::Debug for ReceiverUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiverUrl").field("host", &self.host).finish_non_exhaustive()
    }
}

impl ReceiverUrl {
    /// Parses a URL of a request.
    ///
    /// # Errors
    /// `Invalid` if it is longer than 2048 characters, is not `http` or `https`, or has a user, a fragment, no host or
    /// an invalid one.
    pub fn parse(field: &str, text: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::invalid(field, why);
        let text = text.trim();
        if text.chars().count() > URL_CHARS_MAX {
            return Err(bad(&format!("must have at most {URL_CHARS_MAX} characters")));
        }
        if text.contains('#') {
            return Err(bad("must not have a fragment"));
        }
        let uri: Uri = text.parse().map_err(|_| bad("is not a valid URL"))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err(bad("must begin with `https://` or `http://`")),
        };
        let authority = uri.authority().ok_or_else(|| bad("must have a host"))?;
        // A name before an `@` looks like the host but is a user.
        if authority.as_str().contains('@') {
            return Err(bad("must not have a user"));
        }
        let written = authority.host();
        if written.is_empty() {
            return Err(bad("must have a host"));
        }
        let literal = written.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        // An address with a zone names an interface of this host.
        let is_valid = match literal {
            Some(literal) => literal.parse::<Ipv6Addr>().is_ok(),
            None => is_host_name(written),
        };
        if !is_valid {
            let why = format!(
                "must have a host name of at most {HOST_CHARS_MAX} ASCII characters or an address"
            );
            return Err(bad(&why));
        }
        let host = literal.unwrap_or(written).to_owned();
        let after_host = authority.as_str().get(written.len()..).unwrap_or_default();
        let port = match after_host.strip_prefix(':') {
            None if after_host.is_empty() => Some(if secure { 443 } else { 80 }),
            None => None,
            Some(port) => parse_port(port),
        };
        let port = port.ok_or_else(|| bad("must have a port of 1 to 65535"))?;
        // Its `Display` adds the slash that a query directly behind the host lacks. Without it, no request can be made.
        let path = uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        let authority = authority.as_str().to_owned();
        Ok(Self { text: text.to_owned(), secure, host, port, authority, path })
    }

    /// Returns the URL. It is a secret for some channels.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns scheme, host and port.
    #[must_use]
    pub fn origin(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.authority)
    }
}

/// Returns whether a text can be the name of a host, or an IPv4 address. Names in other scripts have their ASCII form.
pub(super) fn is_host_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    (1..=HOST_CHARS_MAX).contains(&text.len()) && text.chars().all(is_part)
}

/// Parses a port of a URL: digits only, without the sign that numbers of Rust can have. `None` if it is invalid or 0.
pub(super) fn parse_port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse::<u16>().ok().filter(|port| is_plain && *port != 0)
}

/// Checks a description.
pub fn description(text: String) -> Result<String, Error> {
    check_text("description", &text, DESCRIPTION_CHARS_MAX, "\n\r\t")?;
    Ok(text)
}

/// Parses the number of messages that are sent at once; 0 is the default.
pub fn max_in_flight(given: i32) -> Result<i32, Error> {
    match given {
        0 => Ok(IN_FLIGHT_DEFAULT),
        1..=IN_FLIGHT_MAX => Ok(given),
        _ => {
            let why = format!("must be 0 to {IN_FLIGHT_MAX}, got {given}");
            Err(Error::invalid("max_in_flight", why))
        }
    }
}

/// Parses the number of messages per second; 0 is the default of the channel.
pub fn rate_per_second(given: i32) -> Result<Option<i32>, Error> {
    match given {
        0 => Ok(None),
        1..=RATE_MAX => Ok(Some(given)),
        _ => {
            let why = format!("must be 0 to {RATE_MAX}, got {given}");
            Err(Error::invalid("rate_per_second", why))
        }
    }
}

/// Returns the number of messages per second that a channel accepts; `None` means no limit.
#[must_use]
pub fn effective_rate(channel: Channel, given: Option<i32>) -> Option<i32> {
    let default = match channel {
        Channel::Slack => Some(1),
        Channel::Discord => Some(2),
        Channel::Generic | Channel::Email => None,
    };
    given.or(default)
}

/// Checks the overlap of a rotation; `None` is the default.
pub fn overlap(given: Option<Duration>) -> Result<Duration, Error> {
    let overlap = given.unwrap_or(OVERLAP_DEFAULT);
    if overlap > OVERLAP_MAX {
        let days = OVERLAP_MAX.as_secs() / (24 * 60 * 60);
        return Err(Error::invalid("overlap", format!("must be at most {days} days")));
    }
    Ok(overlap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_a_receiver_has_a_host_and_no_user() {
        let url = ReceiverUrl::parse("url", " https://example.com/a?b=c ").unwrap();
        assert_eq!((url.secure, url.host.as_str(), url.port), (true, "example.com", 443));
        assert_eq!((url.path.as_str(), url.origin().as_str()), ("/a?b=c", "https://example.com"));
        let url = ReceiverUrl::parse("url", "http://[::1]:8080").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.path.as_str()), ("::1", 8080, "/"));
        let url = ReceiverUrl::parse("url", "https://example.com?b=c").unwrap();
        assert_eq!((url.text(), url.path.as_str()), ("https://example.com?b=c", "/?b=c"));
        let path: Uri = url.path.parse().expect("a request can have it");
        assert_eq!(path.query(), Some("b=c"));
        for bad in [
            "",
            "example.com",
            "/a",
            "ftp://example.com",
            "https://",
            "https://user@example.com",
            "https://user:secret@example.com",
            "https://example.com:0",
            "https://example.com:70000",
            "https://example.com:+443",
            "https://example.com:",
            "https://[fe80::1%25eth0]/",
            "https://[fe80::1%eth0]/",
            "https://[127.0.0.1]/",
            "https://[::1]8080/",
            "https://[example.com]/",
            "https://127.0.0.1%00.example.com/",
            "https://example.com,evil.example/",
            "https://exämple.com/",
            "https://example.com\\@evil.example/",
            "https://example.com/#part",
            "https://exa mple.com",
            "https:///path",
        ] {
            assert!(ReceiverUrl::parse("url", bad).is_err(), "{bad}");
        }
        let long = |chars: usize| format!("https://e.com/{}", "x".repeat(chars - 14));
        assert!(ReceiverUrl::parse("url", &long(URL_CHARS_MAX)).is_ok());
        assert!(ReceiverUrl::parse("url", &long(URL_CHARS_MAX + 1)).is_err());
        let named = |chars: usize| format!("https://{}/", "a".repeat(chars));
        assert!(ReceiverUrl::parse("url", &named(HOST_CHARS_MAX)).is_ok());
        assert!(ReceiverUrl::parse("url", &named(HOST_CHARS_MAX + 1)).is_err());
    }

    #[test]
    fn t20_a_description_of_a_webhook_is_read_as_it_is_stored() {
        assert!(description("two\nlines, \u{e4}".to_owned()).is_ok());
        for bad in ["\u{1b}[2J", "safe \u{202e}live", "a\u{2029}b"] {
            assert!(description(bad.to_owned()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn limits_are_checked_at_the_limit_and_past_it() {
        assert_eq!(max_in_flight(0).unwrap(), 4);
        assert_eq!(max_in_flight(IN_FLIGHT_MAX).unwrap(), IN_FLIGHT_MAX);
        assert!(max_in_flight(IN_FLIGHT_MAX + 1).is_err() && max_in_flight(-1).is_err());
        assert_eq!(rate_per_second(RATE_MAX).unwrap(), Some(RATE_MAX));
        assert!(rate_per_second(RATE_MAX + 1).is_err() && rate_per_second(-1).is_err());
        assert_eq!(overlap(None).unwrap(), OVERLAP_DEFAULT);
        assert_eq!(overlap(Some(Duration::ZERO)).unwrap(), Duration::ZERO);
        assert_eq!(overlap(Some(OVERLAP_MAX)).unwrap(), OVERLAP_MAX);
        assert!(overlap(Some(OVERLAP_MAX + Duration::from_nanos(1))).is_err());
        assert!(description("x".repeat(DESCRIPTION_CHARS_MAX)).is_ok());
        assert!(description("x".repeat(DESCRIPTION_CHARS_MAX + 1)).is_err());
    }
}
