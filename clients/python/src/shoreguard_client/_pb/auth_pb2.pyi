from google.protobuf import timestamp_pb2 as _timestamp_pb2
from . import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SessionKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SESSION_KIND_UNSPECIFIED: _ClassVar[SessionKind]
    SESSION_KIND_PASSWORD: _ClassVar[SessionKind]
    SESSION_KIND_OIDC: _ClassVar[SessionKind]
    SESSION_KIND_DEVICE: _ClassVar[SessionKind]

class DeviceDecision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEVICE_DECISION_UNSPECIFIED: _ClassVar[DeviceDecision]
    DEVICE_DECISION_APPROVE: _ClassVar[DeviceDecision]
    DEVICE_DECISION_DENY: _ClassVar[DeviceDecision]

class DeviceScope(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEVICE_SCOPE_UNSPECIFIED: _ClassVar[DeviceScope]
    DEVICE_SCOPE_GATEWAY: _ClassVar[DeviceScope]
    DEVICE_SCOPE_SESSION: _ClassVar[DeviceScope]
SESSION_KIND_UNSPECIFIED: SessionKind
SESSION_KIND_PASSWORD: SessionKind
SESSION_KIND_OIDC: SessionKind
SESSION_KIND_DEVICE: SessionKind
DEVICE_DECISION_UNSPECIFIED: DeviceDecision
DEVICE_DECISION_APPROVE: DeviceDecision
DEVICE_DECISION_DENY: DeviceDecision
DEVICE_SCOPE_UNSPECIFIED: DeviceScope
DEVICE_SCOPE_GATEWAY: DeviceScope
DEVICE_SCOPE_SESSION: DeviceScope

class GetServerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerInfoResponse(_message.Message):
    __slots__ = ("version", "set_up", "wire_generations", "limits", "registration_enabled", "device_login_enabled")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SET_UP_FIELD_NUMBER: _ClassVar[int]
    WIRE_GENERATIONS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    REGISTRATION_ENABLED_FIELD_NUMBER: _ClassVar[int]
    DEVICE_LOGIN_ENABLED_FIELD_NUMBER: _ClassVar[int]
    version: str
    set_up: bool
    wire_generations: _containers.RepeatedScalarFieldContainer[str]
    limits: ServerLimits
    registration_enabled: bool
    device_login_enabled: bool
    def __init__(self, version: _Optional[str] = ..., set_up: bool = ..., wire_generations: _Optional[_Iterable[str]] = ..., limits: _Optional[_Union[ServerLimits, _Mapping]] = ..., registration_enabled: bool = ..., device_login_enabled: bool = ...) -> None: ...

class ServerLimits(_message.Message):
    __slots__ = ("page_size_max", "message_bytes_max", "request_id_seconds")
    PAGE_SIZE_MAX_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_SECONDS_FIELD_NUMBER: _ClassVar[int]
    page_size_max: int
    message_bytes_max: int
    request_id_seconds: int
    def __init__(self, page_size_max: _Optional[int] = ..., message_bytes_max: _Optional[int] = ..., request_id_seconds: _Optional[int] = ...) -> None: ...

class SetupRequest(_message.Message):
    __slots__ = ("setup_token", "email", "password")
    SETUP_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EMAIL_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    setup_token: str
    email: str
    password: str
    def __init__(self, setup_token: _Optional[str] = ..., email: _Optional[str] = ..., password: _Optional[str] = ...) -> None: ...

class SetupResponse(_message.Message):
    __slots__ = ("user_id", "email")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    EMAIL_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    email: str
    def __init__(self, user_id: _Optional[int] = ..., email: _Optional[str] = ...) -> None: ...

class AcceptInviteRequest(_message.Message):
    __slots__ = ("invite_token", "password")
    INVITE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    invite_token: str
    password: str
    def __init__(self, invite_token: _Optional[str] = ..., password: _Optional[str] = ...) -> None: ...

class AcceptInviteResponse(_message.Message):
    __slots__ = ("session_token", "expire_time", "role", "refresh_token", "refresh_expire_time")
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    REFRESH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REFRESH_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    session_token: str
    expire_time: _timestamp_pb2.Timestamp
    role: _common_pb2.Role
    refresh_token: str
    refresh_expire_time: _timestamp_pb2.Timestamp
    def __init__(self, session_token: _Optional[str] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., role: _Optional[_Union[_common_pb2.Role, str]] = ..., refresh_token: _Optional[str] = ..., refresh_expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RegisterRequest(_message.Message):
    __slots__ = ("email", "password")
    EMAIL_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    email: str
    password: str
    def __init__(self, email: _Optional[str] = ..., password: _Optional[str] = ...) -> None: ...

class RegisterResponse(_message.Message):
    __slots__ = ("session_token", "expire_time", "role", "refresh_token", "refresh_expire_time")
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    REFRESH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REFRESH_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    session_token: str
    expire_time: _timestamp_pb2.Timestamp
    role: _common_pb2.Role
    refresh_token: str
    refresh_expire_time: _timestamp_pb2.Timestamp
    def __init__(self, session_token: _Optional[str] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., role: _Optional[_Union[_common_pb2.Role, str]] = ..., refresh_token: _Optional[str] = ..., refresh_expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class LoginRequest(_message.Message):
    __slots__ = ("email", "password")
    EMAIL_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    email: str
    password: str
    def __init__(self, email: _Optional[str] = ..., password: _Optional[str] = ...) -> None: ...

class LoginResponse(_message.Message):
    __slots__ = ("session_token", "expire_time", "role", "refresh_token", "refresh_expire_time")
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    REFRESH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REFRESH_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    session_token: str
    expire_time: _timestamp_pb2.Timestamp
    role: _common_pb2.Role
    refresh_token: str
    refresh_expire_time: _timestamp_pb2.Timestamp
    def __init__(self, session_token: _Optional[str] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., role: _Optional[_Union[_common_pb2.Role, str]] = ..., refresh_token: _Optional[str] = ..., refresh_expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RefreshSessionRequest(_message.Message):
    __slots__ = ("refresh_token",)
    REFRESH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    refresh_token: str
    def __init__(self, refresh_token: _Optional[str] = ...) -> None: ...

class RefreshSessionResponse(_message.Message):
    __slots__ = ("session_token", "expire_time", "role", "refresh_token", "refresh_expire_time")
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    REFRESH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REFRESH_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    session_token: str
    expire_time: _timestamp_pb2.Timestamp
    role: _common_pb2.Role
    refresh_token: str
    refresh_expire_time: _timestamp_pb2.Timestamp
    def __init__(self, session_token: _Optional[str] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., role: _Optional[_Union[_common_pb2.Role, str]] = ..., refresh_token: _Optional[str] = ..., refresh_expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class LogoutRequest(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class LogoutResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ChangePasswordRequest(_message.Message):
    __slots__ = ("current_password", "new_password", "request_id")
    CURRENT_PASSWORD_FIELD_NUMBER: _ClassVar[int]
    NEW_PASSWORD_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    current_password: str
    new_password: str
    request_id: str
    def __init__(self, current_password: _Optional[str] = ..., new_password: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class ChangePasswordResponse(_message.Message):
    __slots__ = ("session_token", "expire_time", "refresh_token", "refresh_expire_time")
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    REFRESH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REFRESH_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    session_token: str
    expire_time: _timestamp_pb2.Timestamp
    refresh_token: str
    refresh_expire_time: _timestamp_pb2.Timestamp
    def __init__(self, session_token: _Optional[str] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., refresh_token: _Optional[str] = ..., refresh_expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("id", "kind", "gateway", "client_ip", "authenticate_time", "refresh_time", "expire_time", "current")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    CLIENT_IP_FIELD_NUMBER: _ClassVar[int]
    AUTHENTICATE_TIME_FIELD_NUMBER: _ClassVar[int]
    REFRESH_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    id: int
    kind: SessionKind
    gateway: str
    client_ip: str
    authenticate_time: _timestamp_pb2.Timestamp
    refresh_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    current: bool
    def __init__(self, id: _Optional[int] = ..., kind: _Optional[_Union[SessionKind, str]] = ..., gateway: _Optional[str] = ..., client_ip: _Optional[str] = ..., authenticate_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., refresh_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., current: bool = ...) -> None: ...

class ListSessionsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSessionsResponse(_message.Message):
    __slots__ = ("sessions", "next_page_token")
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[Session]
    next_page_token: str
    def __init__(self, sessions: _Optional[_Iterable[_Union[Session, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RevokeSessionRequest(_message.Message):
    __slots__ = ("session_id", "request_id")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: int
    request_id: str
    def __init__(self, session_id: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class RevokeSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListOidcProvidersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListOidcProvidersResponse(_message.Message):
    __slots__ = ("oidc_providers",)
    OIDC_PROVIDERS_FIELD_NUMBER: _ClassVar[int]
    oidc_providers: _containers.RepeatedCompositeFieldContainer[OidcProvider]
    def __init__(self, oidc_providers: _Optional[_Iterable[_Union[OidcProvider, _Mapping]]] = ...) -> None: ...

class OidcProvider(_message.Message):
    __slots__ = ("name", "display_name")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    display_name: str
    def __init__(self, name: _Optional[str] = ..., display_name: _Optional[str] = ...) -> None: ...

class BeginOidcLoginRequest(_message.Message):
    __slots__ = ("provider", "redirect_uri")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    REDIRECT_URI_FIELD_NUMBER: _ClassVar[int]
    provider: str
    redirect_uri: str
    def __init__(self, provider: _Optional[str] = ..., redirect_uri: _Optional[str] = ...) -> None: ...

class BeginOidcLoginResponse(_message.Message):
    __slots__ = ("authorization_url", "login_token", "expire_time")
    AUTHORIZATION_URL_FIELD_NUMBER: _ClassVar[int]
    LOGIN_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    authorization_url: str
    login_token: str
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, authorization_url: _Optional[str] = ..., login_token: _Optional[str] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CompleteOidcLoginRequest(_message.Message):
    __slots__ = ("login_token", "code", "state", "issuer")
    LOGIN_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    login_token: str
    code: str
    state: str
    issuer: str
    def __init__(self, login_token: _Optional[str] = ..., code: _Optional[str] = ..., state: _Optional[str] = ..., issuer: _Optional[str] = ...) -> None: ...

class CompleteOidcLoginResponse(_message.Message):
    __slots__ = ("session_token", "expire_time", "role", "refresh_token", "refresh_expire_time")
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    REFRESH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REFRESH_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    session_token: str
    expire_time: _timestamp_pb2.Timestamp
    role: _common_pb2.Role
    refresh_token: str
    refresh_expire_time: _timestamp_pb2.Timestamp
    def __init__(self, session_token: _Optional[str] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., role: _Optional[_Union[_common_pb2.Role, str]] = ..., refresh_token: _Optional[str] = ..., refresh_expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ExchangeOidcTokenRequest(_message.Message):
    __slots__ = ("provider", "token")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    provider: str
    token: str
    def __init__(self, provider: _Optional[str] = ..., token: _Optional[str] = ...) -> None: ...

class ExchangeOidcTokenResponse(_message.Message):
    __slots__ = ("session_token", "expire_time", "service_principal", "role")
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    SERVICE_PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    session_token: str
    expire_time: _timestamp_pb2.Timestamp
    service_principal: str
    role: _common_pb2.Role
    def __init__(self, session_token: _Optional[str] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., service_principal: _Optional[str] = ..., role: _Optional[_Union[_common_pb2.Role, str]] = ...) -> None: ...

class LinkOidcIdentityRequest(_message.Message):
    __slots__ = ("login_token", "code", "state", "issuer", "request_id")
    LOGIN_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    login_token: str
    code: str
    state: str
    issuer: str
    request_id: str
    def __init__(self, login_token: _Optional[str] = ..., code: _Optional[str] = ..., state: _Optional[str] = ..., issuer: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class LinkOidcIdentityResponse(_message.Message):
    __slots__ = ("provider",)
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    provider: str
    def __init__(self, provider: _Optional[str] = ...) -> None: ...

class UnlinkOidcIdentityRequest(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class UnlinkOidcIdentityResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ApproveDeviceRequest(_message.Message):
    __slots__ = ("user_code", "decision", "validate_only", "request_id", "scope")
    USER_CODE_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    user_code: str
    decision: DeviceDecision
    validate_only: bool
    request_id: str
    scope: DeviceScope
    def __init__(self, user_code: _Optional[str] = ..., decision: _Optional[_Union[DeviceDecision, str]] = ..., validate_only: bool = ..., request_id: _Optional[str] = ..., scope: _Optional[_Union[DeviceScope, str]] = ...) -> None: ...

class ApproveDeviceResponse(_message.Message):
    __slots__ = ("gateway", "role", "client_ip", "request_time", "expire_time", "scope", "other_network")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_IP_FIELD_NUMBER: _ClassVar[int]
    REQUEST_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    OTHER_NETWORK_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    role: _common_pb2.Role
    client_ip: str
    request_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    scope: DeviceScope
    other_network: bool
    def __init__(self, gateway: _Optional[str] = ..., role: _Optional[_Union[_common_pb2.Role, str]] = ..., client_ip: _Optional[str] = ..., request_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., scope: _Optional[_Union[DeviceScope, str]] = ..., other_network: bool = ...) -> None: ...

class BeginDeviceLoginRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BeginDeviceLoginResponse(_message.Message):
    __slots__ = ("device_code", "user_code", "expire_time", "poll_interval_seconds")
    DEVICE_CODE_FIELD_NUMBER: _ClassVar[int]
    USER_CODE_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    POLL_INTERVAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    device_code: str
    user_code: str
    expire_time: _timestamp_pb2.Timestamp
    poll_interval_seconds: int
    def __init__(self, device_code: _Optional[str] = ..., user_code: _Optional[str] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., poll_interval_seconds: _Optional[int] = ...) -> None: ...

class CompleteDeviceLoginRequest(_message.Message):
    __slots__ = ("device_code",)
    DEVICE_CODE_FIELD_NUMBER: _ClassVar[int]
    device_code: str
    def __init__(self, device_code: _Optional[str] = ...) -> None: ...

class CompleteDeviceLoginResponse(_message.Message):
    __slots__ = ("session_token", "expire_time", "role", "refresh_token", "refresh_expire_time", "email")
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    REFRESH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REFRESH_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    EMAIL_FIELD_NUMBER: _ClassVar[int]
    session_token: str
    expire_time: _timestamp_pb2.Timestamp
    role: _common_pb2.Role
    refresh_token: str
    refresh_expire_time: _timestamp_pb2.Timestamp
    email: str
    def __init__(self, session_token: _Optional[str] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., role: _Optional[_Union[_common_pb2.Role, str]] = ..., refresh_token: _Optional[str] = ..., refresh_expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., email: _Optional[str] = ...) -> None: ...

class GetCurrentIdentityRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCurrentIdentityResponse(_message.Message):
    __slots__ = ("actor", "principal", "role", "gateways", "gateways_cut", "expire_time", "bound_gateway")
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    GATEWAYS_FIELD_NUMBER: _ClassVar[int]
    GATEWAYS_CUT_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    BOUND_GATEWAY_FIELD_NUMBER: _ClassVar[int]
    actor: str
    principal: str
    role: _common_pb2.Role
    gateways: _containers.RepeatedCompositeFieldContainer[GatewayAccess]
    gateways_cut: bool
    expire_time: _timestamp_pb2.Timestamp
    bound_gateway: str
    def __init__(self, actor: _Optional[str] = ..., principal: _Optional[str] = ..., role: _Optional[_Union[_common_pb2.Role, str]] = ..., gateways: _Optional[_Iterable[_Union[GatewayAccess, _Mapping]]] = ..., gateways_cut: bool = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., bound_gateway: _Optional[str] = ...) -> None: ...

class GatewayAccess(_message.Message):
    __slots__ = ("gateway", "role")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    role: _common_pb2.Role
    def __init__(self, gateway: _Optional[str] = ..., role: _Optional[_Union[_common_pb2.Role, str]] = ...) -> None: ...
