//! What the drafts of a sandbox have in common that are opened in one transaction. It is read once, since an agent can
//! propose many at once (T20).
//!
//! Invariant: the transaction holds the lock of the gateway, so that no other one opens a round of a draft.

use std::time::Duration;

use super::open::{OPEN_OF_GATEWAY_MAX, OPEN_OF_SANDBOX_MAX, OPENED_A_DAY_MAX, SeenDraft, Waiting};
use super::store;
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, Tx};
use crate::db::types::GatewayId;
use crate::error::Error;
use crate::resources::approvals::proposals::store as proposals;
use crate::resources::approvals::rounds::Clocks;
use crate::resources::approvals::rules;
use crate::resources::write_intents::domain as write_intents;

const DAY: Duration = Duration::from_hours(24);

/// What the drafts of a sandbox have in common that are opened in one transaction.
#[derive(Debug)]
pub struct Opening {
    now: Timestamp,
    numbers: Option<Numbers>,
    terms: Option<Terms>,
}

/// Numbers of rounds of drafts that limits are about.
#[derive(Debug, Clone, Copy)]
struct Numbers {
    open_of_sandbox: i64,
    open_of_gateway: i64,
    opened_in_a_day: i64,
}

/// What a new round gets from the rules in force and from its sandbox.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Its clocks.
    pub(super) clocks: Clocks,
    /// Whether another rule than the default one is in force.
    pub(super) is_governed: bool,
    /// Owner of the sandbox, if it is known.
    pub(super) owner: Option<PrincipalId>,
}

impl Opening {
    /// Takes the lock of the gateway as exclusive: the transaction must not hold it as shared.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn begin(ctx: &Ctx, tx: &mut Tx<'_>, gateway: GatewayId) -> Result<Self, Error> {
        write_intents::lock_exclusive(tx, gateway).await?;
        let now = ctx.db().now(tx).await?;
        Ok(Self { now, numbers: None, terms: None })
    }

    /// Returns the time at which the lock was taken.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// Returns the limit that a new round would exceed.
    pub(super) async fn limit(
        &mut self,
        tx: &mut Tx<'_>,
        seen: &SeenDraft<'_>,
    ) -> Result<Option<Waiting>, Error> {
        if seen.is_asked_for {
            return Ok(None);
        }
        let numbers = if let Some(known) = self.numbers {
            known
        } else {
            *self.numbers.insert(Numbers::read(tx, seen, self.now).await?)
        };
        Ok(numbers.limit())
    }

    /// Returns what a new round gets.
    pub(super) async fn terms(
        &mut self,
        tx: &mut Tx<'_>,
        seen: &SeenDraft<'_>,
    ) -> Result<Terms, Error> {
        if let Some(known) = self.terms {
            return Ok(known);
        }
        let rules = rules::in_force(tx, seen.place).await?.require_readable()?;
        let owner = proposals::owner(tx, seen.place, seen.sandbox_id).await?;
        let is_governed = !rules.workflows.is_empty();
        Ok(*self.terms.insert(Terms { clocks: Clocks::of(&rules.rules()), is_governed, owner }))
    }

    /// Counts a round that was opened.
    pub(super) fn count_opened(&mut self) {
        if let Some(numbers) = &mut self.numbers {
            numbers.open_of_sandbox += 1;
            numbers.open_of_gateway += 1;
            numbers.opened_in_a_day += 1;
        }
    }

    /// Reads the numbers again before the next round, since a round has ended.
    pub(super) fn forget_numbers(&mut self) {
        self.numbers = None;
    }
}

impl Numbers {
    async fn read(tx: &mut Tx<'_>, seen: &SeenDraft<'_>, now: Timestamp) -> Result<Self, Error> {
        let (gateway, name) = (seen.place.gateway.id, &seen.place.name);
        Ok(Self {
            open_of_sandbox: store::count_open(tx, gateway, Some(name)).await?,
            open_of_gateway: store::count_open(tx, gateway, None).await?,
            opened_in_a_day: store::count_opened(tx, seen.place, now.minus(DAY)).await?,
        })
    }

    fn limit(self) -> Option<Waiting> {
        if self.open_of_sandbox >= OPEN_OF_SANDBOX_MAX {
            return Some(Waiting::SandboxFull);
        }
        if self.open_of_gateway >= OPEN_OF_GATEWAY_MAX {
            return Some(Waiting::GatewayFull);
        }
        (self.opened_in_a_day >= OPENED_A_DAY_MAX).then_some(Waiting::DayFull)
    }
}
