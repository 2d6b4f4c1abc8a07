//! Explanations of effective roles from the snapshot: of one subject, and of all subjects on a gateway.

use serde::{Deserialize, Serialize};

use super::domain::{HolderKind, Subject};
use crate::access::principal::PrincipalId;
use crate::access::roles::Explanation;
use crate::access::snapshot::{Access, After};
use crate::ctx::{Ctx, List};
use crate::db::page::PageSize;
use crate::error::{Error, Kind, Reason};
use crate::role::Role;

/// A subject's effective role and its explanation.
#[derive(Debug)]
pub struct Explained {
    /// The subject.
    pub subject: Subject,
    /// The role, and the steps that led to it.
    pub explanation: Explanation,
    /// Whether the subject can make calls now.
    pub may_call: bool,
}

/// Explains the effective role of a subject, globally or on a gateway. `None` is the caller. Access is checked here,
/// since callers can always ask about themselves: a caller without permission does not learn whether the gateway or the
/// subject exists.
pub fn explain(ctx: &Ctx, subject: Option<Subject>, gateway: &str) -> Result<Explained, Error> {
    let missing = || Error::Unauthenticated { reason: Reason::CredentialMissing };
    let caller = ctx.caller().ok_or_else(missing)?;
    let snapshot = &ctx.app().snapshot;
    let (on, held) = if gateway.is_empty() {
        (None, snapshot.global_role(caller.principal()))
    } else {
        let found = snapshot.gateway(caller.principal(), gateway);
        let (gateway, role) = found
            .filter(|(_, role)| *role > Role::None)
            .ok_or_else(|| Error::missing(Kind::Gateway, gateway))?;
        (Some(gateway.id), role)
    };
    let subject = match subject {
        Some(subject) => subject,
        None => oneself(caller.principal(), caller.actor()),
    };
    let asked = principal(ctx, &subject)?;
    if asked != Some(caller.principal()) && held < Role::Admin {
        let why = format!("role `admin` is needed to ask about others, the caller has `{held}`");
        return Err(Error::Denied { why });
    }
    let missing = || Error::missing(subject.kind.kind(), &subject.name);
    let asked = asked.ok_or_else(missing)?;
    let explanation = snapshot.explain(asked, on).ok_or_else(missing)?;
    Ok(Explained { may_call: snapshot.may_call(asked), subject, explanation })
}

fn oneself(principal: PrincipalId, actor: &str) -> Subject {
    match principal {
        PrincipalId::User(_) => Subject::new(HolderKind::User, actor),
        PrincipalId::ServicePrincipal(_) => {
            let name = actor.strip_prefix("sp:").unwrap_or(actor);
            Subject::new(HolderKind::ServicePrincipal, name)
        }
    }
}

fn principal(ctx: &Ctx, subject: &Subject) -> Result<Option<PrincipalId>, Error> {
    let snapshot = &ctx.app().snapshot;
    match subject.kind {
        HolderKind::User => Ok(snapshot.user(&subject.name).map(PrincipalId::User)),
        HolderKind::ServicePrincipal => {
            let found = snapshot.service_principal(&subject.name);
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
) -> Result<(Vec<Access>, String), Error> {
    let gateway = ctx.on_gateway()?.id;
    let question = format!("{gateway} {least}");
    let list = List { method: "ListAccess", filter: question.as_bytes(), order: "kind, name" };
    let page = ctx.page::<Position>(list, size, token)?;
    let after = match page.after() {
        None => After::Nobody,
        Some(Position::User(email)) => After::User(email),
        Some(Position::ServicePrincipal(name)) => After::ServicePrincipal(name),
    };
    // One more than the page size, to find out whether there is a next page.
    let rows = ctx.app().snapshot.access(gateway, least, after, size.get() + 1);
    page.finish(rows, |last| {
        let name = last.name.to_string();
        match last.principal {
            PrincipalId::User(_) => Position::User(name),
            PrincipalId::ServicePrincipal(_) => Position::ServicePrincipal(name),
        }
    })
}
