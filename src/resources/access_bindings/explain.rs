//! Explanations of effective roles from the snapshot: of one subject, and of all subjects on a gateway.

use serde::{Deserialize, Serialize};

use super::domain::{HolderKind, Subject};
use crate::access::principal::PrincipalId;
use crate::access::roles::RoleExplanation;
use crate::access::snapshot::{ListPosition, PrincipalAccess};
use crate::ctx::{Ctx, ListKey};
use crate::db::page::PageSize;
use crate::error::{Error, Reason, ResourceKind};
use crate::role::Role;

/// A subject's effective role and its explanation.
#[derive(Debug)]
pub struct AccessExplanation {
    /// The subject.
    pub subject: Subject,
    /// The role, and the steps that led to it.
    pub explanation: RoleExplanation,
    /// Whether the subject can make calls now.
    pub may_call: bool,
}

/// Explains the effective role of a subject, globally or on a gateway. `None` is the caller. Access is checked here,
/// since callers can always ask about themselves: a caller without permission does not learn whether the gateway or the
/// subject exists.
pub fn explain(
    ctx: &Ctx,
    subject: Option<Subject>,
    gateway: &str,
) -> Result<AccessExplanation, Error> {
    let missing = || Error::Unauthenticated { reason: Reason::CredentialMissing };
    let caller = ctx.caller().ok_or_else(missing)?;
    let snapshot = &ctx.app().snapshot;
    let (on, held) = if gateway.is_empty() {
        (None, snapshot.global_role(caller.principal()))
    } else {
        let found = snapshot.find_gateway(caller.principal(), gateway);
        let (gateway, role) = found
            .filter(|(_, role)| *role > Role::None)
            .ok_or_else(|| Error::not_found(ResourceKind::Gateway, gateway))?;
        (Some(gateway.id), role)
    };
    let subject = match subject {
        Some(subject) => subject,
        None => caller_subject(caller.principal(), caller.actor()),
    };
    let asked = find_principal(ctx, &subject)?;
    if asked != Some(caller.principal()) && held < Role::Admin {
        let why = format!("role `admin` is needed to ask about others, the caller has `{held}`");
        return Err(Error::Denied { why });
    }
    let missing = || Error::not_found(subject.kind.resource_kind(), &subject.name);
    let asked = asked.ok_or_else(missing)?;
    let explanation = snapshot.explain(asked, on).ok_or_else(missing)?;
    Ok(AccessExplanation { may_call: snapshot.can_call(asked), subject, explanation })
}

fn caller_subject(principal: PrincipalId, actor: &str) -> Subject {
    match principal {
        PrincipalId::User(_) => Subject::new(HolderKind::User, actor),
        PrincipalId::ServicePrincipal(_) => {
            let name = actor.strip_prefix("sp:").unwrap_or(actor);
            Subject::new(HolderKind::ServicePrincipal, name)
        }
    }
}

fn find_principal(ctx: &Ctx, subject: &Subject) -> Result<Option<PrincipalId>, Error> {
    let snapshot = &ctx.app().snapshot;
    match subject.kind {
        HolderKind::User => Ok(snapshot.user_by_email(&subject.name).map(PrincipalId::User)),
        HolderKind::ServicePrincipal => {
            let found = snapshot.service_principal_by_name(&subject.name);
            Ok(found.map(PrincipalId::ServicePrincipal))
        }
        HolderKind::Group => {
            let why = "must be a user or a service principal: a group has no access of its own";
            Err(Error::invalid("subject", why))
        }
    }
}

/// Cursor of a list.
#[derive(Debug, Serialize, Deserialize)]
enum Position {
    User(String),
    ServicePrincipal(String),
}

/// Returns the subjects with at least the role `least` on the gateway of the call: users by e-mail address, then
/// service principals by name.
pub fn list(
    ctx: &Ctx,
    least: Role,
    size: PageSize,
    token: &str,
) -> Result<(Vec<PrincipalAccess>, String), Error> {
    let gateway = ctx.required_gateway()?.id;
    let question = format!("{gateway} {least}");
    let list = ListKey { method: "ListAccess", filter: question.as_bytes(), order: "kind, name" };
    let page = ctx.page_request::<Position>(list, size, token)?;
    let after = match page.after() {
        None => ListPosition::Start,
        Some(Position::User(email)) => ListPosition::User(email),
        Some(Position::ServicePrincipal(name)) => ListPosition::ServicePrincipal(name),
    };
    // One more than the page size, to find out whether there is a next page.
    let rows = ctx.app().snapshot.list_access(gateway, least, after, size.get() + 1);
    page.finish(rows, |last| {
        let name = last.name.to_string();
        match last.principal {
            PrincipalId::User(_) => Position::User(name),
            PrincipalId::ServicePrincipal(_) => Position::ServicePrincipal(name),
        }
    })
}
