//! gRPC implementation of `AccessService`.

use std::sync::Arc;

use tonic::Request;

use super::domain::{self, Binding, HolderKind, On, Subject};
use super::{explain, list};
use crate::access::principal::PrincipalId;
use crate::access::roles::{Explanation, Rule, Step, StepKind};
use crate::access::snapshot;
use crate::app::App;
use crate::db::page::PageSize;
use crate::error::Error;
use crate::etag;
use crate::pb::v1 as pb;
use crate::pb::v1::access_service_server::{AccessService, AccessServiceServer};
use crate::role::Role;
use crate::rpc::call::{Reply, call, call_write};
use crate::rpc::wire;

/// The `AccessService` implementation.
#[derive(Debug)]
pub struct Access(Arc<App>);

/// Returns the service, ready to be mounted.
pub fn service(app: &Arc<App>) -> AccessServiceServer<Access> {
    let limit = app.config.server.message_bytes_max();
    AccessServiceServer::new(Access(Arc::clone(app))).max_decoding_message_size(limit)
}

#[tonic::async_trait]
impl AccessService for Access {
    async fn set_gateway_role(
        &self,
        request: Request<pb::SetGatewayRoleRequest>,
    ) -> Reply<pb::SetGatewayRoleResponse> {
        call_write(&self.0, request, async move |ctx, req| {
            let role = wire::role("role", req.role)?;
            let subject = required(req.subject)?;
            let binding = domain::set(&ctx, subject, &req.selector, role, &req.etag).await?;
            Ok(pb::SetGatewayRoleResponse { gateway_role: Some(binding.into()) })
        })
        .await
    }

    async fn remove_gateway_role(
        &self,
        request: Request<pb::RemoveGatewayRoleRequest>,
    ) -> Reply<pb::RemoveGatewayRoleResponse> {
        call_write(&self.0, request, async move |ctx, req| {
            let subject = required(req.subject)?;
            domain::remove(&ctx, subject, &req.selector, &req.etag).await?;
            Ok(pb::RemoveGatewayRoleResponse {})
        })
        .await
    }

    async fn list_gateway_roles(
        &self,
        request: Request<pb::ListGatewayRolesRequest>,
    ) -> Reply<pb::ListGatewayRolesResponse> {
        call(&self.0, request, async |ctx, req| {
            let size = PageSize::parse(req.page_size)?;
            let subject = req.subject.map(subject).transpose()?;
            let (found, next_page_token) = list::list(ctx, subject, size, &req.page_token).await?;
            let gateway_roles = found.into_iter().map(Into::into).collect();
            Ok(pb::ListGatewayRolesResponse { gateway_roles, next_page_token })
        })
        .await
    }

    async fn explain_access(
        &self,
        request: Request<pb::ExplainAccessRequest>,
    ) -> Reply<pb::ExplainAccessResponse> {
        call(&self.0, request, async |ctx, req| {
            let said = req.subject.filter(|given| given.subject.is_some());
            let subject = said.map(subject).transpose()?;
            Ok(explain::explain(ctx, subject, &req.gateway)?.into())
        })
        .await
    }

    async fn list_access(
        &self,
        request: Request<pb::ListAccessRequest>,
    ) -> Reply<pb::ListAccessResponse> {
        call(&self.0, request, async |ctx, req| {
            let size = PageSize::parse(req.page_size)?;
            let said = req.least_role != i32::from(pb::Role::Unspecified);
            let least = if said { wire::role("least_role", req.least_role)? } else { Role::Viewer };
            let (found, next_page_token) = explain::list(ctx, least, size, &req.page_token)?;
            let access = found.into_iter().map(Into::into).collect();
            Ok(pb::ListAccessResponse { access_entries: access, next_page_token })
        })
        .await
    }
}

fn required(given: Option<pb::Subject>) -> Result<Subject, Error> {
    subject(given.unwrap_or_default())
}

fn subject(given: pb::Subject) -> Result<Subject, Error> {
    use pb::subject::Subject as Given;
    let (kind, name) = match given.subject {
        Some(Given::User(email)) => (HolderKind::User, email),
        Some(Given::ServicePrincipal(name)) => (HolderKind::ServicePrincipal, name),
        Some(Given::Group(name)) => (HolderKind::Group, name),
        None => (HolderKind::User, String::new()),
    };
    if name.is_empty() {
        return Err(Error::invalid("subject", "must name a user, a service principal or a group"));
    }
    Ok(Subject::new(kind, &name))
}

fn shown(subject: Subject) -> pb::Subject {
    use pb::subject::Subject as Shown;
    let Subject { kind, name } = subject;
    let shown = match kind {
        HolderKind::User => Shown::User(name),
        HolderKind::ServicePrincipal => Shown::ServicePrincipal(name),
        HolderKind::Group => Shown::Group(name),
    };
    pb::Subject { subject: Some(shown) }
}

impl From<Binding> for pb::GatewayRole {
    fn from(binding: Binding) -> Self {
        let (gateway, selector) = match binding.on {
            On::Gateway(name) => (name, String::new()),
            On::Selector(text) => (String::new(), text),
        };
        Self {
            subject: Some(shown(binding.subject)),
            gateway,
            role: pb::Role::from(binding.role).into(),
            etag: etag::of(binding.version),
            selector,
        }
    }
}

fn step_kind(kind: StepKind) -> pb::AccessStepKind {
    match kind {
        StepKind::OwnRole => pb::AccessStepKind::OwnRole,
        StepKind::GroupRole => pb::AccessStepKind::GroupRole,
        StepKind::OwnBinding => pb::AccessStepKind::OwnBinding,
        StepKind::OwnSelector => pb::AccessStepKind::OwnSelector,
        StepKind::GroupBinding => pb::AccessStepKind::GroupBinding,
        StepKind::GroupSelector => pb::AccessStepKind::GroupSelector,
    }
}

fn rule(rule: Rule) -> pb::AccessRule {
    match rule {
        Rule::GlobalAdmin => pb::AccessRule::GlobalAdmin,
        Rule::Own => pb::AccessRule::Own,
        Rule::Groups => pb::AccessRule::Groups,
        Rule::Global => pb::AccessRule::Global,
    }
}

fn step(step: &Step, decided: bool) -> pb::AccessStep {
    let name = |name: &Option<Arc<str>>| name.as_deref().unwrap_or_default().to_owned();
    pb::AccessStep {
        kind: step_kind(step.kind).into(),
        group: name(&step.group),
        selector: name(&step.selector),
        role: pb::Role::from(step.role).into(),
        decided,
    }
}

impl From<explain::Explained> for pb::ExplainAccessResponse {
    fn from(explained: explain::Explained) -> Self {
        let explain::Explained { subject, explanation, may_call } = explained;
        let Explanation { role, global, rule: by, steps, decided } = explanation;
        let steps = steps.iter().enumerate().map(|(at, said)| step(said, at == decided));
        Self {
            subject: Some(shown(subject)),
            role: pb::Role::from(role).into(),
            global_role: pb::Role::from(global).into(),
            rule: rule(by).into(),
            steps: steps.collect(),
            may_call,
        }
    }
}

impl From<snapshot::Access> for pb::AccessEntry {
    fn from(access: snapshot::Access) -> Self {
        let kind = match access.principal {
            PrincipalId::User(_) => HolderKind::User,
            PrincipalId::ServicePrincipal(_) => HolderKind::ServicePrincipal,
        };
        let explained = &access.explained;
        Self {
            subject: Some(shown(Subject { kind, name: access.name.to_string() })),
            role: pb::Role::from(explained.role).into(),
            rule: rule(explained.rule).into(),
            step: Some(step(explained.deciding(), true)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::action::Action;
    use crate::access::policy::Rpc as _;

    #[test]
    fn the_audit_log_names_the_kind_of_subject_and_the_subject() {
        use pb::subject::Subject as Kind;
        let about = |kind: Option<Kind>| {
            let subject = kind.map(|kind| pb::Subject { subject: Some(kind) });
            let about = pb::SetGatewayRoleRequest { subject, ..Default::default() }.about();
            assert_eq!(about.action, Action::GATEWAY_ROLE_SET);
            about.target
        };
        let name = || "ci".to_owned();
        assert_eq!(about(Some(Kind::User(name()))), "user:ci");
        assert_eq!(about(Some(Kind::ServicePrincipal(name()))), "sp:ci");
        assert_eq!(about(Some(Kind::Group(name()))), "group:ci");
        assert_eq!(about(None), "");
    }
}
