//! Sends the rejections of the drafts of one sandbox.
//!
//! Invariant: a chunk is rejected only while it is pending, see [`rejections`]. What a rejection has removed all the same
//! is stored before the rejection is forgotten.

use std::collections::HashSet;

use super::pass::Pass;
use crate::db::types::SandboxName;
use crate::error::{Error, GatewayRefusal};
use crate::openshell::drafts::DraftChunk;
use crate::openshell::sandbox::Sandbox;
use crate::resources::approvals::drafts::rejections::store::Rejection;
use crate::resources::approvals::drafts::rejections::{self, Outgoing, Pending};

/// Rejections that one pass sends for a sandbox. The chunks are read again for each.
const SENT_MAX: usize = 50;
/// Bytes of these reads after which the other rejections wait for the next pass.
const SENT_BYTES_MAX: usize = 16 << 20;

/// Sends rejections of a sandbox to its gateway, for chunks that are pending and still ask for what was rejected.
/// Returns the ids of chunks that are not as they were listed any more: they were rejected, or have changed meanwhile.
pub(super) async fn send(
    pass: &Pass<'_>,
    sandbox: &Sandbox,
    chunks: &[DraftChunk],
    mut rejections: Vec<Rejection>,
) -> Result<HashSet<String>, Error> {
    rejections.truncate(SENT_MAX);
    pass.wait().await;
    let version = rejections::newest_version(&pass.gateway, &sandbox.full_name).await;
    pass.spend();
    let version = version?;
    let pending = Pending::new(&sandbox.id, chunks);
    let (mut told, mut changed, mut bytes) = (Vec::new(), HashSet::new(), 0);
    for rejection in rejections {
        let outgoing = Outgoing::read(pass.ctx, &pass.gateway, rejection).await?;
        let since = outgoing.sent_before();
        let mut was_sent = since.is_some() && pending.is_of(&outgoing.rejection);
        if pending.has(&outgoing) {
            if bytes >= SENT_BYTES_MAX {
                break;
            }
            note_sent(pass, &outgoing, version).await?;
            pass.wait().await;
            let answer = outgoing.reject(pass.ctx, &pass.gateway).await;
            bytes += pass.spend();
            let is_rejected = match answer {
                Ok(is_rejected) => is_rejected,
                // A chunk whose rejection is refused was deleted, or decided in between.
                Err(Error::Gateway {
                    refusal: GatewayRefusal::NotFound | GatewayRefusal::Refused,
                    ..
                }) => true,
                // Sent again in the next pass. What the gateway refuses does not stop the other drafts of the sandbox.
                Err(Error::Gateway { .. }) => break,
                Err(error) if told.is_empty() => return Err(error),
                Err(_) => break,
            };
            was_sent |= is_rejected;
            changed.insert(outgoing.rejection.chunk_id.clone());
        }
        told.push((outgoing, was_sent, since.unwrap_or(version)));
    }
    end_sending(pass, &sandbox.full_name, &told).await?;
    Ok(changed)
}

/// Stores the newest version of the policy before a rejection is sent.
async fn note_sent(pass: &Pass<'_>, outgoing: &Outgoing, version: u32) -> Result<(), Error> {
    let round = outgoing.rejection.round_id;
    pass.ctx
        .transaction(async |tx| {
            pass.check_held(tx).await?;
            rejections::store::set_sent(tx, round, version.into()).await
        })
        .await
}

/// Stores which rejections the gateway knows, and which of them have removed a rule. Each has whether it was sent, and
/// the newest version of the policy before.
async fn end_sending(
    pass: &Pass<'_>,
    sandbox: &SandboxName,
    told: &[(Outgoing, bool, u32)],
) -> Result<(), Error> {
    if told.is_empty() {
        return Ok(());
    }
    let sent = told.iter().filter(|(_, was_sent, _)| *was_sent);
    let sent: Vec<(&Outgoing, u32)> = sent.map(|(outgoing, _, since)| (outgoing, *since)).collect();
    pass.wait().await;
    let removals = rejections::removals(&pass.gateway, sandbox, &sent).await;
    pass.spend();
    let removals = removals?;
    let ctx = pass.ctx;
    ctx.transaction(async |tx| {
        pass.check_held(tx).await?;
        for (outgoing, ..) in told {
            let round = outgoing.rejection.round_id;
            let removal = removals.iter().find(|removal| removal.round == round).copied();
            rejections::end(ctx, tx, round, removal).await?;
        }
        Ok(())
    })
    .await
}
