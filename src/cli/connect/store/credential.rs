//! A credential, and its form in `credentials.toml`.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use toml::value::Datetime;
use toml::{Table, Value};

use crate::clock::{Clock, Timestamp};
use crate::secret::Secret;

/// A session token is replaced this long before it expires.
pub(in crate::cli) const EARLY: Duration = Duration::from_mins(1);

/// Proof of a caller's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Credential {
    /// An API key, or another token that is not refreshed.
    Key(Secret),
    /// The session of a user.
    Session(Session),
}

/// The tokens of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Session {
    /// Sent with calls.
    pub(in crate::cli) token: Secret,
    /// When the session token expires.
    pub(in crate::cli) expire_time: Timestamp,
    /// Replaces both tokens, once. Empty if the session cannot be refreshed.
    pub(in crate::cli) refresh_token: Secret,
    /// When the session ends.
    pub(in crate::cli) refresh_expire_time: Option<Timestamp>,
}

impl Session {
    /// Returns the session of a response.
    pub(in crate::cli) fn from_response(
        session_token: String,
        expire_time: Option<prost_types::Timestamp>,
        refresh_token: String,
        refresh_expire_time: Option<prost_types::Timestamp>,
    ) -> Self {
        let seconds = |time: prost_types::Timestamp| Timestamp::from_unix_seconds(time.seconds);
        Self {
            token: Secret::new(session_token),
            expire_time: expire_time.map_or(Timestamp::EPOCH, seconds),
            refresh_token: Secret::new(refresh_token),
            refresh_expire_time: refresh_expire_time.map(seconds),
        }
    }

    /// Whether the session token must be replaced before the next call.
    pub(in crate::cli) fn is_due(&self) -> bool {
        let has_refresh = !self.refresh_token.expose().is_empty();
        has_refresh && Clock::system().now().plus(EARLY) >= self.expire_time
    }
}

/// Reads the table of a context. Returns `None` if it has no credential. The error names the field.
pub(super) fn from_table(table: &Table) -> Result<Option<Credential>, String> {
    let text = |name: &str| match table.get(name) {
        None => Ok(None),
        Some(value) => {
            let text = value.as_str().ok_or_else(|| format!("`{name}` must be a text"))?;
            Ok::<_, String>(Some(text).filter(|text| !text.is_empty()))
        }
    };
    if let Some(token) = text("session_token")? {
        let missing = || "`expire_time` is missing".to_owned();
        return Ok(Some(Credential::Session(Session {
            token: Secret::new(token),
            expire_time: time(table, "expire_time")?.ok_or_else(missing)?,
            refresh_token: Secret::new(text("refresh_token")?.unwrap_or_default()),
            refresh_expire_time: time(table, "refresh_expire_time")?,
        })));
    }
    Ok(text("key")?.map(|key| Credential::Key(Secret::new(key))))
}

fn time(table: &Table, name: &str) -> Result<Option<Timestamp>, String> {
    let Some(value) = table.get(name) else { return Ok(None) };
    let text = value.as_datetime().map(Datetime::to_string);
    let read = text.and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok());
    let time = read.ok_or_else(|| format!("`{name}` must be a time with a time zone"))?;
    Ok(Some(time.into()))
}

/// Returns the table of a context.
pub(super) fn to_table(credential: &Credential) -> Table {
    let mut table = Table::new();
    let mut put = |name: &str, value: Value| {
        table.insert(name.to_owned(), value);
    };
    let text = |secret: &Secret| Value::String(secret.expose().to_owned());
    match credential {
        Credential::Key(key) => put("key", text(key)),
        Credential::Session(session) => {
            put("session_token", text(&session.token));
            put("refresh_token", text(&session.refresh_token));
            put("expire_time", datetime(session.expire_time));
            if let Some(end) = session.refresh_expire_time {
                put("refresh_expire_time", datetime(end));
            }
        }
    }
    table
}

fn datetime(at: Timestamp) -> Value {
    let text = at.to_offset().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default();
    let time = text.parse().map(Value::Datetime);
    // A time outside the years of TOML is not written as a time, and is refused when it is read.
    time.unwrap_or(Value::String(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session {
            token: Secret::new("sgs_1"),
            expire_time: Timestamp::from_unix_seconds(1_796_040_900),
            refresh_token: Secret::new("sgr_1"),
            refresh_expire_time: Some(Timestamp::from_unix_seconds(1_798_632_000)),
        }
    }

    #[test]
    fn a_credential_is_read_as_it_was_written() {
        for credential in [Credential::Key(Secret::new("sg_1")), Credential::Session(session())] {
            let text = to_table(&credential).to_string();
            let table: Table = text.parse().unwrap();
            assert_eq!(from_table(&table).unwrap(), Some(credential));
        }
    }

    #[test]
    fn the_forms_of_the_sdks_are_read() {
        for time in
            ["2026-11-30T12:15:00+00:00", "2026-11-30T12:15:00.000Z", "2026-11-30T13:15:00+01:00"]
        {
            let text =
                format!("session_token = \"a\"\nexpire_time = {time}\nrefresh_token = \"b\"\n");
            let Some(Credential::Session(read)) = from_table(&text.parse().unwrap()).unwrap()
            else {
                panic!("{text}")
            };
            assert_eq!(read.expire_time, session().expire_time, "{time}");
        }
        assert_eq!(from_table(&"key = \"\"".parse().unwrap()), Ok(None));
        assert_eq!(from_table(&Table::new()), Ok(None));
    }

    #[test]
    fn a_wrong_field_is_named() {
        for (text, why) in [
            ("key = 1", "`key` must be a text"),
            ("session_token = \"a\"", "`expire_time` is missing"),
            ("session_token = \"a\"\nexpire_time = 2026-11-30T12:15:00", "with a time zone"),
            ("session_token = \"a\"\nexpire_time = \"soon\"", "with a time zone"),
        ] {
            let refused = from_table(&text.parse().unwrap()).unwrap_err();
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }

    #[test]
    fn a_session_is_due_a_minute_before_its_token_expires() {
        let now = Clock::system().now();
        let until = |expire_time| Session { expire_time, ..session() };
        assert!(until(now).is_due());
        assert!(until(now.plus(EARLY)).is_due());
        assert!(!until(now.plus(EARLY * 2)).is_due());
        let unrefreshable = Session { refresh_token: Secret::new(""), ..until(now) };
        assert!(!unrefreshable.is_due());
    }
}
