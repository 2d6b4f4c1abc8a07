//! Changes that weaken a pin: the role of its setters can make them, and under an approval workflow a review decides.

use super::rules;
use super::store::{self, Pin};
use crate::clock::Timestamp;
use crate::ctx::{Ctx, Tx};
use crate::db::types::SandboxRef;
use crate::error::Error;
use crate::resources::approvals::proposals::required::required;
use crate::resources::approvals::rule_changes::propose::propose;
use crate::resources::approvals::{Round, RuleContent};

/// A change of a pin.
pub(super) enum Change<T> {
    /// It was made.
    Made(T),
    /// It would weaken the pin, and this review decides about it.
    InReview(Box<Round>),
}

impl<T> Change<T> {
    /// Returns what was made.
    ///
    /// # Errors
    /// `APPROVAL_REQUIRED` if a review decides.
    pub(super) async fn made(self, ctx: &Ctx) -> Result<T, Error> {
        match self {
            Self::Made(made) => Ok(made),
            Self::InReview(round) => Err(required(ctx, &round).await?),
        }
    }
}

/// Checks that the caller may shorten or remove a pin. Returns the review that decides, if a workflow applies.
pub(super) async fn review(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    place: &SandboxRef,
    pin: &Pin,
    until: Option<Timestamp>,
) -> Result<Option<Box<Round>>, Error> {
    rules::check_weaken(ctx.role(), pin.setter_role)?;
    if !store::is_governed(tx, &place.gateway.name, &place.name).await? {
        return Ok(None);
    }
    let content = RuleContent::Pin {
        id: pin.id.get(),
        version: pin.version,
        before: pin.expires_at.map(Timestamp::unix_micros),
        after: until.map(Timestamp::unix_micros),
    };
    Ok(Some(Box::new(propose(ctx, tx, place, content).await?)))
}
