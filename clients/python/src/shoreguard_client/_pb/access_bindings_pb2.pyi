from . import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AccessStepKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACCESS_STEP_KIND_UNSPECIFIED: _ClassVar[AccessStepKind]
    ACCESS_STEP_KIND_OWN_ROLE: _ClassVar[AccessStepKind]
    ACCESS_STEP_KIND_GROUP_ROLE: _ClassVar[AccessStepKind]
    ACCESS_STEP_KIND_OWN_BINDING: _ClassVar[AccessStepKind]
    ACCESS_STEP_KIND_OWN_SELECTOR: _ClassVar[AccessStepKind]
    ACCESS_STEP_KIND_GROUP_BINDING: _ClassVar[AccessStepKind]
    ACCESS_STEP_KIND_GROUP_SELECTOR: _ClassVar[AccessStepKind]

class AccessRule(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACCESS_RULE_UNSPECIFIED: _ClassVar[AccessRule]
    ACCESS_RULE_GLOBAL_ADMIN: _ClassVar[AccessRule]
    ACCESS_RULE_OWN: _ClassVar[AccessRule]
    ACCESS_RULE_GROUPS: _ClassVar[AccessRule]
    ACCESS_RULE_GLOBAL: _ClassVar[AccessRule]
ACCESS_STEP_KIND_UNSPECIFIED: AccessStepKind
ACCESS_STEP_KIND_OWN_ROLE: AccessStepKind
ACCESS_STEP_KIND_GROUP_ROLE: AccessStepKind
ACCESS_STEP_KIND_OWN_BINDING: AccessStepKind
ACCESS_STEP_KIND_OWN_SELECTOR: AccessStepKind
ACCESS_STEP_KIND_GROUP_BINDING: AccessStepKind
ACCESS_STEP_KIND_GROUP_SELECTOR: AccessStepKind
ACCESS_RULE_UNSPECIFIED: AccessRule
ACCESS_RULE_GLOBAL_ADMIN: AccessRule
ACCESS_RULE_OWN: AccessRule
ACCESS_RULE_GROUPS: AccessRule
ACCESS_RULE_GLOBAL: AccessRule

class Subject(_message.Message):
    __slots__ = ("user", "service_principal", "group")
    USER_FIELD_NUMBER: _ClassVar[int]
    SERVICE_PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    user: str
    service_principal: str
    group: str
    def __init__(self, user: _Optional[str] = ..., service_principal: _Optional[str] = ..., group: _Optional[str] = ...) -> None: ...

class GatewayRole(_message.Message):
    __slots__ = ("subject", "gateway", "role", "etag", "selector")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    subject: Subject
    gateway: str
    role: _common_pb2.Role
    etag: str
    selector: str
    def __init__(self, subject: _Optional[_Union[Subject, _Mapping]] = ..., gateway: _Optional[str] = ..., role: _Optional[_Union[_common_pb2.Role, str]] = ..., etag: _Optional[str] = ..., selector: _Optional[str] = ...) -> None: ...

class SetGatewayRoleRequest(_message.Message):
    __slots__ = ("subject", "gateway", "role", "etag", "request_id", "selector")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    subject: Subject
    gateway: str
    role: _common_pb2.Role
    etag: str
    request_id: str
    selector: str
    def __init__(self, subject: _Optional[_Union[Subject, _Mapping]] = ..., gateway: _Optional[str] = ..., role: _Optional[_Union[_common_pb2.Role, str]] = ..., etag: _Optional[str] = ..., request_id: _Optional[str] = ..., selector: _Optional[str] = ...) -> None: ...

class SetGatewayRoleResponse(_message.Message):
    __slots__ = ("gateway_role",)
    GATEWAY_ROLE_FIELD_NUMBER: _ClassVar[int]
    gateway_role: GatewayRole
    def __init__(self, gateway_role: _Optional[_Union[GatewayRole, _Mapping]] = ...) -> None: ...

class RemoveGatewayRoleRequest(_message.Message):
    __slots__ = ("subject", "gateway", "etag", "request_id", "selector")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    subject: Subject
    gateway: str
    etag: str
    request_id: str
    selector: str
    def __init__(self, subject: _Optional[_Union[Subject, _Mapping]] = ..., gateway: _Optional[str] = ..., etag: _Optional[str] = ..., request_id: _Optional[str] = ..., selector: _Optional[str] = ...) -> None: ...

class RemoveGatewayRoleResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListGatewayRolesRequest(_message.Message):
    __slots__ = ("gateway", "subject", "page_size", "page_token")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    subject: Subject
    page_size: int
    page_token: str
    def __init__(self, gateway: _Optional[str] = ..., subject: _Optional[_Union[Subject, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListGatewayRolesResponse(_message.Message):
    __slots__ = ("gateway_roles", "next_page_token")
    GATEWAY_ROLES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    gateway_roles: _containers.RepeatedCompositeFieldContainer[GatewayRole]
    next_page_token: str
    def __init__(self, gateway_roles: _Optional[_Iterable[_Union[GatewayRole, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class AccessStep(_message.Message):
    __slots__ = ("kind", "group", "selector", "role", "decided")
    KIND_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    DECIDED_FIELD_NUMBER: _ClassVar[int]
    kind: AccessStepKind
    group: str
    selector: str
    role: _common_pb2.Role
    decided: bool
    def __init__(self, kind: _Optional[_Union[AccessStepKind, str]] = ..., group: _Optional[str] = ..., selector: _Optional[str] = ..., role: _Optional[_Union[_common_pb2.Role, str]] = ..., decided: bool = ...) -> None: ...

class ExplainAccessRequest(_message.Message):
    __slots__ = ("subject", "gateway")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    subject: Subject
    gateway: str
    def __init__(self, subject: _Optional[_Union[Subject, _Mapping]] = ..., gateway: _Optional[str] = ...) -> None: ...

class ExplainAccessResponse(_message.Message):
    __slots__ = ("subject", "role", "global_role", "rule", "steps", "may_call")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    GLOBAL_ROLE_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    MAY_CALL_FIELD_NUMBER: _ClassVar[int]
    subject: Subject
    role: _common_pb2.Role
    global_role: _common_pb2.Role
    rule: AccessRule
    steps: _containers.RepeatedCompositeFieldContainer[AccessStep]
    may_call: bool
    def __init__(self, subject: _Optional[_Union[Subject, _Mapping]] = ..., role: _Optional[_Union[_common_pb2.Role, str]] = ..., global_role: _Optional[_Union[_common_pb2.Role, str]] = ..., rule: _Optional[_Union[AccessRule, str]] = ..., steps: _Optional[_Iterable[_Union[AccessStep, _Mapping]]] = ..., may_call: bool = ...) -> None: ...

class ListAccessRequest(_message.Message):
    __slots__ = ("gateway", "least_role", "page_size", "page_token")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    LEAST_ROLE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    least_role: _common_pb2.Role
    page_size: int
    page_token: str
    def __init__(self, gateway: _Optional[str] = ..., least_role: _Optional[_Union[_common_pb2.Role, str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class AccessEntry(_message.Message):
    __slots__ = ("subject", "role", "rule", "step")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    subject: Subject
    role: _common_pb2.Role
    rule: AccessRule
    step: AccessStep
    def __init__(self, subject: _Optional[_Union[Subject, _Mapping]] = ..., role: _Optional[_Union[_common_pb2.Role, str]] = ..., rule: _Optional[_Union[AccessRule, str]] = ..., step: _Optional[_Union[AccessStep, _Mapping]] = ...) -> None: ...

class ListAccessResponse(_message.Message):
    __slots__ = ("access_entries", "next_page_token")
    ACCESS_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    access_entries: _containers.RepeatedCompositeFieldContainer[AccessEntry]
    next_page_token: str
    def __init__(self, access_entries: _Optional[_Iterable[_Union[AccessEntry, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
