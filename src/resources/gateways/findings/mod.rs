//! Findings: a gateway approves proposals automatically, or does not accept Shoreguard's credential.
//!
//! A worker reads the settings of the gateways. The credential is checked by each probe, which stores the result
//! together with its other results.
//!
//! Invariants
//! - a finding is based on a response of the gateway; if it does not respond, the finding is unchanged;
//! - an event is emitted once when a finding is opened and once when it is closed, in the transaction that stores it;
//! - checks are bounded in concurrency, and each has a timeout.

pub mod store;

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use serde_json::json;
use tokio::time::timeout;
use tracing::debug;

use crate::clock::Timestamp;
use crate::ctx::{Ctx, GatewayRef, Tx};
use crate::db::leases::{self, Lease};
use crate::error::Error;
use crate::openshell::Gateway;
use crate::openshell::settings::{APPROVAL_AUTO, APPROVAL_MODE, Setting, Value};
use crate::outbox::event_types;
use crate::upstream::row::GatewayRow;
use crate::workers::{TickResult, Worker};

/// Gateways checked concurrently.
const AT_ONCE: usize = 32;
/// Timeout for reading the settings of a gateway.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval of the checks: a setting changed outside Shoreguard is reported about as fast as an outage.
const CHECK_EVERY: Duration = Duration::from_mins(1);

/// A kind of finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingKind {
    /// The gateway approves proposals of new rules automatically.
    AutomaticApprovals,
    /// The gateway rejects Shoreguard's credential, or grants it no access.
    CredentialUnusable,
}

impl FindingKind {
    /// Returns the name used in events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AutomaticApprovals => "automatic_approvals",
            Self::CredentialUnusable => "credential_unusable",
        }
    }

    /// Returns a description for people.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::AutomaticApprovals => {
                "the setting `proposal_approval_mode` is `auto`: the gateway approves proposals of new rules without a person"
            }
            Self::CredentialUnusable => {
                "the gateway rejects the credential that Shoreguard presents to it, or permits it nothing, so that calls to the gateway fail: `last_error` has the details, RotateGatewayCredentials replaces the credential"
            }
        }
    }
}

/// Returns the open findings of a gateway and when they were opened.
#[must_use]
pub fn open_findings(row: &GatewayRow) -> Vec<(FindingKind, Timestamp)> {
    let open = [
        (FindingKind::AutomaticApprovals, row.observed.automatic_approvals_since),
        (FindingKind::CredentialUnusable, row.observed.credential_unusable_since),
    ];
    open.into_iter().filter_map(|(kind, since)| Some((kind, since?))).collect()
}

/// Worker that checks the gateways, on one replica at a time.
pub const CHECKS: Worker = Worker {
    name: "gateway.findings",
    interval: |_| CHECK_EVERY,
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(tick(ctx, lease)),
};

async fn tick(ctx: &Ctx, lease: Option<&Lease>) -> Result<TickResult, Error> {
    let all = ctx.app().fleet.targets.all().into_iter();
    let targets = all.filter(|target| target.generation.known().is_some());
    let looks = targets.map(|target| {
        let (ctx, on) = (ctx.clone(), target.gateway());
        async move { (has_automatic_approvals(&ctx, &on).await, on) }
    });
    let mut looks = stream::iter(looks).buffer_unordered(AT_ONCE);
    let mut done = 0;
    // Stored here, one at a time, and not in the concurrent futures: these are dropped if the lease is lost, and a
    // transaction must not be dropped halfway.
    while let Some((told, on)) = looks.next().await {
        if let Some(so) = told {
            done +=
                usize::from(record(ctx, lease, &on, FindingKind::AutomaticApprovals, so).await?);
        }
    }
    Ok(TickResult { done, more: false })
}

/// Checks one gateway and returns whether a finding changed. If the gateway does not respond, nothing changes.
pub async fn check_gateway(ctx: &Ctx, on: &GatewayRef) -> Result<bool, Error> {
    match has_automatic_approvals(ctx, on).await {
        Some(so) => record(ctx, None, on, FindingKind::AutomaticApprovals, so).await,
        None => Ok(false),
    }
}

/// Returns whether a gateway approves proposals automatically; `None` if it does not respond.
async fn has_automatic_approvals(ctx: &Ctx, on: &GatewayRef) -> Option<bool> {
    let asked = async { Gateway::connect(ctx.app(), on).await?.settings(None).await };
    let told = match timeout(CHECK_TIMEOUT, asked).await {
        Ok(Ok((settings, _))) => settings,
        Ok(Err(error)) => {
            debug!(gateway = %on.name, %error, "its settings could not be read");
            return None;
        }
        Err(_) => return None,
    };
    Some(approves_automatically(&told))
}

fn approves_automatically(settings: &[Setting]) -> bool {
    let is_auto = |value: &Value| matches!(value, Value::Text(mode) if mode == APPROVAL_AUTO);
    let mode = settings.iter().find(|setting| setting.key == APPROVAL_MODE);
    mode.and_then(|mode| mode.value.as_ref()).is_some_and(is_auto)
}

/// Opens or closes a finding in a transaction of its own. Returns whether that changed anything.
async fn record(
    ctx: &Ctx,
    lease: Option<&Lease>,
    on: &GatewayRef,
    kind: FindingKind,
    so: bool,
) -> Result<bool, Error> {
    let news = ctx
        .record_change(async |tx| {
            if let Some(lease) = lease {
                leases::check_held(tx, lease).await?;
            }
            set(ctx, tx, on, kind, so.then(|| ctx.now())).await
        })
        .await?;
    Ok(news)
}

/// Opens a finding at `since`, or closes it on `None`, and emits the event, in the caller's transaction. Returns
/// whether that changed anything.
async fn set(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    on: &GatewayRef,
    kind: FindingKind,
    since: Option<Timestamp>,
) -> Result<bool, Error> {
    let news = store::set(tx, on.id, kind, since).await?;
    if news {
        let opened = since.is_some();
        let name = if opened {
            event_types::GATEWAY_FINDING_OPENED
        } else {
            event_types::GATEWAY_FINDING_CLOSED
        };
        let payload = json!({ "gateway": &*on.name, "finding": kind.as_str() });
        tx.emit(ctx.new_event(name, payload).with_gateway(on.clone())).await?;
    }
    Ok(news)
}

/// Stores the result of a credential check of a gateway, in the caller's transaction. Returns whether that changed
/// anything. A check without a result changes nothing.
pub(super) async fn record_credential_check(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    row: &mut GatewayRow,
    usable: Option<bool>,
) -> Result<bool, Error> {
    let Some(usable) = usable else { return Ok(false) };
    let on = row.gateway();
    let since = (!usable).then(|| ctx.now());
    let news = set(ctx, tx, &on, FindingKind::CredentialUnusable, since).await?;
    if news {
        row.observed.credential_unusable_since = since;
    }
    Ok(news)
}

/// Closes the finding about a credential that was replaced or whose destination was changed.
pub(super) async fn close_credential_finding(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    row: &mut GatewayRow,
) -> Result<bool, Error> {
    record_credential_check(ctx, tx, row, Some(true)).await
}
