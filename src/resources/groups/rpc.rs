//! gRPC implementation of `GroupService`.

use std::sync::Arc;

use tonic::Request;

use super::domain::{self, Group, GroupUpdate, Member, NewGroup};
use crate::app::App;
use crate::db::page::PageSize;
use crate::error::Error;
use crate::etag;
use crate::names::{self, Name};
use crate::pb::v1 as pb;
use crate::pb::v1::group_service_server::{GroupService, GroupServiceServer};
use crate::resources::users::domain::Email;
use crate::rpc::call::{Reply, handle_read, handle_write};
use crate::rpc::wire;

/// The `GroupService` implementation.
#[derive(Debug)]
pub struct Groups(Arc<App>);

/// Returns the service, ready to be mounted.
pub fn service(app: &Arc<App>) -> GroupServiceServer<Groups> {
    let limit = app.config.server.message_bytes_max();
    GroupServiceServer::new(Groups(Arc::clone(app))).max_decoding_message_size(limit)
}

#[tonic::async_trait]
impl GroupService for Groups {
    async fn create_group(
        &self,
        request: Request<pb::CreateGroupRequest>,
    ) -> Reply<pb::CreateGroupResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let created = domain::create(&ctx, req.try_into()?).await?;
            Ok(pb::CreateGroupResponse { group: Some(created.into()) })
        })
        .await
    }

    async fn get_group(
        &self,
        request: Request<pb::GetGroupRequest>,
    ) -> Reply<pb::GetGroupResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let name = names::check_lookup_name("group", req.group)?;
            Ok(pb::GetGroupResponse { group: Some(domain::get(ctx, &name).await?.into()) })
        })
        .await
    }

    async fn list_groups(
        &self,
        request: Request<pb::ListGroupsRequest>,
    ) -> Reply<pb::ListGroupsResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let size = PageSize::parse(req.page_size)?;
            let (page, next_page_token) = domain::list(ctx, size, &req.page_token).await?;
            let groups = page.into_iter().map(Into::into).collect();
            Ok(pb::ListGroupsResponse { groups, next_page_token })
        })
        .await
    }

    async fn update_group(
        &self,
        request: Request<pb::UpdateGroupRequest>,
    ) -> Reply<pb::UpdateGroupResponse> {
        handle_write(&self.0, request, async move |ctx, mut req| {
            let name = names::check_lookup_name("group", std::mem::take(&mut req.group))?;
            let given_etag = std::mem::take(&mut req.etag);
            let updated = domain::update(&ctx, &name, req.try_into()?, &given_etag).await?;
            Ok(pb::UpdateGroupResponse { group: Some(updated.into()) })
        })
        .await
    }

    async fn delete_group(
        &self,
        request: Request<pb::DeleteGroupRequest>,
    ) -> Reply<pb::DeleteGroupResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let name = names::check_lookup_name("group", req.group)?;
            let removed = domain::delete(&ctx, &name, &req.etag).await?;
            Ok(pb::DeleteGroupResponse {
                members_removed: removed.members,
                gateway_roles_removed: removed.gateway_roles,
                selector_bindings_removed: removed.selector_bindings,
            })
        })
        .await
    }

    async fn add_group_member(
        &self,
        request: Request<pb::AddGroupMemberRequest>,
    ) -> Reply<pb::AddGroupMemberResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let name = names::check_lookup_name("group", req.group)?;
            let email = Email::parse("user", &req.user)?;
            let added = domain::add_member(&ctx, &name, &email).await?;
            Ok(pb::AddGroupMemberResponse { group_member: Some(added.into()) })
        })
        .await
    }

    async fn remove_group_member(
        &self,
        request: Request<pb::RemoveGroupMemberRequest>,
    ) -> Reply<pb::RemoveGroupMemberResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let name = names::check_lookup_name("group", req.group)?;
            let email = Email::parse("user", &req.user)?;
            domain::remove_member(&ctx, &name, &email).await?;
            Ok(pb::RemoveGroupMemberResponse {})
        })
        .await
    }

    async fn list_group_members(
        &self,
        request: Request<pb::ListGroupMembersRequest>,
    ) -> Reply<pb::ListGroupMembersResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let name = names::check_lookup_name("group", req.group)?;
            let size = PageSize::parse(req.page_size)?;
            let (page, next_page_token) =
                domain::list_members(ctx, &name, size, &req.page_token).await?;
            let group_members = page.into_iter().map(Into::into).collect();
            Ok(pb::ListGroupMembersResponse { group_members, next_page_token })
        })
        .await
    }
}

impl TryFrom<pb::CreateGroupRequest> for NewGroup {
    type Error = Error;

    fn try_from(req: pb::CreateGroupRequest) -> Result<Self, Error> {
        Ok(Self {
            name: Name::parse("name", &req.name)?,
            description: domain::description("description", &req.description)?,
            role: wire::parse_role("role", req.role)?,
        })
    }
}

impl TryFrom<pb::UpdateGroupRequest> for GroupUpdate {
    type Error = Error;

    fn try_from(req: pb::UpdateGroupRequest) -> Result<Self, Error> {
        let mut change = Self::default();
        for path in wire::mask_paths(req.update_mask)? {
            match path.as_str() {
                "name" => change.name = Some(Name::parse("name", &req.name)?),
                "description" => {
                    change.description =
                        Some(domain::description("description", &req.description)?);
                }
                "role" => change.role = Some(wire::parse_role("role", req.role)?),
                other => return Err(wire::unchangeable_path(other)),
            }
        }
        Ok(change)
    }
}

impl From<Group> for pb::Group {
    fn from(group: Group) -> Self {
        Self {
            id: group.id.get(),
            name: group.name,
            description: group.description.unwrap_or_default(),
            role: pb::Role::from(group.role).into(),
            member_count: group.members,
            create_time: Some(wire::to_timestamp(group.created_at)),
            etag: etag::from_version(group.version),
        }
    }
}

impl From<Member> for pb::GroupMember {
    fn from(member: Member) -> Self {
        Self {
            user: member.email,
            user_id: member.id.get(),
            role: pb::Role::from(member.role).into(),
            is_active: member.active,
        }
    }
}
