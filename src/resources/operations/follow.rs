//! Follows one operation for a stream.
//!
//! Invariants
//! - a state is sent only if its reader sees a difference to the previous one: the work also stores steps and leases;
//! - the final state is always sent, and ends the stream;
//! - a state that waits for a slow reader is dropped if the reader has lost the role that it needs.

use serde_json::Value;

use super::domain::{CallerAccess, OperationView, load, reload, to_view};
use super::feed::Waiter;
use super::result;
use super::sight::AccessWatch;
use super::store::Operation;
use crate::access::standing::RoleScope;
use crate::ctx::{Ctx, PendingCtx};
use crate::db::types::GatewayId;
use crate::error::Error;
use crate::role::Role;

/// Follows an operation to its end for a stream and returns each of its visible states.
#[derive(Debug)]
pub(super) struct Follower {
    ctx: Ctx,
    waiter: Waiter,
    id: String,
    /// First state of the stream, until it is sent.
    first: Option<Operation>,
    /// The last state as it was sent to the reader.
    reported: Option<Operation>,
    ended: bool,
    access: AccessWatch,
}

impl Follower {
    /// Starts with the current state.
    pub(super) async fn start(pending: &PendingCtx, id: &str) -> Result<Self, Error> {
        let waiter = Waiter::new(pending.app(), id);
        let (ctx, row) = load(pending, id).await?;
        let access = AccessWatch::register(&ctx, &row, CallerAccess::new(&ctx, &row).own);
        let id = id.to_owned();
        Ok(Self { ctx, waiter, id, first: Some(row), reported: None, ended: false, access })
    }

    /// Returns the role that a caller needs to see a state, and where it must be held. `None` if it needs no role.
    pub(super) fn required_access(&self, shown: &OperationView) -> Option<(RoleScope, Role)> {
        let row = &shown.operation;
        let has_output = |shown: &Value| row.keeps_output || result::has_output(shown);
        let shows_output = shown.result.as_ref().is_some_and(has_output);
        required_access(CallerAccess::new(&self.ctx, row).own, row.gateway_id, shows_output)
    }

    /// Returns the next state. `None` after the final one.
    pub(super) async fn next(&mut self) -> Result<Option<OperationView>, Error> {
        if self.ended {
            return Ok(None);
        }
        loop {
            let row = if let Some(row) = self.first.take() {
                row
            } else {
                self.waiter.mark_seen();
                reload(&self.ctx, &self.id).await?
            };
            let visible = Some(visible_part(&row));
            if visible != self.reported {
                self.reported = visible;
                self.ended = row.status.is_terminal();
                return to_view(&self.ctx, row).await.map(Some);
            }
            tokio::select! {
                moved = self.waiter.changed() => moved?,
                refused = self.access.wait_lost(&self.ctx, &self.id) => return Err(refused),
            }
        }
    }
}

/// Returns the role that a caller needs to see a state. The same as for [`CallerAccess`]: the output of a command is
/// for admins, and for its own caller while that has a role.
fn required_access(own: bool, gateway: GatewayId, shows_output: bool) -> Option<(RoleScope, Role)> {
    let on = RoleScope::MaybeRemovedGateway(gateway);
    match (own, shows_output) {
        (true, false) => None,
        (true, true) => Some((on, Role::Viewer)),
        (false, false) => Some((on, Role::Operator)),
        (false, true) => Some((on, Role::Admin)),
    }
}

/// Returns an operation without the columns that no caller sees, and without the time of its last change, which
/// those columns change too.
fn visible_part(row: &Operation) -> Operation {
    Operation {
        updated_at: row.created_at,
        owner: None,
        fence: 0,
        step: String::new(),
        version: 0,
        ..row.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::resources::operations::OperationKind;
    use crate::resources::operations::state::Status;

    #[test]
    fn the_output_of_a_command_requires_admin_or_a_role_of_its_own_caller() {
        let on = RoleScope::MaybeRemovedGateway(GatewayId(3));
        for (own, shows_output, needs) in [
            (true, false, None),
            (true, true, Some((on, Role::Viewer))),
            (false, false, Some((on, Role::Operator))),
            (false, true, Some((on, Role::Admin))),
        ] {
            assert_eq!(required_access(own, GatewayId(3), shows_output), needs);
        }
    }
    fn running() -> Operation {
        Operation {
            id: "1".to_owned(),
            status: Status::Running,
            kind: OperationKind::Sandbox,
            percent: 30,
            message: Some("creating".to_owned()),
            error_message: None,
            error_code: None,
            actor: "sp:root".to_owned(),
            gateway_name: "edge".to_owned(),
            created_at: Timestamp::EPOCH,
            updated_at: Timestamp::EPOCH,
            completed_at: None,
            workspace: "default".to_owned(),
            sandbox: String::new(),
            principal: None,
            actor_role: "admin".to_owned(),
            gateway_id: GatewayId(3),
            request_id: String::new(),
            owner: None,
            fence: 1,
            step: String::new(),
            keeps_output: false,
            version: 1,
        }
    }

    #[test]
    fn a_state_is_new_only_if_its_reader_sees_a_difference() {
        let (base, later) = (running(), Timestamp::from_unix_seconds(1));
        for same in [
            Operation { updated_at: later, version: 2, ..base.clone() },
            Operation { step: "made".to_owned(), version: 2, ..base.clone() },
            Operation { owner: Some("another replica".to_owned()), fence: 2, ..base.clone() },
        ] {
            assert_eq!(visible_part(&same), visible_part(&base));
        }
        for other in [
            Operation { percent: 40, ..base.clone() },
            Operation { message: Some("waiting".to_owned()), ..base.clone() },
            Operation { message: None, ..base.clone() },
            Operation { sandbox: "box".to_owned(), ..base.clone() },
            Operation { status: Status::Cancelling, ..base.clone() },
            Operation { completed_at: Some(later), ..base.clone() },
            Operation { error_message: Some("why".to_owned()), ..base.clone() },
        ] {
            assert_ne!(visible_part(&other), visible_part(&base));
        }
    }
}
