//! Settings of mail servers and mails, as callers send them and as they are stored.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::channels::{Smtp, SmtpTls, email};
use super::input::{HOST_CHARS_MAX, URL_CHARS_MAX, is_host_name, parse_port};
use crate::error::Error;
use crate::secret::Secret;

/// Maximum number of recipients of a mail.
pub const RECIPIENTS_MAX: usize = 50;
/// Maximum length of an address of a mail and of the user of a mail server, in characters.
pub const ADDRESS_CHARS_MAX: usize = 254;
/// Maximum length of the password of a mail server, in characters.
pub const PASSWORD_CHARS_MAX: usize = 1_024;
/// Sender of mails by default, as in the previous generation of Shoreguard.
const FROM_DEFAULT: &str = "shoreguard@localhost";

/// How mails are sent, as it is stored. The password is a part of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmailSettings {
    /// Mail server: a host name or an address.
    pub smtp_host: String,
    /// Port.
    pub smtp_port: u16,
    /// When the connection switches to TLS: a word of [`SmtpTls`].
    pub tls: String,
    /// User; empty sends without authentication.
    pub smtp_user: String,
    /// Password; empty if there is no user.
    pub smtp_pass: String,
    /// Sender.
    pub from_addr: String,
    /// Recipients.
    pub to_addrs: Vec<String>,
}

// Without the password and the user.
impl std::fmt::Debug for EmailSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmailSettings").field("smtp_host", &self.smtp_host).finish_non_exhaustive()
    }
}

impl EmailSettings {
    /// Returns whether a password of the other settings may be sent with these: T04, a secret is bound to its
    /// destination.
    #[must_use]
    pub fn has_destination_of(&self, other: &Self) -> bool {
        self.smtp_host.eq_ignore_ascii_case(&other.smtp_host)
            && (self.smtp_port, &self.tls, &self.smtp_user)
                == (other.smtp_port, &other.tls, &other.smtp_user)
    }

    /// Checks the settings. `url` is `smtp://host:port` or empty; it can name the host instead of the settings.
    ///
    /// # Errors
    /// `Invalid` with the field.
    pub fn parse(mut self, url: &str) -> Result<Self, Error> {
        let tls = SmtpTls::from_word(&self.tls)
            .ok_or_else(|| Error::invalid("email.tls", "must be starttls or implicit"))?;
        if let Some((host, port)) = parse_smtp_url(url)? {
            if self.smtp_host.is_empty() {
                self.smtp_host = host;
            } else if !self.smtp_host.eq_ignore_ascii_case(&host) {
                return Err(Error::invalid("url", "must have the host of `email.smtp_host`"));
            }
            match port {
                Some(port) if self.smtp_port == 0 => self.smtp_port = port,
                Some(port) if self.smtp_port != port => {
                    return Err(Error::invalid("url", "must have the port of `email.smtp_port`"));
                }
                Some(_) | None => {}
            }
        }
        if self.smtp_port == 0 {
            self.smtp_port = match tls {
                SmtpTls::Starttls => 587,
                SmtpTls::Implicit => 465,
            };
        }
        check_host("email.smtp_host", &self.smtp_host)?;
        if self.from_addr.is_empty() {
            FROM_DEFAULT.clone_into(&mut self.from_addr);
        }
        check_address("email.from_addr", &self.from_addr)?;
        let count = self.to_addrs.len();
        if !(1..=RECIPIENTS_MAX).contains(&count) {
            let why = format!("must have 1 to {RECIPIENTS_MAX} addresses, got {count}");
            return Err(Error::invalid("email.to_addrs", why));
        }
        for (at, address) in self.to_addrs.iter().enumerate() {
            check_address(&format!("email.to_addrs[{at}]"), address)?;
        }
        let user = &self.smtp_user;
        if user.len() > ADDRESS_CHARS_MAX || !user.bytes().all(|b| b.is_ascii_graphic()) {
            let why = format!("must have at most {ADDRESS_CHARS_MAX} visible ASCII characters");
            return Err(Error::invalid("email.smtp_user", why));
        }
        let pass = &self.smtp_pass;
        if pass.chars().count() > PASSWORD_CHARS_MAX || pass.chars().any(char::is_control) {
            let why = format!(
                "must have at most {PASSWORD_CHARS_MAX} characters, without control characters"
            );
            return Err(Error::invalid("email.smtp_pass", why));
        }
        Ok(self)
    }

    /// Checks that a user has a password and a password a user.
    ///
    /// # Errors
    /// `Invalid` otherwise.
    pub fn check_login(&self) -> Result<(), Error> {
        if self.smtp_user.is_empty() == self.smtp_pass.is_empty() {
            return Ok(());
        }
        let why = "must be given with `email.smtp_user`, again if the mail server changes";
        Err(Error::invalid("email.smtp_pass", why))
    }

    /// Returns the URL of the mail server.
    #[must_use]
    pub fn url(&self) -> String {
        let host = &self.smtp_host;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        format!("smtp://{host}:{}", self.smtp_port)
    }

    /// Returns the settings as the channel uses them.
    #[must_use]
    pub fn to_smtp(&self) -> Smtp {
        let login = || (self.smtp_user.clone(), Secret::new(self.smtp_pass.clone()));
        Smtp {
            host: self.smtp_host.clone(),
            port: self.smtp_port,
            tls: SmtpTls::from_word(&self.tls).unwrap_or(SmtpTls::Starttls),
            login: (!self.smtp_user.is_empty()).then(login),
            from: self.from_addr.clone(),
            to: self.to_addrs.clone(),
        }
    }
}

/// Parses `smtp://host` with an optional port. Returns `None` for an empty text.
fn parse_smtp_url(text: &str) -> Result<Option<(String, Option<u16>)>, Error> {
    let bad = |why: &str| Error::invalid("url", why);
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    if text.chars().count() > URL_CHARS_MAX {
        return Err(bad(&format!("must have at most {URL_CHARS_MAX} characters")));
    }
    let rest = text.strip_prefix("smtp://");
    let rest = rest.ok_or_else(|| bad("must be empty or `smtp://host:port` for channel email"))?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('@') {
        return Err(bad("must not have a user"));
    }
    let (host, port) = match rest.strip_prefix('[') {
        Some(bracketed) => {
            let (host, after) =
                bracketed.split_once(']').ok_or_else(|| bad("is not a valid URL"))?;
            let port = after.strip_prefix(':');
            if port.is_none() && !after.is_empty() {
                return Err(bad("is not a valid URL"));
            }
            (host, port)
        }
        None => match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let port =
        port.map(|port| parse_port(port).ok_or_else(|| bad("must have a port of 1 to 65535")));
    check_host("url", host)?;
    Ok(Some((host.to_owned(), port.transpose()?)))
}

fn check_host(field: &str, host: &str) -> Result<(), Error> {
    if host.is_empty() {
        return Err(Error::invalid(field, "is required"));
    }
    if !(is_host_name(host) || host.parse::<IpAddr>().is_ok()) {
        let why =
            format!("must be a host name or an address of at most {HOST_CHARS_MAX} characters");
        return Err(Error::invalid(field, why));
    }
    Ok(())
}

/// Checks an address of a mail. Without spaces, control characters and angle brackets, it cannot change a header or a
/// command of SMTP.
fn check_address(field: &str, address: &str) -> Result<(), Error> {
    let good = |c: char| c.is_ascii_graphic() && !"<>()[]\\,;:\"".contains(c);
    let parts = address.split_once('@');
    let whole = parts.is_some_and(|(local, domain)| {
        !local.is_empty() && !domain.is_empty() && !domain.contains('@')
    });
    let short = address.len() <= ADDRESS_CHARS_MAX;
    // An address that no mail can have would fail each mail.
    if !(whole && short && address.chars().all(good) && email::is_address(address)) {
        let why = format!(
            "must be an address like `name@example.com` of at most {ADDRESS_CHARS_MAX} characters"
        );
        return Err(Error::invalid(field, why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn email() -> EmailSettings {
        EmailSettings {
            smtp_host: "mail.example.com".to_owned(),
            smtp_port: 0,
            tls: "starttls".to_owned(),
            smtp_user: String::new(),
            smtp_pass: String::new(),
            from_addr: String::new(),
            to_addrs: vec!["a@example.com".to_owned()],
        }
    }

    #[test]
    fn an_smtp_url_names_the_mail_server() {
        let without = || EmailSettings { smtp_host: String::new(), ..email() };
        for (url, host, port) in [
            ("smtp://mail.example.com:2525", "mail.example.com", 2525),
            ("smtp://mail.example.com/", "mail.example.com", 587),
            ("smtp://[2001:db8::1]:25", "2001:db8::1", 25),
        ] {
            let parsed = without().parse(url).unwrap();
            assert_eq!((parsed.smtp_host.as_str(), parsed.smtp_port), (host, port), "{url}");
        }
        for bad in [
            "",
            "https://mail.example.com",
            "smtp://",
            "smtp://u@h:1",
            "smtp://h:0",
            "smtp://h:+25",
            "smtp://h:",
            "smtp://h:1/path",
            "smtp://[::1]25",
            "smtp://[::1",
        ] {
            assert!(without().parse(bad).is_err(), "{bad}");
        }
        assert!(email().parse("smtp://other.example.com").is_err());
        let long = without().parse(&format!("smtp://{}", "x".repeat(URL_CHARS_MAX)));
        let why = long.unwrap_err().to_string();
        assert!(why.contains("`url`") && why.contains("2048"), "{why}");
        let implicit = EmailSettings { tls: "implicit".to_owned(), ..email() };
        assert_eq!(implicit.parse("").unwrap().url(), "smtp://mail.example.com:465");
    }

    #[test]
    fn addresses_of_mails_cannot_change_a_header_or_a_command() {
        for bad in [
            "",
            "a",
            "@b",
            "a@",
            "a@b@c",
            "a b@c",
            "a@b\r\nRCPT TO:<x@y>",
            "<a@b>",
            "a@b,c@d",
            "ä@b",
            "a..b@c",
            ".a@b",
            "a@-b",
            "a@b..c",
        ] {
            let given = EmailSettings { to_addrs: vec![bad.to_owned()], ..email() };
            assert!(given.parse("").is_err(), "{bad}");
        }
        let many = |count| EmailSettings { to_addrs: vec!["a@b".to_owned(); count], ..email() };
        assert!(many(RECIPIENTS_MAX).parse("").is_ok());
        assert!(many(RECIPIENTS_MAX + 1).parse("").is_err() && many(0).parse("").is_err());
    }
}
