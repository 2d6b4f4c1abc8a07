//! Opens the review of a weaker rule, in the transaction of the call that asks for it, which then fails.

use futures_util::future::BoxFuture;

use crate::ctx::{Ctx, Tx};
use crate::db::types::SandboxRef;
use crate::error::Error;
use crate::governance::{Governed, GovernedBy, Instead, People, Refusal, RuleScope};
use crate::resources::approvals::proposals::required::required;
use crate::resources::approvals::proposals::store::owner_by_name;
use crate::resources::approvals::rounds::{Content, Round, RuleContent, Summary};
use crate::resources::approvals::rules;
use crate::resources::approvals::{Bounds, NewRound, open};

/// A change of a rule, after the transaction of the call that asks for it.
#[derive(Debug)]
pub enum Change<T> {
    /// It was made.
    Made(T),
    /// It would weaken the rules, and this review decides about it.
    InReview(Box<Round>),
}

impl<T: Send> Change<T> {
    /// Returns what was made.
    ///
    /// # Errors
    /// `APPROVAL_REQUIRED` if a review decides, and those of the database.
    pub fn made<'a>(self, ctx: &'a Ctx) -> BoxFuture<'a, Result<T, Error>>
    where
        T: 'a,
    {
        Box::pin(async move {
            match self {
                Self::Made(made) => Ok(made),
                Self::InReview(round) => Err(required(ctx, &round).await?),
            }
        })
    }
}

/// Opens the review of a weaker rule of a place, or returns the open one of the same change. Nothing else may be stored
/// in the transaction: the call then fails with the error of [`required`].
///
/// # Errors
/// `GOVERNED` if a rule cannot be read by this version, or it is not known who holds the key of the calling service
/// principal; `LIMIT_REACHED` if the caller has too many open proposals on the gateway.
pub fn propose<'a>(
    ctx: &'a Ctx,
    tx: &'a mut Tx<'_>,
    place: &'a SandboxRef,
    content: RuleContent,
) -> BoxFuture<'a, Result<Round, Error>> {
    Box::pin(async move {
        let people = People::on_gateway(&ctx.app().snapshot, place.gateway.id);
        if ctx.principal().is_some_and(|caller| !people.is_holder_known(caller)) {
            let workflow = rules::in_force(tx, place).await?.workflows.pop();
            let scope = workflow.map_or(RuleScope::Gateway, |workflow| workflow.scope);
            let (by, instead) = (GovernedBy::Workflow(scope), Instead::RotateKey);
            return Err(Refusal::Governed(Governed { by, sandboxes: Vec::new(), instead }).into());
        }
        let content = Content::Rule(Box::new(content));
        let new = NewRound {
            place,
            content: &content,
            bounds: Bounds::default(),
            base_version: None,
            authors: &[],
            // A wider rule has no sandbox, and so no owner.
            owner: owner_by_name(tx, place).await?,
            summary: Summary::default(),
            previous: None,
            proposal: None,
            decides: false,
        };
        let round = open(ctx, tx, new).await?.round;
        ctx.add_audit_detail("outcome", "proposed");
        ctx.add_audit_detail("approval", round.id.get());
        Ok(round)
    })
}
