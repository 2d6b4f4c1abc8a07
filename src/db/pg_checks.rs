//! Checks of a PostgreSQL server at the start, before anything is changed: that its connections are what the queries
//! expect.
//!
//! Invariants
//! - a connection pooler that does not keep one server connection for each client connection is refused: prepared
//!   statements and session settings would be lost, or would apply to another client;
//! - the encoding is UTF-8 on both sides. Isolation level and time zone are set on each connection (`postgres`).

use diesel::{ConnectionError, ConnectionResult};
use tokio_postgres::{Client, SimpleQueryMessage};
use tracing::warn;

use super::postgres::{COMMON_SETTINGS, Connector, RawConnection, cannot_connect};
use crate::error::{Error, error_chain};

/// Rounds of the search for a pooler. One is enough if it reuses the last server connection first, as pgbouncer does
/// by default; the others find a pooler that uses them in turn.
const ROUNDS: usize = 3;
const PROCESS: &str = "SELECT pg_backend_pid()";
const UTF8: &str = "UTF8";

/// Checks the server behind a URL. Returns the two connections that it has checked: to open others would be more work
/// than the checks.
///
/// # Errors
/// `Invalid` if it is unsuitable, `Unavailable` if it does not respond in time or accepts no writes.
pub(super) async fn check_server(connector: &Connector) -> Result<[RawConnection; 2], Error> {
    let opening = async { tokio::try_join!(connector.open_raw(), connector.open_raw()) };
    let (mut one, mut two) =
        connector.within_time(Box::pin(opening)).await.map_err(|error| cannot_connect(&error))?;
    let examined = connector.within_time(Box::pin(examine(&mut one, &mut two))).await;
    let facts = examined.map_err(|error| cannot_connect(&error))?;
    let Some(ServerFacts { encodings, messages }) = facts else {
        let why = "leads to a connection pooler that changes the server connection of a client between transactions, \
                   which loses prepared statements and session settings: use session pooling (`pool_mode = session` \
                   of pgbouncer), or the address of PostgreSQL itself";
        return Err(Error::invalid("database.url", why));
    };
    if let Some(encoding) = encodings.iter().find(|encoding| *encoding != UTF8) {
        let why = format!(
            "leads to a database with the encoding `{encoding}`, but it must be {UTF8}: create it with `CREATE \
             DATABASE ... ENCODING '{UTF8}' TEMPLATE template0`"
        );
        return Err(Error::invalid("database.url", why));
    }
    if !is_english(&messages) {
        // Only a superuser can set it, so it is not set on each connection.
        warn!(
            lc_messages = %messages,
            "the database reports errors in another language than English, so some become internal errors: set \
             `lc_messages` of its role to `C`"
        );
    }
    Ok([one, two])
}

/// Facts about a server that the checks need.
struct ServerFacts {
    /// Encodings of the database and of the client.
    encodings: [String; 2],
    /// Locale of messages.
    messages: String,
}

/// Examines a server with two connections. Returns `None` if a pooler shares server connections between clients.
async fn examine(
    one: &mut RawConnection,
    two: &mut RawConnection,
) -> ConnectionResult<Option<ServerFacts>> {
    let ((one, one_socket), (two, two_socket)) = (one, two);
    let (one, two): (&Client, &Client) = (one, two);
    let examining = async {
        // Some poolers keep the server connection of a client that has changed a setting, so it is changed first.
        for client in [one, two] {
            client.batch_execute(COMMON_SETTINGS).await?;
        }
        // A pooler with one server connection would make the next query wait for the open transaction.
        if find_pooler(one, two).await? {
            return Ok(None);
        }
        Ok::<_, tokio_postgres::Error>(Some(ServerFacts {
            encodings: [
                first_value(one, "SHOW server_encoding").await?,
                first_value(one, "SHOW client_encoding").await?,
            ],
            messages: first_value(one, "SHOW lc_messages").await?,
        }))
    };
    let failed = |error: tokio_postgres::Error| ConnectionError::BadConnection(error_chain(&error));
    let lost = || ConnectionError::BadConnection("the connection was closed".to_owned());
    // A connection works only while it is polled.
    tokio::select! {
        examined = examining => examined.map_err(failed),
        ended = one_socket => Err(ended.map_or_else(failed, |()| lost())),
        ended = two_socket => Err(ended.map_or_else(failed, |()| lost())),
    }
}

/// Returns whether two client connections share server connections: the first runs statements while the second has a
/// transaction open. Each server connection is a process with an id.
async fn find_pooler(one: &Client, two: &Client) -> Result<bool, tokio_postgres::Error> {
    let (mut outside, mut inside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        // Two statements, so that a pooler that uses its connections in turn is out of step with the rounds.
        outside.push(first_value(one, PROCESS).await?);
        outside.push(first_value(one, PROCESS).await?);
        two.batch_execute("BEGIN").await?;
        inside.push(first_value(two, PROCESS).await?);
        // The result is known. A pooler with one connection would make the next statement wait for the transaction.
        if is_shared(&outside, &inside) {
            return Ok(true);
        }
        outside.push(first_value(one, PROCESS).await?);
        two.batch_execute("COMMIT").await?;
    }
    Ok(is_shared(&outside, &inside))
}

/// Returns whether one of two clients has changed its server process, or both have used the same one.
fn is_shared(one: &[String], two: &[String]) -> bool {
    let changed = |ids: &[String]| ids.windows(2).any(|pair| pair[0] != pair[1]);
    changed(one) || changed(two) || one.iter().any(|id| two.contains(id))
}

/// Returns the first column of the first row of a query.
async fn first_value(client: &Client, query: &str) -> Result<String, tokio_postgres::Error> {
    let messages = client.simple_query(query).await?;
    let value = messages.iter().find_map(|message| {
        if let SimpleQueryMessage::Row(row) = message { row.get(0) } else { None }
    });
    Ok(value.unwrap_or_default().to_owned())
}

/// Returns whether a locale has the messages by which errors are recognized (`error`).
fn is_english(locale: &str) -> bool {
    matches!(locale, "" | "C" | "POSIX") || locale.starts_with("C.") || locale.starts_with("en")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_shared_if_one_changes_or_both_use_the_same() {
        let ids = |text: &str| -> Vec<String> { text.chars().map(String::from).collect() };
        for (one, two, shared) in [
            ("11", "2", false),
            ("111111", "222", false),
            ("11", "1", true),
            ("12", "3", true),
            ("11", "23", true),
        ] {
            assert_eq!(is_shared(&ids(one), &ids(two)), shared, "{one} {two}");
        }
    }

    #[test]
    fn locales_with_english_messages_are_known() {
        for locale in ["", "C", "POSIX", "C.UTF-8", "en_US.UTF-8", "en_GB"] {
            assert!(is_english(locale), "{locale}");
        }
        assert!(!is_english("de_DE.UTF-8"));
    }
}
