//! Requesting a code, and polling for the decision about it.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::store;
use crate::app::App;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::types::{DeviceCodeId, GatewayId, SessionId, UserId};
use crate::error::{Error, Reason};
use crate::net::guard::accounting_address;
use crate::role::Role;
use crate::seal::{fill_random, hex};
use crate::secret::Secret;
use crate::words;

/// Lifetime of a code.
pub const LIFETIME: Duration = Duration::from_mins(10);
/// Minimum interval between two polls of a client.
pub const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// How long an expired code is stored, so that its client gets the error `Expired`.
pub const KEEP_EXPIRED_FOR: Duration = Duration::from_mins(10);
/// Maximum number of codes of a network that have not expired, also of those that were decided: an account that decides
/// about its own codes must not be able to store more.
pub const NETWORK_MAX: i64 = 20;
/// Maximum number of codes of an IPv6 /48 network, the size that one customer gets, that have not expired.
pub const SITE_MAX: i64 = 200;
/// Maximum number of codes for gateways, and of codes for sessions, including expired codes that are still stored. They
/// are counted apart, so that a flood of one kind does not lock out the other.
pub const CODES_MAX: i64 = 5_000;

/// Consonants only, so that codes do not form words, without letters that look or sound like others.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const LETTERS_IN_CODE: usize = 8;
const PREFIX: &str = "sgd_";
const SECRET_BYTES: usize = 32;
/// Attempts to generate a user code that is not in use.
const DRAWS_MAX: u32 = 3;

words! {
    /// State of a code.
    pub enum CodeState {
        /// Not decided yet.
        Pending = "pending",
        /// Its client can get tokens, once.
        Approved = "approved",
        /// Its client gets no tokens.
        Denied = "denied",
        /// Its client has got tokens.
        Consumed = "consumed",
    }
}

/// Access that the client of a code requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeScope<'a> {
    /// Tokens for this gateway, which need not exist.
    Gateway(&'a str),
    /// A session of Shoreguard's own API: everything that its user can do.
    Session,
}

impl<'a> CodeScope<'a> {
    fn gateway(self) -> Option<&'a str> {
        match self {
            Self::Gateway(name) => Some(name),
            Self::Session => None,
        }
    }
}

/// A code that a user enters: letters in two groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserCode(String);

impl UserCode {
    /// Parses a code in upper or lower case; spaces and `-` are ignored.
    pub fn parse(field: &str, text: &str) -> Result<Self, Error> {
        let typed = text.chars().filter(|c| !matches!(c, ' ' | '-')).take(LETTERS_IN_CODE + 1);
        let letters: String = typed.map(|c| c.to_ascii_uppercase()).collect();
        let good = letters.len() == LETTERS_IN_CODE
            && letters.bytes().all(|letter| LETTERS.contains(&letter));
        if !good {
            let why = format!("must be {LETTERS_IN_CODE} letters, such as `BCDF-GHJK`");
            return Err(Error::invalid(field, why));
        }
        Ok(Self(letters))
    }

    fn generate() -> Result<Self, Error> {
        let mut letters = String::with_capacity(LETTERS_IN_CODE);
        while letters.len() < LETTERS_IN_CODE {
            let mut byte = [0];
            fill_random(&mut byte)?;
            // Values beyond the last whole multiple of the alphabet are drawn again, so that all letters are equally
            // likely.
            if let Some(letter) = LETTERS.iter().cycle().take(240).nth(byte[0].into()) {
                letters.push(char::from(*letter));
            }
        }
        Ok(Self(letters))
    }

    /// Returns the form shown to users.
    fn display(&self) -> String {
        let (first, second) = self.0.split_at(LETTERS_IN_CODE / 2);
        format!("{first}-{second}")
    }

    pub(super) fn hash(&self, app: &App) -> String {
        app.master.tag_key("device codes").tag(&[self.0.as_bytes()])
    }
}

/// A new code, shown once.
#[derive(Debug)]
pub struct NewDeviceCode {
    /// Code that the client polls with.
    pub device_code: Secret,
    /// Code that the user enters.
    pub user_code: Secret,
    /// When both expire.
    pub expires_at: Timestamp,
}

/// Checks that a code can be created, before the request writes anything.
///
/// # Errors
/// Those of [`request_code`].
pub async fn check_room(app: &App, scope: CodeScope<'_>, ip: Option<IpAddr>) -> Result<(), Error> {
    app.disk.admit(Role::None)?;
    // Not exact, and without the writer: a flood is refused as cheaply as possible. `store_code` counts again.
    let mut conn = app.db.read().await?;
    check_limits(&mut conn, scope, (&network(ip), &site(ip)), app.clock.now()).await
}

/// Creates a code.
///
/// # Errors
/// `Exhausted` if its network has too many codes, if there are too many codes in total, or if the disk is below its
/// reserve.
pub async fn request_code(
    app: &App,
    scope: CodeScope<'_>,
    ip: Option<IpAddr>,
) -> Result<NewDeviceCode, Error> {
    app.disk.admit(Role::None)?;
    let mut secret = [0; SECRET_BYTES];
    fill_random(&mut secret)?;
    let device_code = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
    let mut draws = DRAWS_MAX;
    loop {
        let user_code = UserCode::generate()?;
        match store_code(app, scope, ip, &device_code, &user_code).await {
            Err(Error::AlreadyExists { .. }) if draws > 1 => draws -= 1,
            Err(error) => return Err(error),
            Ok(expires_at) => {
                let user_code = Secret::new(user_code.display());
                let device_code = Secret::new(device_code);
                return Ok(NewDeviceCode { device_code, user_code, expires_at });
            }
        }
    }
}

/// Stores a code. Returns when it expires.
async fn store_code(
    app: &App,
    scope: CodeScope<'_>,
    ip: Option<IpAddr>,
    device_code: &str,
    user_code: &UserCode,
) -> Result<Timestamp, Error> {
    let (network, site, now) = (network(ip), site(ip), app.clock.now());
    let expires_at = now.plus(LIFETIME);
    let client_ip = ip.map(|ip| ip.to_canonical().to_string());
    let new = store::NewCodeRow {
        device_hash: &hash_device_code(device_code),
        user_hash: &user_code.hash(app),
        gateway: scope.gateway(),
        client_ip: client_ip.as_deref(),
        network: &network,
        site: &site,
        now,
        expires_at,
    };
    app.db
        .transaction(async |conn| {
            store::lock_codes(conn).await?;
            check_limits(conn, scope, (&network, &site), now).await?;
            store::insert(conn, &new).await
        })
        .await?;
    Ok(expires_at)
}

/// Returns the network that a client address is counted as.
pub(super) fn network(ip: Option<IpAddr>) -> String {
    ip.map(|ip| accounting_address(ip).to_string()).unwrap_or_default()
}

/// Returns the IPv6 /48 network of a client address; empty for others.
fn site(ip: Option<IpAddr>) -> String {
    match ip.map(|ip| ip.to_canonical()) {
        Some(IpAddr::V6(v6)) => {
            let [a, b, c, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).to_string()
        }
        Some(IpAddr::V4(_)) | None => String::new(),
    }
}

async fn check_limits(
    conn: &mut Conn,
    scope: CodeScope<'_>,
    (network, site): (&str, &str),
    now: Timestamp,
) -> Result<(), Error> {
    let counts = store::count(conn, network, site, now).await?;
    let of_scope = match scope {
        CodeScope::Gateway(_) => counts.gateways,
        CodeScope::Session => counts.sessions,
    };
    let of_site = if site.is_empty() { 0 } else { counts.site };
    if counts.network >= NETWORK_MAX || of_site >= SITE_MAX || of_scope >= CODES_MAX {
        return Err(Error::Exhausted { reason: Reason::RateLimited, retry_in: LIFETIME });
    }
    Ok(())
}

fn hash_device_code(code: &str) -> String {
    hex(&Sha256::digest(code.as_bytes()))
}

/// Result of a poll.
#[derive(Debug)]
pub enum PollResult {
    /// Approved and not yet used.
    Approved(Approval),
    /// No tokens.
    NotGranted(NoGrantReason),
}

/// An approval that is not yet used.
#[derive(Debug)]
pub struct Approval {
    id: DeviceCodeId,
    /// User who approved.
    pub user: UserId,
    /// Session in which the user approved.
    pub session: SessionId,
    /// Gateway; `None` for a session.
    pub gateway: Option<GatewayId>,
}

/// Why a poll returns no tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoGrantReason {
    /// Not decided yet.
    Pending,
    /// The client polls too often.
    TooFast,
    /// The code was denied, or the user who approved it no longer has access.
    Denied,
    /// The code has expired.
    Expired,
    /// Its client has got tokens already.
    Used,
    /// The code does not exist, or was requested for another scope.
    Unknown,
}

/// Polls the state of a code. A code is unknown in every scope except its own (T03).
pub async fn poll(app: &App, scope: CodeScope<'_>, code: &Secret) -> Result<PollResult, Error> {
    let hash = hash_device_code(code.expose());
    let now = app.clock.now();
    {
        // Without the writer, which a flood of made-up codes would occupy (T16).
        let mut conn = app.db.read().await?;
        let found = store::by_device_hash(&mut conn, &hash).await?;
        if let Err(why) = find_usable(found, scope, now) {
            return Ok(PollResult::NotGranted(why));
        }
    }
    app.db
        .transaction(async |conn| {
            let found = store::by_device_hash(conn, &hash).await?;
            let found = match find_usable(found, scope, now) {
                Ok(found) => found,
                Err(why) => return Ok(PollResult::NotGranted(why)),
            };
            if !store::record_poll(conn, found.id, now.minus(POLL_INTERVAL), now).await? {
                return Ok(PollResult::NotGranted(NoGrantReason::TooFast));
            }
            poll_result(&found)
        })
        .await
}

/// Returns the code if it can still be exchanged.
fn find_usable(
    found: Option<store::PolledCode>,
    scope: CodeScope<'_>,
    now: Timestamp,
) -> Result<store::PolledCode, NoGrantReason> {
    let found = found.filter(|it| it.gateway.as_deref() == scope.gateway());
    let found = found.ok_or(NoGrantReason::Unknown)?;
    if found.state == CodeState::Consumed {
        return Err(NoGrantReason::Used);
    }
    if found.expires_at <= now {
        return Err(NoGrantReason::Expired);
    }
    Ok(found)
}

fn poll_result(found: &store::PolledCode) -> Result<PollResult, Error> {
    Ok(match found.state {
        CodeState::Pending => PollResult::NotGranted(NoGrantReason::Pending),
        CodeState::Denied => PollResult::NotGranted(NoGrantReason::Denied),
        CodeState::Consumed => PollResult::NotGranted(NoGrantReason::Used),
        CodeState::Approved => {
            let half = || Error::internal("an approval without an approver");
            PollResult::Approved(Approval {
                id: DeviceCodeId(found.id),
                user: UserId(found.user_id.ok_or_else(half)?),
                session: SessionId(found.session_id.ok_or_else(half)?),
                gateway: found.gateway_id.map(GatewayId),
            })
        }
    })
}

/// Consumes an approval that is unused, in the transaction that stores what it is exchanged for. Returns whether it was
/// consumed.
pub async fn consume(conn: &mut Conn, approved: &Approval) -> Result<bool, Error> {
    store::consume(conn, approved.id).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_code_is_parsed_in_any_case_and_spacing() {
        for typed in ["BCDF-GHJK", "bcdfghjk", " bcdf ghjk ", "B-C-D-F-G-H-J-K"] {
            assert_eq!(UserCode::parse("user_code", typed).unwrap().display(), "BCDF-GHJK");
        }
        for bad in
            ["", "BCDF-GHJ", "BCDF-GHJKL", "ACDF-GHJK", "BCDF_GHJK", "BCDF-GHJ1", "ßCDF-GHJK"]
        {
            assert!(UserCode::parse("user_code", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ipv6_addresses_are_also_counted_as_a_wider_network() {
        let site = |text: &str| site(Some(text.parse().unwrap()));
        assert_eq!(site("2001:db8:1:2:3:4:5:6"), "2001:db8:1::");
        assert_eq!(site("2001:db8:1:ffff::1"), "2001:db8:1::");
        assert_eq!(site("2001:db8:2::1"), "2001:db8:2::");
        assert_eq!((&*site("192.0.2.1"), &*site("::ffff:192.0.2.1")), ("", ""));
    }

    #[test]
    fn generated_codes_use_every_letter_and_are_distinct() {
        let drawn: Vec<_> = (0..200).map(|_| UserCode::generate().unwrap()).collect();
        for code in &drawn {
            assert_eq!(UserCode::parse("user_code", &code.display()).unwrap(), *code);
        }
        let letters: std::collections::BTreeSet<u8> =
            drawn.iter().flat_map(|code| code.0.bytes()).collect();
        assert_eq!(letters.len(), LETTERS.len());
        let different: std::collections::BTreeSet<_> = drawn.iter().map(|code| &code.0).collect();
        assert_eq!(different.len(), drawn.len());
    }
}
