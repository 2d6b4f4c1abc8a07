//! gRPC implementation of `AccessService`.

use std::sync::Arc;

use tonic::Request;

use super::domain::{self, Binding, HolderKind, Scope, Subject};
use super::{explain, list};
use crate::access::principal::PrincipalId;
use crate::access::roles::{RoleExplanation, RoleRule, RoleStep, RoleStepKind};
use crate::access::snapshot;
use crate::app::App;
use crate::db::page::PageSize;
use crate::error::Error;
use crate::etag;
use crate::pb::v1 as pb;
use crate::pb::v1::access_service_server::{AccessService, AccessServiceServer};
use crate::role::Role;
use crate::rpc::call::{Reply, handle_read, handle_write};
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
        handle_write(&self.0, request, async move |ctx, req| {
            let role = wire::parse_role("role", req.role)?;
            let subject = required_subject(req.subject)?;
            let binding = domain::set(&ctx, subject, &req.selector, role, &req.etag).await?;
            Ok(pb::SetGatewayRoleResponse { gateway_role: Some(binding.into()) })
        })
        .await
    }

    async fn remove_gateway_role(
        &self,
        request: Request<pb::RemoveGatewayRoleRequest>,
    ) -> Reply<pb::RemoveGatewayRoleResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let subject = required_subject(req.subject)?;
            domain::remove(&ctx, subject, &req.selector, &req.etag).await?;
            Ok(pb::RemoveGatewayRoleResponse {})
        })
        .await
    }

    async fn list_gateway_roles(
        &self,
        request: Request<pb::ListGatewayRolesRequest>,
    ) -> Reply<pb::ListGatewayRolesResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let size = PageSize::parse(req.page_size)?;
            let subject = req.subject.map(parse_subject).transpose()?;
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
        handle_read(&self.0, request, async |ctx, req| {
            let given = req.subject.filter(|given| given.subject.is_some());
            let subject = given.map(parse_subject).transpose()?;
            Ok(explain::explain(ctx, subject, &req.gateway)?.into())
        })
        .await
    }

    async fn list_access(
        &self,
        request: Request<pb::ListAccessRequest>,
    ) -> Reply<pb::ListAccessResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let size = PageSize::parse(req.page_size)?;
            let said = req.least_role != i32::from(pb::Role::Unspecified);
            let least =
                if said { wire::parse_role("least_role", req.least_role)? } else { Role::Viewer };
            let (found, next_page_token) = explain::list(ctx, least, size, &req.page_token)?;
            let access = found.into_iter().map(Into::into).collect();
            Ok(pb::ListAccessResponse { access_entries: access, next_page_token })
        })
        .await
    }
}

fn required_subject(given: Option<pb::Subject>) -> Result<Subject, Error> {
    parse_subject(given.unwrap_or_default())
}

fn parse_subject(given: pb::Subject) -> Result<Subject, Error> {
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

fn to_pb_subject(subject: Subject) -> pb::Subject {
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
        let (gateway, selector) = match binding.scope {
            Scope::Gateway(name) => (name, String::new()),
            Scope::Selector(text) => (String::new(), text),
        };
        Self {
            subject: Some(to_pb_subject(binding.subject)),
            gateway,
            role: pb::Role::from(binding.role).into(),
            etag: etag::from_version(binding.version),
            selector,
        }
    }
}

fn step_kind(kind: RoleStepKind) -> pb::AccessStepKind {
    match kind {
        RoleStepKind::OwnRole => pb::AccessStepKind::OwnRole,
        RoleStepKind::GroupRole => pb::AccessStepKind::GroupRole,
        RoleStepKind::OwnBinding => pb::AccessStepKind::OwnBinding,
        RoleStepKind::OwnSelector => pb::AccessStepKind::OwnSelector,
        RoleStepKind::GroupBinding => pb::AccessStepKind::GroupBinding,
        RoleStepKind::GroupSelector => pb::AccessStepKind::GroupSelector,
    }
}

fn rule(rule: RoleRule) -> pb::AccessRule {
    match rule {
        RoleRule::GlobalAdmin => pb::AccessRule::GlobalAdmin,
        RoleRule::Own => pb::AccessRule::Own,
        RoleRule::Groups => pb::AccessRule::Groups,
        RoleRule::Global => pb::AccessRule::Global,
    }
}

fn step(step: &RoleStep, decided: bool) -> pb::AccessStep {
    let name = |name: &Option<Arc<str>>| name.as_deref().unwrap_or_default().to_owned();
    pb::AccessStep {
        kind: step_kind(step.kind).into(),
        group: name(&step.group),
        selector: name(&step.selector),
        role: pb::Role::from(step.role).into(),
        decided,
    }
}

impl From<explain::AccessExplanation> for pb::ExplainAccessResponse {
    fn from(explained: explain::AccessExplanation) -> Self {
        let explain::AccessExplanation { subject, explanation, may_call } = explained;
        let RoleExplanation { role, global, rule: by, steps, deciding_index } = explanation;
        let steps = steps.iter().enumerate().map(|(at, said)| step(said, at == deciding_index));
        Self {
            subject: Some(to_pb_subject(subject)),
            role: pb::Role::from(role).into(),
            global_role: pb::Role::from(global).into(),
            rule: rule(by).into(),
            steps: steps.collect(),
            may_call,
        }
    }
}

impl From<snapshot::PrincipalAccess> for pb::AccessEntry {
    fn from(access: snapshot::PrincipalAccess) -> Self {
        let kind = match access.principal {
            PrincipalId::User(_) => HolderKind::User,
            PrincipalId::ServicePrincipal(_) => HolderKind::ServicePrincipal,
        };
        let explained = &access.explanation;
        Self {
            subject: Some(to_pb_subject(Subject { kind, name: access.name.to_string() })),
            role: pb::Role::from(explained.role).into(),
            rule: rule(explained.rule).into(),
            step: Some(step(explained.deciding_step(), true)),
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
            let about = pb::SetGatewayRoleRequest { subject, ..Default::default() }.audit_subject();
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
