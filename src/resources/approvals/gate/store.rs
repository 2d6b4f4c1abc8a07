//! Pins and workflows of a part of a gateway, as the gate reads them.

use diesel::dsl::exists;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::asked::Place;
use super::rules::Rules;
use crate::db::schema::{approval_workflows as w, policy_pins as p};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::resources::stored_rules::domain::{applying, locks};

/// Returns the pins and workflows that apply to a part of a gateway or to something in it.
pub(super) async fn rules_of(
    conn: &mut Conn,
    gateway: &str,
    place: &Place,
) -> Result<Rules, Error> {
    let (has_pins, has_workflows) = kinds_of(conn, gateway).await?;
    let (workspace, sandbox) = (place.workspace(), place.sandbox());
    let mut rules = Rules::default();
    if has_pins {
        rules.pins = locks(conn, gateway, workspace, sandbox).await?;
    }
    if has_workflows {
        let in_force = applying(conn, gateway, workspace, sandbox).await?;
        (rules.workflows, rules.doubt) = (in_force.workflows, in_force.doubt);
    }
    Ok(rules)
}

/// The stored state of a rule: its kind, its id and its version.
pub(super) type RuleVersion = (RuleKind, i64, i64);

/// The kind of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RuleKind {
    /// A pin.
    Pin,
    /// An approval workflow.
    Workflow,
}

/// Returns the versions of the rules that apply to a part of a gateway or to something in it: they are equal only if no
/// rule was stored, changed or removed.
pub(super) async fn versions_of(
    conn: &mut Conn,
    gateway: &str,
    place: &Place,
) -> Result<Vec<RuleVersion>, Error> {
    let pins: Vec<(i64, i64)> = on_conn!(conn, |c| {
        let mut query = p::table
            .filter(p::gateway_name.eq(gateway))
            .select((p::id, p::version))
            .order(p::id)
            .into_boxed();
        if let Some(workspace) = place.workspace() {
            query = query.filter(p::workspace.eq(workspace));
        }
        if let Some(sandbox) = place.sandbox() {
            query = query.filter(p::sandbox_name.eq(sandbox));
        }
        query.load(c).await
    })?;
    let workflows: Vec<(i64, i64)> = on_conn!(conn, |c| w::table
        .filter(w::gateway_name.is_null().or(w::gateway_name.eq(gateway)))
        .select((w::id, w::version))
        .order(w::id)
        .load(c)
        .await)?;
    let pins = pins.into_iter().map(|(id, version)| (RuleKind::Pin, id, version));
    let workflows = workflows.into_iter().map(|(id, version)| (RuleKind::Workflow, id, version));
    Ok(pins.chain(workflows).collect())
}

/// Returns whether a gateway has a pin, and whether it has a workflow. Most have neither, and one statement then is
/// enough. Otherwise only what there is must be read.
async fn kinds_of(conn: &mut Conn, gateway: &str) -> Result<(bool, bool), Error> {
    let pinned = exists(p::table.filter(p::gateway_name.eq(gateway)));
    let governed =
        exists(w::table.filter(w::gateway_name.is_null().or(w::gateway_name.eq(gateway))));
    Ok(on_conn!(conn, |c| diesel::select((pinned, governed)).get_result(c).await)?)
}
