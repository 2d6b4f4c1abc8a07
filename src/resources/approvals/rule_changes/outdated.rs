//! Ends the reviews of rules that were changed in another way.

use futures_util::future::BoxFuture;

use super::CHANGED;
use crate::ctx::{Ctx, Tx};
use crate::db::Conn;
use crate::db::types::SandboxRef;
use crate::error::Error;
use crate::resources::approvals::rounds::open::supersede;
use crate::resources::approvals::rounds::{Content, RuleContent, clocks, store as rounds};
use crate::resources::approvals::rules::store::rule_changes_of;
use crate::resources::stored_rules::domain as stored_rules;

/// Ends the reviews of the workflow or pin of exactly a place of which the reviewed version is not stored any more: no
/// vote in them could lead to a change. Call it after each change or removal of a rule, in its transaction, which holds
/// the lock of the gateway as exclusive.
///
/// # Errors
/// Those of the database.
pub fn end_outdated<'a>(
    ctx: &'a Ctx,
    tx: &'a mut Tx<'_>,
    place: &'a SandboxRef,
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(async move {
        let open = rule_changes_of(tx, place).await?;
        if open.is_empty() {
            return Ok(());
        }
        let now = ctx.db().now(tx).await?;
        for mut round in open {
            let stored = rounds::content(tx, round.id).await?;
            let content = Content::decode(round.action, round.generation, &stored)?;
            let Content::Rule(content) = content else {
                return Err(Error::internal("a change of a rule whose content is a policy"));
            };
            if is_current(tx, place, &content).await? {
                continue;
            }
            if !clocks::end_if_due(ctx, tx, &mut round, now).await? {
                supersede(ctx, tx, &mut round, CHANGED, now).await?;
            }
        }
        Ok(())
    })
}

/// Returns whether the reviewed version of a rule is stored.
async fn is_current(
    conn: &mut Conn,
    place: &SandboxRef,
    content: &RuleContent,
) -> Result<bool, Error> {
    let gateway = &*place.gateway.name;
    Ok(match content {
        RuleContent::Workflow { id, version, .. } => {
            let stored = stored_rules::workflows_of(conn, gateway).await?;
            stored.iter().any(|stored| stored.id.get() == *id && stored.version == *version)
        }
        RuleContent::Pin { id, version, .. } => {
            let stored = stored_rules::pin_of(conn, gateway, &place.name).await?;
            stored.is_some_and(|stored| stored.id.get() == *id && stored.version == *version)
        }
    })
}
