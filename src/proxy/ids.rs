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

use super::admit::Admitted;
use crate::access::principal::PrincipalId;
use crate::app::App;
use crate::db::types::GatewayId;
use crate::error::{Error, Reason};
use crate::pb::wire;
use crate::telemetry::metrics::GATEWAY_REQUEST_IDS;
use crate::upstream::message::Read;

/// How long a gateway stores the id of a confirmed success, in seconds.
const CONFIRMED_SECONDS: i64 = 24 * 60 * 60;
/// Maximum number of tracked ids of all principals; at the limit, all shares are reset.
const KEPT_MAX: usize = 100_000;

/// The share of a principal: its ids and how long each is stored.
type Share = HashMap<Asked, Kept>;
/// A method and an id; a gateway stores ids per method.
type Asked = (&'static str, Uuid);
/// The holder of a share: a principal on a gateway.
type Holder = (GatewayId, PrincipalId);

/// How long an id is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// Permanently, as far as is known.
    Open,
    /// For [`CONFIRMED_SECONDS`] from this Unix time in seconds.
    Confirmed(i64),
}

impl Kept {
    /// Returns the seconds until its place is free, or `None` if it never is.
    fn left(self, now: i64) -> Option<i64> {
        match self {
            Self::Open => None,
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
    of: HashMap<Holder, Share>,
    /// Number of ids in all shares.
    kept: usize,
}

impl RequestIds {
    /// Adds an id to a share, unless it is already there.
    ///
    /// # Errors
    /// `LIMIT_REACHED` if the share is used up.
    fn take(&self, holder: Holder, asked: Asked, max: usize, now: i64) -> Result<(), Error> {
        let mut shares = self.shares.lock();
        if shares.kept >= KEPT_MAX {
            *shares = Shares::default();
        }
        let Shares { of, kept } = &mut *shares;
        let share = of.entry(holder).or_default();
        if share.contains_key(&asked) {
            return Ok(());
        }
        if share.len() >= max {
            let before = share.len();
            share.retain(|_, kept| kept.left(now).is_none_or(|left| left > 0));
            *kept = kept.saturating_sub(before - share.len());
        }
        if share.len() >= max {
            let left = share.values().filter_map(|kept| kept.left(now)).min();
            let left = left.unwrap_or(CONFIRMED_SECONDS).unsigned_abs();
            let retry_in = Duration::from_secs(left);
            return Err(Error::Exhausted { reason: Reason::LimitReached, retry_in });
        }
        share.insert(asked, Kept::Open);
        *kept += 1;
        Ok(())
    }

    /// Records that the gateway confirmed a success.
    fn confirm(&self, holder: Holder, asked: Asked, now: i64) {
        let mut shares = self.shares.lock();
        let kept = shares.of.get_mut(&holder).and_then(|share| share.get_mut(&asked));
        if let Some(kept) = kept {
            *kept = Kept::Confirmed(now);
        }
    }
}

/// A call with an id. If it is dropped before `finish`, its outcome is counted as lost.
pub(super) struct Counted {
    app: Arc<App>,
    gateway: Arc<str>,
    /// `None` if the id is malformed, so that no gateway accepts it.
    place: Option<(Holder, Asked)>,
    ended: bool,
}

/// Finds the id of a parsed request and adds it to the share of its caller.
///
/// # Errors
/// `LIMIT_REACHED` if the share is used up.
pub(super) fn admit(
    admitted: &Admitted<'_>,
    read: Option<&Read>,
) -> Result<Option<Counted>, Error> {
    let path = admitted.row.request_id;
    let id = read.and_then(|read| wire::text_at(read.message(), path));
    let (Some(id), Some(caller)) = (id, &admitted.call.caller) else { return Ok(None) };
    let app = &admitted.proxy.app;
    let gateway = Arc::clone(&admitted.chosen.gateway.name);
    let asked = parse(id).map(|id| (admitted.row.path, id));
    let place = asked.map(|asked| ((admitted.chosen.gateway.id, caller.principal()), asked));
    if let Some((holder, asked)) = place {
        let max = app.config.gateways.request_ids_per_principal as usize;
        let now = app.clock.now().unix_seconds();
        app.part::<RequestIds>().take(holder, asked, max, now).inspect_err(|_| {
            count(&gateway, "refused");
            let actor = caller.actor();
            debug!(%gateway, %actor, max, "a principal has used up its request ids on a gateway");
        })?;
    }
    Ok(Some(Counted { app: Arc::clone(app), gateway, place, ended: false }))
}

/// Parses an id in the form that gateways accept: a UUID with 36 characters that is not nil.
fn parse(id: &str) -> Option<Uuid> {
    Uuid::try_parse(id).ok().filter(|parsed| id.len() == 36 && !parsed.is_nil())
}

impl Counted {
    /// Records the status code of the call.
    pub(super) fn finish(mut self, code: i32) {
        self.ended = true;
        let code = Code::from(code);
        if code == Code::Ok {
            if let Some((holder, asked)) = self.place {
                let now = self.app.clock.now().unix_seconds();
                self.app.part::<RequestIds>().confirm(holder, asked, now);
            }
            return count(&self.gateway, "confirmed");
        }
        let lost = [Code::Cancelled, Code::DeadlineExceeded, Code::Unavailable].contains(&code);
        count(&self.gateway, if lost { "lost" } else { "failed" });
    }
}

impl Drop for Counted {
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

    fn holder(user: i64) -> Holder {
        (GatewayId::from(1), PrincipalId::User(UserId::from(user)))
    }

    fn asked(id: u128) -> Asked {
        ("/o.v1.O/CreateSandbox", Uuid::from_u128(id))
    }

    #[test]
    fn the_request_id_share_of_a_principal_fills_and_frees_like_the_gateways_table() {
        let ids = RequestIds::default();
        for id in 1..=2 {
            ids.take(holder(1), asked(id), 2, 0).unwrap();
        }
        ids.take(holder(1), asked(2), 2, 0).expect("a repeat takes no place");
        let full = ids.take(holder(1), asked(3), 2, 0).unwrap_err();
        assert!(matches!(full, Error::Exhausted { reason: Reason::LimitReached, .. }), "{full:?}");
        ids.take(holder(2), asked(3), 2, 0).expect("another principal has a share of its own");

        ids.confirm(holder(1), asked(1), 10);
        let Err(Error::Exhausted { retry_in, .. }) = ids.take(holder(1), asked(3), 2, 20) else {
            panic!("a success is kept for a day");
        };
        assert_eq!(retry_in, Duration::from_secs(24 * 60 * 60 - 10));
        let later = 10 + CONFIRMED_SECONDS;
        ids.take(holder(1), asked(3), 2, later).expect("the success has left");
        ids.take(holder(1), asked(4), 2, later).expect_err("a failed one stays");
    }

    #[test]
    fn the_total_of_stored_request_ids_is_limited() {
        let ids = RequestIds::default();
        for id in 1..=KEPT_MAX {
            ids.take(holder(1), asked(id as u128), usize::MAX, 0).unwrap();
        }
        ids.take(holder(2), asked(1), 1, 0).unwrap();
        let shares = ids.shares.lock();
        assert_eq!((shares.kept, shares.of.len()), (1, 1));
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
