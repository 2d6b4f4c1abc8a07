//! Effect of a change of labels on access, for the audit log (T07).

use serde_json::{Value, json};

use crate::access::snapshot::RoleChange;
use crate::ctx::Ctx;
use crate::db::types::GatewayId;
use crate::labels::Labels;

/// Maximum number of subjects listed in an audit entry; all are counted.
const NAMED_MAX: usize = 20;

/// Adds to the audit entry which subjects gain or lose roles on a gateway by a change of its labels. Must be called
/// after the commit and before the snapshot has the change.
pub fn record_access_changes(ctx: &Ctx, gateway: GatewayId, before: &Labels, after: &Labels) {
    let (before, after) = (before.access_labels(), after.access_labels());
    if before == after {
        return;
    }
    let moved = ctx.app().snapshot.role_changes(gateway, &before, &after);
    let (gained, lost): (Vec<RoleChange>, Vec<RoleChange>) =
        moved.into_iter().partition(|m| m.to > m.from);
    for (key, who) in [("access_gained", gained), ("access_lost", lost)] {
        if !who.is_empty() {
            ctx.add_audit_detail(key, to_json(&who));
        }
    }
}

fn to_json(moved: &[RoleChange]) -> Value {
    let named = moved
        .iter()
        .take(NAMED_MAX)
        .map(|one| json!({ "who": &*one.actor, "from": one.from.as_str(), "to": one.to.as_str() }));
    json!({ "count": moved.len(), "first": named.collect::<Vec<Value>>() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::role::Role;

    #[test]
    fn the_first_affected_callers_are_named_and_all_are_counted() {
        let moved = |n: usize| RoleChange {
            actor: format!("sp:{n:03}").into(),
            from: Role::None,
            to: Role::Viewer,
        };
        for (count, named) in [(1, 1), (NAMED_MAX, NAMED_MAX), (NAMED_MAX + 1, NAMED_MAX)] {
            let shown = to_json(&(0..count).map(moved).collect::<Vec<_>>());
            assert_eq!(shown["count"], count);
            assert_eq!(shown["first"].as_array().unwrap().len(), named);
            assert_eq!(
                shown["first"][0],
                json!({ "who": "sp:000", "from": "none", "to": "viewer" })
            );
        }
    }
}
