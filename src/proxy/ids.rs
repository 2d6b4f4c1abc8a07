//! Request ids of clients, forwarded to gateways of generation 0.1.
//!
//! A gateway accepts a limited number of ids per caller, stores those of failed writes permanently, and rejects all
//! further ids at the limit. To a gateway Shoreguard is a single caller, so one client could use up the ids of all
//! others.
//!
//! Invariants
//! - an id is forwarded unchanged, and none is added;
//! - a principal has a limited share of the ids of a gateway, tracked in the memory of each process. A confirmed
//!   success frees its place when the gateway frees it; any other outcome occupies it permanently, as on the gateway;
//! - every call with an id is counted by its outcome.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use parking_lot::Mutex;
use tonic::Code;
use tracing::debug;
use uuid::Uuid;

use super::admit::AdmittedCall;
use crate::access::principal::PrincipalId;
use crate::app::App;
use crate::db::types::GatewayId;
use crate::error::{Error, Reason};
use crate::pb::wire;
use crate::telemetry::metrics::GATEWAY_REQUEST_IDS;
use crate::upstream::message::ReadRequest;

/// How long a gateway stores the id of a confirmed success, in seconds.
const CONFIRMED_SECONDS: i64 = 24 * 60 * 60;
/// Maximum number of tracked ids of all principals; at the limit, all shares are reset.
const IDS_MAX: usize = 100_000;

/// The share of a principal: its ids and how long each is stored.
type IdShare = HashMap<RequestKey, Retention>;
/// A method and an id; a gateway stores ids per method.
type RequestKey = (&'static str, Uuid);
/// The holder of a share: a principal on a gateway.
type ShareHolder = (GatewayId, PrincipalId);

/// How long an id is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retention {
    /// Permanently, as far as is known.
    Permanent,
    /// For [`CONFIRMED_SECONDS`] from this Unix time in seconds.
    Confirmed(i64),
}

impl Retention {
    /// Returns the seconds until its place is free, or `None` if it never is.
    fn seconds_left(self, now: i64) -> Option<i64> {
        match self {
            Self::Permanent => None,
            Self::Confirmed(at) => Some(at.saturating_add(CONFIRMED_SECONDS) - now),
        }
    }
}

/// The shares of all principals.
#[derive(Debug, Default)]
pub struct RequestIds {
    shares: Mutex<Shares>,
}

#[derive(Debug, Default)]
struct Shares {
    by_holder: HashMap<ShareHolder, IdShare>,
    /// Number of ids in all shares.
    count: usize,
}

impl RequestIds {
    /// Adds an id to a share, unless it is already there. Returns whether it was added.
    ///
    /// # Errors
    /// `LIMIT_REACHED` if the share is used up.
    fn take(
        &self,
        holder: ShareHolder,
        key: RequestKey,
        max: usize,
        now: i64,
    ) -> Result<bool, Error> {
        let mut shares = self.shares.lock();
        if shares.count >= IDS_MAX {
            *shares = Shares::default();
        }
        let Shares { by_holder, count } = &mut *shares;
        let share = by_holder.entry(holder).or_default();
        if share.contains_key(&key) {
            return Ok(false);
        }
        if share.len() >= max {
            let before = share.len();
            share.retain(|_, retention| retention.seconds_left(now).is_none_or(|left| left > 0));
            *count = count.saturating_sub(before - share.len());
        }
        if share.len() >= max {
            let left = share.values().filter_map(|retention| retention.seconds_left(now)).min();
            let left = left.unwrap_or(CONFIRMED_SECONDS).unsigned_abs();
            let retry_in = Duration::from_secs(left);
            return Err(Error::Exhausted { reason: Reason::LimitReached, retry_in });
        }
        share.insert(key, Retention::Permanent);
        *count += 1;
        Ok(true)
    }

    /// Removes an id that was not sent.
    fn release(&self, holder: ShareHolder, key: RequestKey) {
        let mut shares = self.shares.lock();
        let removed = shares.by_holder.get_mut(&holder).and_then(|share| share.remove(&key));
        shares.count = shares.count.saturating_sub(usize::from(removed.is_some()));
    }

    /// Records that the gateway confirmed a success.
    fn confirm(&self, holder: ShareHolder, key: RequestKey, now: i64) {
        let mut shares = self.shares.lock();
        let retention = shares.by_holder.get_mut(&holder).and_then(|share| share.get_mut(&key));
        if let Some(retention) = retention {
            *retention = Retention::Confirmed(now);
        }
    }
}

/// A call with an id. If it is dropped before `finish`, its outcome is counted as lost.
pub(super) struct CountedRequestId {
    app: Arc<App>,
    gateway: Arc<str>,
    /// `None` if the id is malformed, so that no gateway accepts it.
    share_key: Option<(ShareHolder, RequestKey)>,
    /// Whether this call added it to the share.
    is_new: bool,
    ended: bool,
}

/// Finds the id of a parsed request and adds it to the share of its caller.
///
/// # Errors
/// `LIMIT_REACHED` if the share is used up.
pub(super) fn admit(
    admitted: &AdmittedCall<'_>,
    read: Option<&ReadRequest>,
) -> Result<Option<CountedRequestId>, Error> {
    let path = admitted.row.request_id;
    let id = read.and_then(|read| wire::text_at(read.message(), path));
    let (Some(id), Some(caller)) = (id, &admitted.call.caller) else { return Ok(None) };
    let app = &admitted.proxy.app;
    let gateway = Arc::clone(&admitted.selected.gateway.name);
    let key = parse(id).map(|id| (admitted.row.path, id));
    let share_key = key.map(|key| ((admitted.selected.gateway.id, caller.principal()), key));
    let mut is_new = false;
    if let Some((holder, key)) = share_key {
        let max = app.config.gateways.request_ids_per_principal as usize;
        let now = app.clock.now().unix_seconds();
        is_new = app.part::<RequestIds>().take(holder, key, max, now).inspect_err(|_| {
            count(&gateway, "refused");
            let actor = caller.actor();
            debug!(%gateway, %actor, max, "a principal has used up its request ids on a gateway");
        })?;
    }
    Ok(Some(CountedRequestId { app: Arc::clone(app), gateway, share_key, is_new, ended: false }))
}

/// Parses an id in the form that gateways accept: a UUID with 36 characters that is not nil.
fn parse(id: &str) -> Option<Uuid> {
    Uuid::try_parse(id).ok().filter(|parsed| id.len() == 36 && !parsed.is_nil())
}

impl CountedRequestId {
    /// Records that the call was refused here: the gateway has not seen the id.
    pub(super) fn refused(mut self) {
        self.ended = true;
        if let (Some((holder, key)), true) = (self.share_key, self.is_new) {
            self.app.part::<RequestIds>().release(holder, key);
        }
        count(&self.gateway, "refused");
    }

    /// Records the status code of the call.
    pub(super) fn finish(mut self, code: i32) {
        self.ended = true;
        let code = Code::from(code);
        if code == Code::Ok {
            if let Some((holder, key)) = self.share_key {
                let now = self.app.clock.now().unix_seconds();
                self.app.part::<RequestIds>().confirm(holder, key, now);
            }
            return count(&self.gateway, "confirmed");
        }
        let lost = [Code::Cancelled, Code::DeadlineExceeded, Code::Unavailable].contains(&code);
        count(&self.gateway, if lost { "lost" } else { "failed" });
    }
}

impl Drop for CountedRequestId {
    fn drop(&mut self) {
        if !self.ended {
            count(&self.gateway, "lost");
        }
    }
}

fn count(gateway: &Arc<str>, outcome: &'static str) {
    let labels = [
        ("gateway", metrics::SharedString::from(gateway.to_string())),
        ("outcome", metrics::SharedString::const_str(outcome)),
    ];
    counter!(GATEWAY_REQUEST_IDS, &labels).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::types::UserId;

    fn holder(user: i64) -> ShareHolder {
        (GatewayId::from(1), PrincipalId::User(UserId::from(user)))
    }

    fn key(id: u128) -> RequestKey {
        ("/o.v1.O/CreateSandbox", Uuid::from_u128(id))
    }

    #[test]
    fn the_request_id_share_of_a_principal_fills_and_frees_like_the_gateways_table() {
        let ids = RequestIds::default();
        for id in 1..=2 {
            ids.take(holder(1), key(id), 2, 0).unwrap();
        }
        ids.take(holder(1), key(2), 2, 0).expect("a repeat takes no place");
        let full = ids.take(holder(1), key(3), 2, 0).unwrap_err();
        assert!(matches!(full, Error::Exhausted { reason: Reason::LimitReached, .. }), "{full:?}");
        ids.take(holder(2), key(3), 2, 0).expect("another principal has a share of its own");

        ids.confirm(holder(1), key(1), 10);
        let Err(Error::Exhausted { retry_in, .. }) = ids.take(holder(1), key(3), 2, 20) else {
            panic!("a success is kept for a day");
        };
        assert_eq!(retry_in, Duration::from_secs(24 * 60 * 60 - 10));
        let later = 10 + CONFIRMED_SECONDS;
        ids.take(holder(1), key(3), 2, later).expect("the success has left");
        ids.take(holder(1), key(4), 2, later).expect_err("a failed one stays");
        ids.release(holder(1), key(3));
        ids.take(holder(1), key(4), 2, later).expect("an id that was not sent takes no place");
    }

    #[test]
    fn the_total_of_stored_request_ids_is_limited() {
        let ids = RequestIds::default();
        for id in 1..=IDS_MAX {
            ids.take(holder(1), key(id as u128), usize::MAX, 0).unwrap();
        }
        ids.take(holder(2), key(1), 1, 0).unwrap();
        let shares = ids.shares.lock();
        assert_eq!((shares.count, shares.by_holder.len()), (1, 1));
    }

    #[test]
    fn a_request_id_is_a_uuid_of_36_characters() {
        assert!(parse("0199c0de-0000-7000-8000-000000000001").is_some());
        for none in [
            "",
            "r-1",
            "0199c0de000070008000000000000001",
            "{0199c0de-0000-7000-8000-000000000001}",
            "00000000-0000-0000-0000-000000000000",
        ] {
            assert!(parse(none).is_none(), "{none}");
        }
    }
}
