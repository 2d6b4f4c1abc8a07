from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from . import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ServicePrincipal(_message.Message):
    __slots__ = ("id", "name", "role", "key_prefix", "created_by", "create_time", "last_used_time", "expire_time", "etag", "previous_key_expire_time")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    KEY_PREFIX_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_USED_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_KEY_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    id: int
    name: str
    role: _common_pb2.Role
    key_prefix: str
    created_by: int
    create_time: _timestamp_pb2.Timestamp
    last_used_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    etag: str
    previous_key_expire_time: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., role: _Optional[_Union[_common_pb2.Role, str]] = ..., key_prefix: _Optional[str] = ..., created_by: _Optional[int] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., last_used_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ..., previous_key_expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CreateServicePrincipalRequest(_message.Message):
    __slots__ = ("name", "role", "expire_time", "request_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    role: _common_pb2.Role
    expire_time: _timestamp_pb2.Timestamp
    request_id: str
    def __init__(self, name: _Optional[str] = ..., role: _Optional[_Union[_common_pb2.Role, str]] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreateServicePrincipalResponse(_message.Message):
    __slots__ = ("service_principal", "key")
    SERVICE_PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    service_principal: ServicePrincipal
    key: str
    def __init__(self, service_principal: _Optional[_Union[ServicePrincipal, _Mapping]] = ..., key: _Optional[str] = ...) -> None: ...

class GetServicePrincipalRequest(_message.Message):
    __slots__ = ("service_principal",)
    SERVICE_PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    service_principal: str
    def __init__(self, service_principal: _Optional[str] = ...) -> None: ...

class GetServicePrincipalResponse(_message.Message):
    __slots__ = ("service_principal",)
    SERVICE_PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    service_principal: ServicePrincipal
    def __init__(self, service_principal: _Optional[_Union[ServicePrincipal, _Mapping]] = ...) -> None: ...

class ListServicePrincipalsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListServicePrincipalsResponse(_message.Message):
    __slots__ = ("service_principals", "next_page_token")
    SERVICE_PRINCIPALS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    service_principals: _containers.RepeatedCompositeFieldContainer[ServicePrincipal]
    next_page_token: str
    def __init__(self, service_principals: _Optional[_Iterable[_Union[ServicePrincipal, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateServicePrincipalRequest(_message.Message):
    __slots__ = ("service_principal", "update_mask", "role", "expire_time", "etag", "request_id")
    SERVICE_PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    service_principal: str
    update_mask: _field_mask_pb2.FieldMask
    role: _common_pb2.Role
    expire_time: _timestamp_pb2.Timestamp
    etag: str
    request_id: str
    def __init__(self, service_principal: _Optional[str] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., role: _Optional[_Union[_common_pb2.Role, str]] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class UpdateServicePrincipalResponse(_message.Message):
    __slots__ = ("service_principal",)
    SERVICE_PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    service_principal: ServicePrincipal
    def __init__(self, service_principal: _Optional[_Union[ServicePrincipal, _Mapping]] = ...) -> None: ...

class RotateServicePrincipalRequest(_message.Message):
    __slots__ = ("service_principal", "etag", "request_id", "overlap")
    SERVICE_PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_FIELD_NUMBER: _ClassVar[int]
    service_principal: str
    etag: str
    request_id: str
    overlap: _duration_pb2.Duration
    def __init__(self, service_principal: _Optional[str] = ..., etag: _Optional[str] = ..., request_id: _Optional[str] = ..., overlap: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class RotateServicePrincipalResponse(_message.Message):
    __slots__ = ("service_principal", "key")
    SERVICE_PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    service_principal: ServicePrincipal
    key: str
    def __init__(self, service_principal: _Optional[_Union[ServicePrincipal, _Mapping]] = ..., key: _Optional[str] = ...) -> None: ...

class DeleteServicePrincipalRequest(_message.Message):
    __slots__ = ("service_principal", "etag", "request_id")
    SERVICE_PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    service_principal: str
    etag: str
    request_id: str
    def __init__(self, service_principal: _Optional[str] = ..., etag: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class DeleteServicePrincipalResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
