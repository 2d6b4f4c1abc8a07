//! The right of an operation's work to continue: the credential that began it and the role of its caller.
//!
//! Invariants
//! - work stops within a second after its caller loses the right to it, as if it was canceled: it undoes what it has
//!   done;
//! - the replica that runs the work keeps the credential in memory. The sealed input of a resumable operation contains
//!   it too, so that a takeover checks it again; without it, a takeover checks the principal and its role;
//! - a lost right is stored as `cancelling`, so that a takeover undoes the work.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::OperationKind;
use super::begin::emit_event;
use super::leases::LeasedOperation;
use super::run::aad;
use super::store::{self, Operation};
use crate::access::live_work::WorkCondition;
use crate::access::principal::{PrincipalId, WorkCredential};
use crate::app::App;
use crate::ctx::Ctx;
use crate::db::types::{GatewayId, SessionId};
use crate::error::Error;
use crate::outbox::event_types;
use crate::resources::operations::leases::LocalOperations;
use crate::role::Role;

/// Prefix of an input that holds a credential. An input without it was stored by an older build or by the server
/// itself.
const CREDENTIAL_PREFIX: &[u8] = b"began ";

impl OperationKind {
    /// Returns the least role on the gateway that the work needs while it runs.
    #[must_use]
    pub fn required_role(self) -> Role {
        match self {
            Self::Sandbox | Self::Exec | Self::Policy => Role::Operator,
        }
    }
}

/// The credential as stored in the input of an operation. The principal is in the row.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct StoredCredential {
    version: Option<i64>,
    session: Option<i64>,
    bound: Option<i64>,
}

/// Returns a credential of which only the principal is known.
fn principal_only(principal: PrincipalId) -> WorkCredential {
    WorkCredential { principal, version: None, session: None, bound_gateway: None }
}

/// Returns the right that the work of an operation needs.
pub(super) fn required_right(row: &Operation, credential: WorkCredential) -> WorkCondition {
    WorkCondition { credential, gateway: row.gateway_id, min_role: row.kind.required_role() }
}

/// Seals the input of an operation together with the credential that began it.
pub(super) fn seal(
    app: &App,
    id: &str,
    began: Option<&WorkCredential>,
    input: &[u8],
) -> Result<Vec<u8>, Error> {
    app.master.seal(&aad("input", id), &encode_input(began, input)?)
}

/// Opens the input of an operation that is taken over. Returns the credential that began it, and the input.
pub(super) fn open(
    app: &App,
    row: &Operation,
    sealed: &[u8],
) -> Result<(Option<WorkCredential>, Vec<u8>), Error> {
    let plain = app.master.open(&aad("input", &row.id), sealed)?;
    let (stored, input) = decode_input(&plain)?;
    Ok((from_stored(row, stored), input.to_vec()))
}

/// Returns what the row says about the credential that began an operation: its principal. For takeovers without an
/// input.
pub(super) fn from_row(row: &Operation) -> Option<WorkCredential> {
    from_stored(row, None)
}

fn from_stored(row: &Operation, stored: Option<StoredCredential>) -> Option<WorkCredential> {
    let began = principal_only(row.principal_id()?);
    Some(match stored {
        None => began,
        Some(StoredCredential { version, session, bound }) => {
            let (session, bound) = (session.map(SessionId), bound.map(GatewayId));
            WorkCredential { version, session, bound_gateway: bound, ..began }
        }
    })
}

fn encode_input(began: Option<&WorkCredential>, input: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let Some(WorkCredential { version, session, bound_gateway: bound, .. }) = began.copied() else {
        return Ok(Zeroizing::new(input.to_vec()));
    };
    let (session, bound) = (session.map(SessionId::get), bound.map(GatewayId::get));
    let stored = StoredCredential { version, session, bound };
    let stored = serde_json::to_vec(&stored).map_err(Error::internal)?;
    // One allocation: when a vector grows, the memory that it leaves is not wiped.
    let parts: [&[u8]; 4] = [CREDENTIAL_PREFIX, &stored, b"\n", input];
    let mut plain = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len()).sum()));
    for part in parts {
        plain.extend_from_slice(part);
    }
    Ok(plain)
}

fn decode_input(plain: &[u8]) -> Result<(Option<StoredCredential>, &[u8]), Error> {
    let Some(rest) = plain.strip_prefix(CREDENTIAL_PREFIX) else { return Ok((None, plain)) };
    let broken = || Error::internal("the input of an operation is broken");
    let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(broken)?;
    let stored = serde_json::from_slice(&rest[..end]).map_err(Error::internal)?;
    Ok((Some(stored), &rest[end + 1..]))
}

/// Marks operations whose right was lost as `cancelling`, and emits the events.
pub(super) async fn store_losses(
    app: &Arc<App>,
    held: &[Arc<LeasedOperation>],
) -> Result<(), Error> {
    let ctx = Ctx::system(app, "operation-rights");
    for (held, gateway) in held.iter().filter_map(|held| Some((held, held.unstored_loss()?))) {
        let now = ctx.now();
        let stopped = ctx
            .transaction(async |tx| {
                let stopped = store::mark_cancelling(tx, &held.id, gateway, now).await?;
                if let Some(row) = &stopped {
                    emit_event(tx, &ctx, event_types::OPERATION_CANCELLING, row).await?;
                }
                Ok(stopped)
            })
            .await?;
        held.mark_loss_stored();
        if let Some(row) = stopped {
            app.part::<LocalOperations>().feed.notify(&row.id, row.version);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::types::UserId;

    #[test]
    fn a_stored_input_is_read_with_the_credential_that_started_the_operation() {
        let principal = PrincipalId::User(UserId(1));
        for (version, session, bound) in [
            (Some(4), Some(SessionId(9)), None),
            (Some(i64::MAX), Some(SessionId(i64::MAX)), Some(GatewayId(i64::MAX))),
            (None, None, None),
        ] {
            let began = WorkCredential { principal, version, session, bound_gateway: bound };
            for input in [b"".as_slice(), b"{}", b"a\nb", CREDENTIAL_PREFIX] {
                let plain = encode_input(Some(&began), input).unwrap();
                // The column has room for this much besides the longest input and the overhead of sealing.
                assert!(plain.len() - input.len() < 256);
                let (stored, back) = decode_input(&plain).unwrap();
                let stored = stored.unwrap();
                assert_eq!((stored.version, back), (version, input));
                assert_eq!(stored.session, session.map(SessionId::get));
                assert_eq!(stored.bound, bound.map(GatewayId::get));
            }
        }
        // Stored by an older build, or by the server itself.
        let plain = encode_input(None, b"{\"new\":1}").unwrap();
        let (stored, input) = decode_input(&plain).unwrap();
        assert!(stored.is_none());
        assert_eq!(input, b"{\"new\":1}");
        for broken in [b"began ".as_slice(), b"began {}", b"began x\n{}"] {
            assert!(decode_input(broken).is_err(), "{broken:?}");
        }
    }
}
