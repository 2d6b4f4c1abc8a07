//! Idempotency keys: the same caller, method and `request_id` within 24 hours gets the first answer again.
//!
//! The key is claimed in a row of its own before anything happens; the answer is kept sealed beside it. A claim whose
//! process died stays `running` until it expires, since nobody can tell what became of the call.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use uuid::Uuid;

use crate::access::policy::Method;
use crate::access::principal::Caller;
use crate::app::App;
use crate::ctx::{Ctx, Settled};
use crate::db::idempotency as store;
use crate::db::types::GatewayId;
use crate::digest::Digest;
use crate::error::{Error, Reason};
use crate::role::Role;
use crate::seal::Aad;
use crate::workers::{Worked, Worker};

/// How long an answer is kept.
pub const KEPT: Duration = Duration::from_hours(24);
/// How long an answer with a secret in it is kept (T17).
pub const SECRET_KEPT: Duration = Duration::from_mins(5);

/// Keys that are forgotten in one transaction.
const FORGET_MAX: usize = 1_000;

/// Forgets keys that have expired. On one replica at a time, only to spare the others the work.
pub const WORKER: Worker = Worker {
    name: "idempotency-retention",
    every: |_| Duration::from_mins(5),
    lease: true,
    wake: None,
    tick: |ctx, _| Box::pin(forget(ctx)),
};

async fn forget(ctx: &Ctx) -> Result<Worked, Error> {
    let limit = i64::try_from(FORGET_MAX).unwrap_or(i64::MAX);
    let now = ctx.now();
    let done =
        ctx.db().transaction(async |conn| store::forget_expired(conn, now, limit).await).await?;
    Ok(Worked::batch(done, FORGET_MAX))
}

/// What to do with a call.
pub enum Claim {
    /// It was done before: this was the answer, and this is what the caller still needs to get it again.
    Replay(Kept),
    /// It is the first; where it has a key, the claim is to be finished.
    First(Option<Claimed>),
}

/// The answer of a call that was done, as it is kept.
///
/// Beside the answer stands the gateway that the stored object told, since the object may be gone when the call is
/// repeated.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Kept {
    /// The answer.
    #[prost(bytes = "vec", tag = "1")]
    pub answer: Vec<u8>,
    /// The gateway that the stored object told.
    #[prost(int64, optional, tag = "2")]
    pub gateway: Option<i64>,
    /// The least role that the call needed there.
    #[prost(string, tag = "3")]
    pub needed: String,
}

impl Kept {
    /// Keeps an answer.
    #[must_use]
    pub fn new(answer: Vec<u8>, settled: Option<Settled>) -> Self {
        let needed = settled.map_or("", |settled| settled.needed.as_str()).to_owned();
        Self { answer, gateway: settled.map(|settled| settled.gateway.get()), needed }
    }

    /// Returns the gateway that the stored object told, and the least role there.
    ///
    /// # Errors
    /// For a role that does not exist: nothing is answered then.
    pub fn settled(&self) -> Result<Option<Settled>, Error> {
        let Some(gateway) = self.gateway else { return Ok(None) };
        let needed = self.needed.parse::<Role>().map_err(Error::internal)?;
        Ok(Some(Settled { gateway: GatewayId(gateway), needed }))
    }
}

/// A key that is claimed.
pub struct Claimed {
    id: i64,
    row: String,
    secret: bool,
}

fn aad(row: &str) -> Aad<'_> {
    Aad { table: "idempotency_keys", column: "kept_response", row, destination: "" }
}

/// Claims the key of a call, or finds the answer that was given before. `caller` has passed the check of this very
/// call just now, so that a role that was lost replays nothing.
pub async fn claim(
    app: &Arc<App>,
    caller: Option<&Caller>,
    method: &'static Method,
    request_id: &str,
    digest: Option<&Digest>,
) -> Result<Claim, Error> {
    if request_id.is_empty() {
        return Ok(Claim::First(None));
    }
    let id = Uuid::try_parse(request_id)
        .map_err(|_| Error::invalid("request_id", "must be a UUID"))?
        .to_string();
    let caller =
        caller.ok_or_else(|| Error::invalid("request_id", "is not taken by a public method"))?;
    let digest = digest.map(|digest| digest.bytes.as_slice()).unwrap_or_default();
    let principal = caller.principal().to_string();
    let secret = app.answers_secret(method);
    let now = app.clock.now();
    let new = store::NewKey {
        principal: &principal,
        method: method.path,
        request_id: &id,
        digest,
        state: "running",
        secret,
        credential: Some(caller.credential()),
        created_at: now,
        expires_at: now.plus(if secret { SECRET_KEPT } else { KEPT }),
    };
    let (row, first) = app.db.transaction(async |conn| store::claim(conn, &new).await).await?;
    let name = format!("{principal} {} {id}", method.path);
    if first {
        return Ok(Claim::First(Some(Claimed { id: row.id, row: name, secret })));
    }
    if row.digest != digest {
        let why = "`request_id` was used with another body";
        return Err(Error::refused(Reason::RequestIdReused, why));
    }
    let other_credential = row.secret && row.credential != new.credential;
    let Some(sealed) = row.response.filter(|_| !other_credential) else {
        let why = "a call with this `request_id` is running, or its outcome is not known";
        return Err(Error::refused(Reason::RequestInFlight, why));
    };
    let kept = app.master.open(&aad(&name), &sealed)?;
    Ok(Claim::Replay(Kept::decode(kept.as_slice()).map_err(Error::internal)?))
}

impl Claimed {
    /// Keeps the answer; without one the key is free again, since nothing was done.
    pub async fn finish(self, app: &Arc<App>, answer: Option<Kept>) -> Result<(), Error> {
        let sealed = answer
            .map(|kept| app.master.seal(&aad(&self.row), &kept.encode_to_vec()))
            .transpose()?;
        let kept = app.clock.now().plus(if self.secret { SECRET_KEPT } else { KEPT });
        app.db
            .transaction(async |conn| match &sealed {
                Some(sealed) => store::finish(conn, self.id, sealed, kept).await,
                None => store::release(conn, self.id).await,
            })
            .await
    }
}
