//! Expiry of the certificates of a gateway: its server certificate, Shoreguard's client certificate and the CA's.
//!
//! Invariants
//! - each expiry is reported once at 30, at 7 and at 1 day before it, by an event in the transaction that stores it;
//! - a replaced certificate is reported again: a client or CA certificate at once, since a caller replaced it, a server
//!   certificate only after the reported expiry has passed. Otherwise two server certificates that alternate behind one
//!   name would be reported at every probe.

pub mod store;

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;

use self::store::Row;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, Tx};
use crate::error::Error;
use crate::net::x509;
use crate::outbox::event_types;
use crate::upstream::row::Row as Gateway;

/// Days before the expiry at which a certificate is reported, in ascending order.
pub const TOLD_AT_DAYS: [i64; 3] = [1, 7, 30];
const DAY: Duration = Duration::from_hours(24);

/// Role of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// CA certificate that must have issued the gateway's certificate; if there are several, the first to expire.
    Ca,
    /// Client certificate that Shoreguard presents.
    Client,
    /// Server certificate that the gateway presents.
    Server,
}

impl Kind {
    /// Returns the stored name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ca => "ca",
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

fn expiries(pem: Option<&[u8]>) -> Vec<Timestamp> {
    let certificates = CertificateDer::pem_slice_iter(pem.unwrap_or_default());
    certificates.filter_map(|der| x509::expiry(&der.ok()?)).collect()
}

/// Returns the expiry of each certificate of a gateway; `None` if it is unknown.
#[must_use]
pub fn of(gateway: &Gateway) -> [(Kind, Option<Timestamp>); 3] {
    [
        (Kind::Ca, expiries(gateway.ca_cert.as_deref()).into_iter().min()),
        // The first certificate of the chain is Shoreguard's own.
        (Kind::Client, expiries(gateway.client_cert.as_deref()).into_iter().next()),
        (Kind::Server, gateway.found.server_cert_ends_at),
    ]
}

/// Stores the expiry of the certificates of a gateway and emits an event for each that expires soon.
pub async fn note(ctx: &Ctx, tx: &mut Tx<'_>, gateway: &Gateway) -> Result<(), Error> {
    let known = store::of(tx, gateway.id).await?;
    for (kind, ends) in of(gateway) {
        let before = known.iter().find(|row| row.kind == kind.as_str());
        match (ends, before) {
            (None, None) => {}
            (None, Some(_)) => store::forget(tx, gateway.id, kind).await?,
            (Some(ends), before) => note_one(ctx, tx, gateway, kind, ends, before).await?,
        }
    }
    Ok(())
}

async fn note_one(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    gateway: &Gateway,
    kind: Kind,
    ends: Timestamp,
    before: Option<&Row>,
) -> Result<(), Error> {
    let (noted, due) = news(ctx.now(), kind, ends, before);
    if !noted {
        return Ok(());
    }
    let row = Row {
        gateway_id: gateway.id,
        kind: kind.as_str().to_owned(),
        expires_at: ends,
        told_days: due,
    };
    store::put(tx, &row).await?;
    if let Some(days) = due {
        let payload = json!({
            "gateway": gateway.name,
            "certificate": kind.as_str(),
            "days": days,
            "expire_time": ends.to_string(),
        });
        let on = gateway.gateway();
        tx.emit(ctx.event(event_types::GATEWAY_CERT_EXPIRING, payload).on(on)).await?;
    }
    Ok(())
}

/// Returns whether the expiry must be stored in place of `before`, and the number of days to report, if any.
fn news(now: Timestamp, kind: Kind, ends: Timestamp, before: Option<&Row>) -> (bool, Option<i64>) {
    let same = before.is_some_and(|row| row.expires_at == ends);
    let holds = |row: &&Row| same || (kind == Kind::Server && row.expires_at > now);
    let told = before.filter(holds).and_then(|row| row.told_days);
    let due = due(now, ends).filter(|days| told.is_none_or(|told| *days < told));
    (due.is_some() || !(same || told.is_some()), due)
}

/// Returns the smallest of [`TOLD_AT_DAYS`] that covers the remaining time; `None` if more time is left.
#[must_use]
pub fn due(now: Timestamp, ends: Timestamp) -> Option<i64> {
    let within = |days: &i64| now.plus(DAY * u32::try_from(*days).unwrap_or(0)) >= ends;
    TOLD_AT_DAYS.into_iter().find(|days| within(days))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_expiry_is_due_at_30_7_and_1_days() {
        let ends = Timestamp::from_unix_seconds(100 * 86_400);
        let at =
            |days_left: i64| due(Timestamp::from_unix_seconds((100 - days_left) * 86_400), ends);
        let table = [
            (31, None),
            (30, Some(30)),
            (8, Some(30)),
            (7, Some(7)),
            (2, Some(7)),
            (1, Some(1)),
            (-3, Some(1)),
        ];
        for (left, expected) in table {
            assert_eq!(at(left), expected, "{left}");
        }
    }

    /// Returns the days reported for a sequence of (day of the probe, day of the expiry).
    fn told(kind: Kind, seen: &[(i64, i64)]) -> Vec<i64> {
        let day = |day: i64| Timestamp::from_unix_seconds(day * 86_400);
        let (mut known, mut told) = (None, Vec::new());
        for (now, ends) in seen {
            let (noted, due) = news(day(*now), kind, day(*ends), known.as_ref());
            told.extend(due);
            if noted {
                let kind = kind.as_str().to_owned();
                known = Some(Row { gateway_id: 1, kind, expires_at: day(*ends), told_days: due });
            }
        }
        told
    }

    #[test]
    fn alternating_certificates_are_reported_once_per_step() {
        // One certificate expires on day 100, the other on day 102 or 1000.
        for other in [102, 1_000] {
            let seen: Vec<(i64, i64)> =
                (60..100).flat_map(|now| [(now, 100), (now, other)]).collect();
            assert_eq!(told(Kind::Server, &seen), [30, 7, 1], "{other}");
        }
    }

    #[test]
    fn a_replaced_certificate_is_reported_again() {
        let replaced: Vec<(i64, i64)> =
            (60..200).map(|now| (now, if now < 95 { 100 } else { 190 })).collect();
        for kind in [Kind::Ca, Kind::Client, Kind::Server] {
            assert_eq!(told(kind, &replaced), [30, 7, 30, 7, 1], "{kind:?}");
        }
        // Replaced late by a short-lived certificate: the client's is reported at once, the server's after the previous
        // expiry.
        let soon: Vec<(i64, i64)> =
            (94..104).map(|now| (now, if now < 96 { 100 } else { 104 })).collect();
        assert_eq!(told(Kind::Client, &soon), [7, 30, 7, 1]);
        assert_eq!(told(Kind::Server, &soon), [7, 7, 1]);
    }
}
