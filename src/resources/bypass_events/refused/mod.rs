//! Log lines about connections that the policy of a sandbox has refused. A reviewer sees those of a proposed rule
//! beside the words of its agent.
//!
//! Invariants
//! - a line is stored once, however often it is read;
//! - the newest lines of each connection, a program and a host, are stored, so that a flood of one hides no other one;
//! - of one read of a log, of one sandbox, and of one gateway, a bounded number of lines is stored;
//! - texts are untrusted: they are bounded and have no control characters (T20);
//! - what of a URL can be a credential is not stored: user, password, query and fragment.

mod store;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use sha2::{Digest, Sha256};

pub use self::store::{LINES, RefusedConnection, by_ids, newest_hosts};
use super::domain::SandboxOfLines;
use super::ocsf::{self, Class, Disposition};
use crate::characters::is_invisible;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::error::Error;
use crate::seal::hex;
use crate::upstream::errors::{sanitize, without_credentials};

/// Maximum number of stored lines of one connection.
pub const LINES_OF_CONNECTION_MAX: usize = 20;
/// Maximum number of lines that are stored after one read of a log.
pub const LINES_OF_READ_MAX: usize = 50;
/// Maximum number of stored lines of a sandbox. Older ones are deleted.
pub const LINES_OF_SANDBOX_MAX: usize = 1_000;
/// How long a line is stored.
pub const STORED_FOR: Duration = Duration::from_hours(7 * 24);
/// Maximum length of a stored line, in characters.
pub const LINE_CHARACTERS_MAX: usize = 500;
/// Maximum length of the path of a program and of a host, in characters. Lines with longer ones are not stored.
pub const NAME_CHARACTERS_MAX: usize = 253;

/// A log line about a refused connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedLine {
    /// Time of the line.
    pub at: Timestamp,
    /// Absolute path of the program.
    pub binary: String,
    /// Host of the destination, in lower case.
    pub host: String,
    /// The line.
    pub line: String,
    /// SHA-256 of the line, in hexadecimal.
    pub line_hash: String,
}

/// Returns the refused connection that a log line at this time is about. Returns `None` if it is about something
/// else, names no program or no host, or names one with characters that readers do not see.
#[must_use]
pub fn parse(message: &str, at: Timestamp) -> Option<RefusedLine> {
    // Most lines are about something else, and this is faster than parsing them.
    let is_refusal = |word: &Disposition| message.contains(word.as_str());
    if ![Disposition::Denied, Disposition::Blocked].iter().any(is_refusal) {
        return None;
    }
    let parsed = ocsf::parse(message);
    match parsed.disposition? {
        Disposition::Denied | Disposition::Blocked => {}
        Disposition::Allowed => return None,
    }
    match parsed.class? {
        Class::Net | Class::Http => {}
        Class::Ssh
        | Class::Proc
        | Class::Finding
        | Class::Config
        | Class::Lifecycle
        | Class::Event => return None,
    }
    let binary = parsed.binary.filter(|binary| is_name(binary))?;
    let host = host_of(&parsed.summary)?;
    let line = sanitize(without_credentials(message).trim(), LINE_CHARACTERS_MAX);
    let line_hash = hex(&Sha256::digest(message.as_bytes()));
    Some(RefusedLine { at, binary, host, line, line_hash })
}

/// Whether a path or host is short enough, and is not another one than readers see (T20).
fn is_name(text: &str) -> bool {
    (1..=NAME_CHARACTERS_MAX).contains(&text.chars().count()) && !text.contains(is_invisible)
}

/// Returns the host of the destination after the arrow: `host:port`, `[address]:port/tcp`, or a URL after its method.
fn host_of(summary: &str) -> Option<String> {
    let (_, destination) = summary.split_once("-> ")?;
    let word = destination.split_whitespace().find(|word| word.contains(':'))?;
    let authority = word.split_once("://").map_or(word, |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match authority.strip_prefix('[') {
        Some(address) => address.split_once(']')?.0,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    let host = folded_host(host);
    is_name(&host).then_some(host)
}

/// Returns the form in which hosts are compared: in lower case, without a dot at the end.
#[must_use]
pub fn folded_host(host: &str) -> String {
    host.trim_end_matches('.').to_lowercase()
}

/// Returns the lines of one read that are stored, of lines that are sorted oldest first: the newest ones of each
/// connection.
#[must_use]
pub fn stored_of(lines: Vec<RefusedLine>) -> Vec<RefusedLine> {
    let mut counts: HashMap<(String, String), usize> = HashMap::new();
    let mut stored = Vec::new();
    for line in lines.into_iter().rev() {
        if stored.len() >= LINES_OF_READ_MAX {
            break;
        }
        let count = counts.entry((line.binary.clone(), line.host.clone())).or_default();
        if *count < LINES_OF_CONNECTION_MAX {
            *count += 1;
            stored.push(line);
        }
    }
    stored.reverse();
    stored
}

/// Stores lines of a sandbox that were read now.
///
/// # Errors
/// Those of the database.
pub async fn record(
    conn: &mut Conn,
    sandbox: SandboxOfLines<'_>,
    lines: &[RefusedLine],
    now: Timestamp,
) -> Result<(), Error> {
    let SandboxOfLines { place, uid } = sandbox;
    let gateway = place.gateway.id;
    if lines.is_empty() || store::insert_all(conn, gateway, uid, lines, now).await? == 0 {
        return Ok(());
    }
    let connections = lines.iter().map(|line| (line.binary.as_str(), line.host.as_str()));
    for connection in connections.collect::<BTreeSet<(&str, &str)>>() {
        let keep = limit(LINES_OF_CONNECTION_MAX);
        store::delete_older(conn, gateway, uid, connection, keep).await?;
    }
    store::delete_beyond(conn, gateway, uid, limit(LINES_OF_SANDBOX_MAX)).await
}

fn limit(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

    fn connection(message: &str) -> Option<(String, String)> {
        parse(message, NOW).map(|line| (line.binary, line.host))
    }

    #[test]
    fn a_line_names_a_program_and_a_host() {
        for (destination, host) in [
            ("api.example.com:443", "api.example.com"),
            ("API.Example.COM.:443/tcp", "api.example.com"),
            ("203.0.113.7:443/tcp", "203.0.113.7"),
            ("[2001:db8::1]:443/tcp", "2001:db8::1"),
            ("GET https://api.example.com/zen?a=b:c", "api.example.com"),
            ("POST http://user@api.example.com:8080/", "api.example.com"),
        ] {
            for (class, disposition) in [("NET:OPEN", "DENIED"), ("HTTP:GET", "BLOCKED")] {
                let message = format!(
                    "{class} [MED] {disposition} /usr/bin/curl(58) -> {destination} [policy:- engine:opa]"
                );
                let expected = ("/usr/bin/curl".to_owned(), host.to_owned());
                assert_eq!(connection(&message), Some(expected), "{message}");
            }
        }
    }

    #[test]
    fn other_lines_are_not_stored() {
        let long = format!("NET:OPEN [MED] DENIED /{}(1) -> a.example:443", "x".repeat(253));
        for message in [
            "NET:OPEN [INFO] ALLOWED /usr/bin/curl(58) -> api.example.com:443",
            "NET:OPEN [MED] DENIED -> api.example.com:443",
            "NET:OPEN [MED] DENIED /usr/bin/curl(58)",
            "NET:OPEN [MED] DENIED /usr/bin/curl(58) -> somewhere",
            "NET:OPEN [MED] DENIED /usr/bin/curl(58) -> :443",
            "NET:OPEN [MED] DENIED /usr/bin/curl(58) -> [::1",
            "PROC:LAUNCH [HIGH] DENIED /usr/bin/nsenter(58) -> a.example:1",
            "FINDING:BLOCKED [HIGH] /usr/bin/curl(58) -> a.example:1",
            "a connection was DENIED",
            "",
            long.as_str(),
        ] {
            assert_eq!(connection(message), None, "{message}");
        }
    }

    #[test]
    fn t20_a_stored_line_is_bounded_and_has_no_hidden_characters() {
        let tail = "y".repeat(LINE_CHARACTERS_MAX);
        let message = format!(
            "NET:OPEN [MED] DENIED /bin/x(1) -> a.example:443 \u{202e}\u{1b}[2J\u{200b}{tail}"
        );
        let line = parse(&message, NOW).unwrap();
        assert_eq!(line.line.chars().count(), LINE_CHARACTERS_MAX);
        assert!(!line.line.contains(is_invisible), "{}", line.line);
        assert_ne!(line.line_hash, parse(&format!("{message}y"), NOW).unwrap().line_hash);
    }

    #[test]
    fn t20_a_program_or_host_with_invisible_characters_is_not_stored() {
        let of = |binary: &str, host: &str| {
            connection(&format!("NET:OPEN [MED] DENIED {binary}(1) -> {host}:443"))
        };
        assert!(of("/bin/x", "a.example").is_some());
        for invisible in ["\u{ad}", "\u{61c}", "\u{3164}", "\u{fe0f}", "\u{e0041}"] {
            assert_eq!(of(&format!("/bin/{invisible}x"), "a.example"), None, "{invisible:?}");
            assert_eq!(of("/bin/x", &format!("a{invisible}.example")), None, "{invisible:?}");
        }
    }

    #[test]
    fn what_of_a_url_can_be_a_credential_is_not_stored() {
        for (destination, stored) in [
            ("GET https://a.example/zen?access_token=hidden", "GET https://a.example/zen"),
            ("GET https://a.example/zen#hidden", "GET https://a.example/zen"),
            ("GET https://me:hidden@a.example:1/x", "GET https://a.example:1/x"),
            ("GET https://me:hid@den@a.example/@x", "GET https://a.example/@x"),
            ("GET https://a.example?next=https://me:hidden@b", "GET https://a.example"),
            ("GET https://a.example,http://me:hidden@b", "GET https://a.example,http://b"),
            ("a.example:443 GET /zen?hidden", "a.example:443 GET /zen"),
            ("a.example:443  why?", "a.example:443  why?"),
        ] {
            let prefix = "HTTP:GET [MED] DENIED /usr/bin/curl(58) -> ";
            let suffix = " [url:https://x:hidden@a.example/?hidden engine:opa]";
            let line = parse(&format!("{prefix}{destination}{suffix}"), NOW).unwrap();
            let expected = format!("{prefix}{stored} [url:https://a.example/ engine:opa]");
            assert_eq!(line.line, expected);
        }
        // Lines that differ in what is not stored are different lines.
        let hash = |token: &str| {
            let message =
                format!("HTTP:GET [MED] DENIED /bin/x(1) -> GET http://a.example?{token}");
            parse(&message, NOW).unwrap().line_hash
        };
        assert_ne!(hash("a"), hash("b"));
    }

    #[test]
    fn t20_a_flood_of_one_connection_hides_no_other_one() {
        let line = |host: &str, n: usize| {
            let message = format!("NET:OPEN [MED] DENIED /bin/x({n}) -> {host}:443");
            parse(&message, NOW).unwrap()
        };
        let quiet = (0..3).map(|n| line("quiet.example", n));
        let flood = (0..2_000).map(|n| line("flood.example", n));
        let stored = stored_of(quiet.chain(flood).collect());
        let of = |host: &str| stored.iter().filter(|line| line.host == host).count();
        assert_eq!((of("quiet.example"), of("flood.example")), (3, LINES_OF_CONNECTION_MAX));
        assert_eq!(stored.last(), Some(&line("flood.example", 1_999)));
        let many = (0..2_000).map(|n| line(&format!("h{n}.example"), n));
        assert_eq!(stored_of(many.collect()).len(), LINES_OF_READ_MAX);
    }
}
