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

use self::store::CertificateRow;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, Tx};
use crate::error::Error;
use crate::net::x509;
use crate::outbox::event_types;
use crate::upstream::row::GatewayRow as Gateway;

/// Days before the expiry at which a certificate is reported, in ascending order.
pub const REPORT_AT_DAYS: [i64; 3] = [1, 7, 30];
const DAY: Duration = Duration::from_hours(24);

/// Role of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateKind {
    /// CA certificate that must have issued the gateway's certificate; if there are several, the first to expire.
    Ca,
    /// Client certificate that Shoreguard presents.
    Client,
    /// Server certificate that the gateway presents.
    Server,
}

impl CertificateKind {
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

fn parse_expiries(pem: Option<&[u8]>) -> Vec<Timestamp> {
    let certificates = CertificateDer::pem_slice_iter(pem.unwrap_or_default());
    certificates.filter_map(|der| x509::expiry(&der.ok()?)).collect()
}

/// Returns the expiry of each certificate of a gateway; `None` if it is unknown.
#[must_use]
pub fn expiries(gateway: &Gateway) -> [(CertificateKind, Option<Timestamp>); 3] {
    [
        (CertificateKind::Ca, parse_expiries(gateway.ca_cert.as_deref()).into_iter().min()),
        // The first certificate of the chain is Shoreguard's own.
        (
            CertificateKind::Client,
            parse_expiries(gateway.client_cert.as_deref()).into_iter().next(),
        ),
        (CertificateKind::Server, gateway.observed.server_cert_ends_at),
    ]
}

/// Returns whether the certificates of a gateway, and so their expiries, may have changed. If not, the expiries are
/// stored already, and the next probe reports those that are due.
#[must_use]
pub fn may_differ(before: &Gateway, after: &Gateway) -> bool {
    before.ca_cert != after.ca_cert
        || before.client_cert != after.client_cert
        || before.observed.server_cert_ends_at != after.observed.server_cert_ends_at
}

/// Stores the expiry of the certificates of a gateway and emits an event for each that expires soon.
pub async fn record(ctx: &Ctx, tx: &mut Tx<'_>, gateway: &Gateway) -> Result<(), Error> {
    let known = store::list(tx, gateway.id).await?;
    for (kind, ends) in expiries(gateway) {
        let before = known.iter().find(|row| row.kind == kind.as_str());
        match (ends, before) {
            (None, None) => {}
            (None, Some(_)) => store::delete(tx, gateway.id, kind).await?,
            (Some(ends), before) => record_one(ctx, tx, gateway, kind, ends, before).await?,
        }
    }
    Ok(())
}

async fn record_one(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    gateway: &Gateway,
    kind: CertificateKind,
    ends: Timestamp,
    before: Option<&CertificateRow>,
) -> Result<(), Error> {
    let (noted, due) = plan_report(ctx.now(), kind, ends, before);
    if !noted {
        return Ok(());
    }
    let row = CertificateRow {
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
        tx.emit(ctx.new_event(event_types::GATEWAY_CERT_EXPIRING, payload).with_gateway(on))
            .await?;
    }
    Ok(())
}

/// Returns whether the expiry must be stored in place of `before`, and the number of days to report, if any.
fn plan_report(
    now: Timestamp,
    kind: CertificateKind,
    ends: Timestamp,
    before: Option<&CertificateRow>,
) -> (bool, Option<i64>) {
    let same = before.is_some_and(|row| row.expires_at == ends);
    let holds =
        |row: &&CertificateRow| same || (kind == CertificateKind::Server && row.expires_at > now);
    let told = before.filter(holds).and_then(|row| row.told_days);
    let due = due_report(now, ends).filter(|days| told.is_none_or(|told| *days < told));
    (due.is_some() || !(same || told.is_some()), due)
}

/// Returns the smallest of [`REPORT_AT_DAYS`] that covers the remaining time; `None` if more time is left.
#[must_use]
pub fn due_report(now: Timestamp, ends: Timestamp) -> Option<i64> {
    let within = |days: &i64| now.plus(DAY * u32::try_from(*days).unwrap_or(0)) >= ends;
    REPORT_AT_DAYS.into_iter().find(|days| within(days))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_expiry_is_due_at_30_7_and_1_days() {
        let ends = Timestamp::from_unix_seconds(100 * 86_400);
        let at = |days_left: i64| {
            due_report(Timestamp::from_unix_seconds((100 - days_left) * 86_400), ends)
        };
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
    fn reported_days(kind: CertificateKind, seen: &[(i64, i64)]) -> Vec<i64> {
        let day = |day: i64| Timestamp::from_unix_seconds(day * 86_400);
        let (mut known, mut told) = (None, Vec::new());
        for (now, ends) in seen {
            let (noted, due) = plan_report(day(*now), kind, day(*ends), known.as_ref());
            told.extend(due);
            if noted {
                let kind = kind.as_str().to_owned();
                known = Some(CertificateRow {
                    gateway_id: 1,
                    kind,
                    expires_at: day(*ends),
                    told_days: due,
                });
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
            assert_eq!(reported_days(CertificateKind::Server, &seen), [30, 7, 1], "{other}");
        }
    }

    #[test]
    fn a_replaced_certificate_is_reported_again() {
        let replaced: Vec<(i64, i64)> =
            (60..200).map(|now| (now, if now < 95 { 100 } else { 190 })).collect();
        for kind in [CertificateKind::Ca, CertificateKind::Client, CertificateKind::Server] {
            assert_eq!(reported_days(kind, &replaced), [30, 7, 30, 7, 1], "{kind:?}");
        }
        // Replaced late by a short-lived certificate: the client's is reported at once, the server's after the previous
        // expiry.
        let soon: Vec<(i64, i64)> =
            (94..104).map(|now| (now, if now < 96 { 100 } else { 104 })).collect();
        assert_eq!(reported_days(CertificateKind::Client, &soon), [7, 30, 7, 1]);
        assert_eq!(reported_days(CertificateKind::Server, &soon), [7, 7, 1]);
    }
}
