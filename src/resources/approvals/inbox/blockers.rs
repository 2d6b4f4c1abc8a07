//! What prevents the write of a round, or that its sandbox loads it, for people.
//!
//! Invariant: no gateway is called. What concerns gateway and sandbox is what probes and the follower have stored.

use super::store::{self, SeenGateway};
use crate::clock::Timestamp;
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::error::Error;
use crate::openshell::sandbox::Phase;
use crate::resources::approvals::rounds::{self, Round};
use crate::resources::approvals::rules::{self, RulesInForce};
use crate::upstream::row::GatewayStatus;

/// Returns what prevents the write of a round now. A round that has ended has no blockers.
///
/// # Errors
/// Those of the database.
pub async fn read(
    ctx: &Ctx,
    conn: &mut Conn,
    round: &Round,
    in_force: &RulesInForce,
    now: Timestamp,
) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    if rounds::effective_state(round, now).is_closed() {
        return Ok(found);
    }
    let gateway = round.place.gateway.id;
    if ctx.app().snapshot.gateway_name(gateway).is_none() {
        found.push("the gateway was unregistered".to_owned());
    }
    if let Some(scope) = &in_force.unreadable {
        found.push(format!("the approval workflow of {scope} cannot be read by this version"));
    }
    // A pin does not stop the change of a rule, which may be the removal of that pin.
    if round.action.writes_policy() {
        match rules::require_unpinned(conn, round, now).await {
            Ok(()) => {}
            Err(Error::Refused { why, .. } | Error::Explained { why, .. }) => found.push(why),
            Err(error) => return Err(error),
        }
    }
    // The change of a rule is not written to a gateway.
    let Some(sandbox_id) = &round.sandbox_id else { return Ok(found) };
    if let Some(seen) = store::seen_gateway(conn, gateway).await? {
        found.extend(of_gateway(&seen));
    }
    let missing_since = store::missing_since(conn, &round.place, sandbox_id).await?;
    let seen = store::seen_sandbox(conn, &round.place).await?;
    found.extend(of_sandbox(sandbox_id, missing_since, seen));
    Ok(found)
}

fn of_gateway(seen: &SeenGateway) -> Vec<String> {
    let mut found = Vec::new();
    if seen.status == GatewayStatus::Unreachable {
        found.push(match seen.last_seen {
            Some(at) => format!("the gateway does not answer, and last answered at {at}"),
            None => "the gateway does not answer, and never has".to_owned(),
        });
    }
    if let Some(since) = seen.credential_unusable_since {
        let why = "the gateway has not accepted the credential of this server since";
        found.push(format!("{why} {since}"));
    }
    if let Some(since) = seen.global_policy_since {
        let why = "the gateway has a policy for all sandboxes, and the change waits until that is deleted";
        found.push(format!("{why}: it was first seen at {since}"));
    }
    found
}

/// `reviewed` is the gateway's id of the sandbox under review. `missing_since` is since when the gateway does not list
/// it, and `seen` the id and the phase of the sandbox that has the name.
fn of_sandbox(
    reviewed: &str,
    missing_since: Option<Timestamp>,
    seen: Option<(String, Phase)>,
) -> Option<String> {
    if let Some(since) = missing_since {
        return Some(format!("the gateway does not list the sandbox any more, since {since}"));
    }
    let (id, phase) = seen?;
    if id != reviewed {
        return Some("another sandbox has the name of the sandbox under review".to_owned());
    }
    let why = match phase {
        Phase::Stopping | Phase::Stopped => {
            "the sandbox is stopped: it loads the policy when it starts"
        }
        Phase::Completed => {
            "the main command of the sandbox has exited: it may not load the policy"
        }
        Phase::Error => "the sandbox has failed: it may not load the policy",
        Phase::Deleting => "the sandbox is being deleted",
        Phase::Unspecified
        | Phase::Provisioning
        | Phase::Ready
        | Phase::Unknown
        | Phase::Starting => return None,
    };
    Some(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

    fn healthy() -> SeenGateway {
        SeenGateway {
            status: GatewayStatus::Healthy,
            last_seen: Some(AT),
            credential_unusable_since: None,
            global_policy_since: None,
        }
    }

    #[test]
    fn a_gateway_blocks_if_it_does_not_answer_or_has_a_policy_for_all() {
        for (seen, expected) in [
            (healthy(), vec![]),
            (SeenGateway { status: GatewayStatus::Unknown, ..healthy() }, vec![]),
            (
                SeenGateway { status: GatewayStatus::Unreachable, ..healthy() },
                vec!["last answered at"],
            ),
            (
                SeenGateway { status: GatewayStatus::Unreachable, last_seen: None, ..healthy() },
                vec!["never has"],
            ),
            (
                SeenGateway {
                    credential_unusable_since: Some(AT),
                    global_policy_since: Some(AT),
                    ..healthy()
                },
                vec!["credential", "for all sandboxes"],
            ),
        ] {
            let found = of_gateway(&seen);
            assert_eq!(found.len(), expected.len(), "{found:?}");
            let mut pairs = found.iter().zip(expected);
            assert!(pairs.all(|(found, part)| found.contains(part)), "{found:?}");
        }
    }

    #[test]
    fn a_sandbox_blocks_if_it_is_missing_replaced_or_does_not_run() {
        let of = |missing: Option<Timestamp>, id: &str, phase| {
            of_sandbox("a", missing, Some((id.to_owned(), phase)))
        };
        assert_eq!(of_sandbox("a", None, None), None, "it was not seen yet");
        assert!(of(Some(AT), "a", Phase::Ready).unwrap().contains("does not list"));
        assert!(of(None, "b", Phase::Ready).unwrap().contains("another sandbox"));
        for phase in Phase::ALL {
            let runs = matches!(
                phase,
                Phase::Unspecified
                    | Phase::Provisioning
                    | Phase::Ready
                    | Phase::Unknown
                    | Phase::Starting
            );
            assert_eq!(of(None, "a", *phase).is_none(), runs, "{phase}");
        }
    }
}
