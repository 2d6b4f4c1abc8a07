//! Commands about users, groups, service principals, roles and sessions.

use super::{Row, row};

const USER: &str = "email role effective_role=EFFECTIVE is_active=ACTIVE pending_invite=INVITED create_time~=AGE \
                    | id has_password oidc_provider invite_expire_time";
const SESSION: &str = "id kind current client_ip=FROM authenticate_time~=LOGIN expire_time=EXPIRES \
                       | gateway refresh_time";
const ROLE: &str = "subject.user=USER subject.service_principal=PRINCIPAL subject.group=GROUP role gateway selector";
/// One of them is set.
const SUBJECT: &str = "subject.user subject.service_principal subject.group";

pub(super) const ROWS: &[Row] = &[
    row("UserService/ListUsers", "user list").columns(USER),
    row("UserService/GetUser", "user get").takes("user"),
    row("UserService/InviteUser", "user invite").takes("email"),
    row("UserService/UpdateUser", "user update").takes("user"),
    row("UserService/DeleteUser", "user delete").takes("user").asks("Delete user `{user}`?"),
    row("UserService/ResendInvite", "user resend-invite").takes("user"),
    row("UserService/ResetPassword", "user reset-password")
        .takes("user")
        .asks("Reset the password of user `{user}` and end the sessions of this user?"),
    row("UserService/UnlockUser", "user unlock").takes("user"),
    row("UserService/ListUserSessions", "user sessions").takes("user").columns(SESSION),
    row("UserService/RevokeUserSessions", "user revoke-sessions")
        .takes("user")
        .asks("End sessions of user `{user}`?"),
    row("GroupService/ListGroups", "group list")
        .columns("name role member_count=MEMBERS description | id create_time"),
    row("GroupService/GetGroup", "group get").takes("group"),
    row("GroupService/CreateGroup", "group create").takes("name"),
    row("GroupService/UpdateGroup", "group update").takes("group"),
    row("GroupService/DeleteGroup", "group delete")
        .takes("group")
        .asks("Delete group `{group}` with its roles?"),
    row("GroupService/ListGroupMembers", "group members")
        .takes("group")
        .columns("user role is_active=ACTIVE | user_id"),
    row("GroupService/AddGroupMember", "group add").takes("group user"),
    row("GroupService/RemoveGroupMember", "group remove")
        .takes("group user")
        .target("user")
        .asks("Remove user `{user}` from group `{group}`?"),
    row("ServicePrincipalService/ListServicePrincipals", "service-principal list").columns(
        "name role key_prefix=KEY last_used_time~=USED expire_time=EXPIRES \
         | id created_by create_time previous_key_expire_time",
    ),
    row("ServicePrincipalService/GetServicePrincipal", "service-principal get")
        .takes("service_principal"),
    row("ServicePrincipalService/CreateServicePrincipal", "service-principal create").takes("name"),
    row("ServicePrincipalService/UpdateServicePrincipal", "service-principal update")
        .takes("service_principal"),
    row("ServicePrincipalService/RotateServicePrincipal", "service-principal rotate")
        .takes("service_principal")
        .asks("Replace the key of service principal `{service_principal}`?"),
    row("ServicePrincipalService/DeleteServicePrincipal", "service-principal delete")
        .takes("service_principal")
        .asks("Delete service principal `{service_principal}`?"),
    row("AccessService/ListGatewayRoles", "role list").flat("subject").columns(ROLE).name(SUBJECT),
    row("AccessService/SetGatewayRole", "role set").takes("HOLDER"),
    row("AccessService/RemoveGatewayRole", "role remove").takes("HOLDER").asks("Remove this role?"),
    row("AccessService/ListAccess", "role who")
        .takes("gateway")
        .columns(
            "subject.user=USER subject.service_principal=PRINCIPAL subject.group=GROUP role rule \
             | step.kind step.group step.selector",
        )
        .name(SUBJECT),
    row("AccessService/ExplainAccess", "role explain").takes("HOLDER?").name(SUBJECT),
    row("AuthService/ListSessions", "session list").columns(SESSION),
    row("AuthService/RevokeSession", "session revoke")
        .takes("session_id")
        .asks("End session {session_id}?"),
    row("AuthService/ChangePassword", "session change-password"),
    row("AuthService/AcceptInvite", "session accept-invite"),
    row("AuthService/Register", "session register").takes("email"),
    row("AuthService/ListOidcProviders", "session providers").columns("name display_name"),
    row("AuthService/ExchangeOidcToken", "session exchange")
        .takes("provider")
        .name("service_principal"),
    row("AuthService/LinkOidcIdentity", "session link-oidc").name("provider"),
    row("AuthService/UnlinkOidcIdentity", "session unlink-oidc")
        .asks("Remove the OIDC identity of your account?"),
    row("AuthService/ApproveDevice", "session approve-device"),
];
