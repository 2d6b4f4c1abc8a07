//! Idempotency keys: repeating a call with the same caller, method and `request_id` within 24 hours returns the first
//! response.
//!
//! The key is claimed in a row of its own before the action; the response is stored sealed in the same row. A claim of
//! a crashed process stays `running` until it expires, since the outcome of its call is unknown.

use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use uuid::Uuid;

use crate::access::policy::Method;
use crate::access::principal::Caller;
use crate::app::App;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, ObjectAccess};
use crate::db::idempotency as store;
use crate::db::types::GatewayId;
use crate::digest::Digest;
use crate::error::{Error, Reason};
use crate::role::Role;
use crate::seal::Aad;
use crate::workers::{TickResult, Worker};

/// Retention of a response.
pub const RETENTION: Duration = Duration::from_hours(24);
/// Retention of a response that contains a secret (T17).
pub const SECRET_RETENTION: Duration = Duration::from_mins(5);

/// Number of keys to delete per transaction.
const FORGET_MAX: usize = 1_000;

/// Deletes expired keys. Runs on one replica at a time, only to avoid redundant work.
pub const WORKER: Worker = Worker {
    name: "idempotency-retention",
    interval: |_| Duration::from_mins(5),
    lease: true,
    wake: None,
    tick: |ctx, _| Box::pin(delete_expired(ctx)),
};

async fn delete_expired(ctx: &Ctx) -> Result<TickResult, Error> {
    let limit = i64::try_from(FORGET_MAX).unwrap_or(i64::MAX);
    let now = ctx.now();
    let done = ctx
        .db()
        .long_transaction(async |conn| store::delete_expired(conn, now, limit).await)
        .await?;
    Ok(TickResult::batch(done, FORGET_MAX))
}

/// The result of claiming a key.
pub enum Claim {
    /// The call was already carried out: its response, and the access that the caller needs to get it again.
    Replay(StoredResponse),
    /// The call is the first one. If it has a key, the claim must be finished.
    First(Option<ClaimedKey>),
}

/// The stored response of a call.
///
/// It includes the gateway of the stored object, since that object may be deleted when the call is repeated.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StoredResponse {
    /// The encoded response.
    #[prost(bytes = "vec", tag = "1")]
    pub answer: Vec<u8>,
    /// The gateway of the stored object.
    #[prost(int64, optional, tag = "2")]
    pub gateway: Option<i64>,
    /// The least role that the call needed there.
    #[prost(string, tag = "3")]
    pub needed: String,
}

impl StoredResponse {
    /// Builds a stored response.
    #[must_use]
    pub fn new(answer: Vec<u8>, object_access: Option<ObjectAccess>) -> Self {
        let needed =
            object_access.map_or("", |object_access| object_access.needed.as_str()).to_owned();
        Self {
            answer,
            gateway: object_access.map(|object_access| object_access.gateway.get()),
            needed,
        }
    }

    /// Returns the gateway of the stored object, and the least role that the call needed there.
    ///
    /// # Errors
    /// `Internal` if the role does not exist: the response is not replayed.
    pub fn object_access(&self) -> Result<Option<ObjectAccess>, Error> {
        let Some(gateway) = self.gateway else { return Ok(None) };
        let needed = self.needed.parse::<Role>().map_err(Error::internal)?;
        Ok(Some(ObjectAccess { gateway: GatewayId(gateway), needed }))
    }
}

/// A claimed key.
pub struct ClaimedKey {
    id: i64,
    at: Timestamp,
    row: String,
    secret: bool,
}

fn aad(row: &str) -> Aad<'_> {
    Aad { table: "idempotency_keys", column: "kept_response", row, destination: "" }
}

/// Claims the key of a call, or returns the stored response. `caller` must have passed the check of this call, so that
/// a caller that lost its role gets no replay.
pub fn claim<'a>(
    app: &'a Arc<App>,
    caller: Option<&'a Caller>,
    method: &'static Method,
    request_id: &'a str,
    digest: Option<&'a Digest>,
) -> BoxFuture<'a, Result<Claim, Error>> {
    Box::pin(async move {
        if request_id.is_empty() {
            return Ok(Claim::First(None));
        }
        // The nil UUID is what a client sends that forgot to set an id: its calls would be repeats of each other.
        let id = Uuid::try_parse(request_id).ok().filter(|id| !id.is_nil());
        let invalid = || Error::invalid("request_id", "must be a UUID, and not the nil UUID");
        let id = id.ok_or_else(invalid)?.to_string();
        let caller = caller.ok_or_else(|| {
            Error::invalid("request_id", "must be empty for a method that needs no credential")
        })?;
        let digest = digest.map(|digest| digest.bytes.as_slice()).unwrap_or_default();
        let principal = caller.principal().to_string();
        let secret = app.returns_secret(method);
        let now = app.clock.now();
        let new = store::NewIdempotencyKey {
            principal: &principal,
            method: method.path,
            request_id: &id,
            digest,
            state: "running",
            secret,
            credential: Some(caller.credential_id()),
            created_at: now,
            expires_at: now.plus(if secret { SECRET_RETENTION } else { RETENTION }),
        };
        // If the response is lost, the key may be claimed although the call was not made. The error is in doubt then,
        // and a repeat is refused as running.
        let (row, first) = store::claim(&mut app.db.write().await?, &new).await?;
        let name = format!("{principal} {} {id}", method.path);
        if first {
            return Ok(Claim::First(Some(ClaimedKey { id: row.id, at: now, row: name, secret })));
        }
        if row.digest != digest {
            let why = "`request_id` was already used for another request: use a new UUID";
            return Err(Error::refused(Reason::RequestIdReused, why));
        }
        let other_credential = row.secret && row.credential != new.credential;
        let Some(sealed) = row.response.filter(|_| !other_credential) else {
            let why = "a call with this `request_id` is running, its outcome is unknown, or its secret response belongs \
                   to another credential: check the outcome before you use a new UUID";
            return Err(Error::refused(Reason::RequestInFlight, why));
        };
        let kept = app.master.open(&aad(&name), &sealed)?;
        Ok(Claim::Replay(StoredResponse::decode(kept.as_slice()).map_err(Error::internal)?))
    })
}

impl ClaimedKey {
    /// Stores the response. `None` releases the key, since nothing was done.
    pub fn finish(
        self,
        app: &Arc<App>,
        answer: Option<StoredResponse>,
    ) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let sealed = answer
                .map(|kept| app.master.seal(&aad(&self.row), &kept.encode_to_vec()))
                .transpose()?;
            let kept = app.clock.now().plus(if self.secret { SECRET_RETENTION } else { RETENTION });
            // Both can be repeated, so a lost response needs no transaction.
            let mut conn = app.db.write().await?;
            match &sealed {
                Some(sealed) => store::finish(&mut conn, self.id, self.at, sealed, kept).await,
                None => store::release(&mut conn, self.id, self.at).await,
            }
        })
    }
}
