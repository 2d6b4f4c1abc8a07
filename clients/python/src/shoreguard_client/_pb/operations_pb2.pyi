from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OperationType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OPERATION_TYPE_UNSPECIFIED: _ClassVar[OperationType]
    OPERATION_TYPE_SANDBOX: _ClassVar[OperationType]
    OPERATION_TYPE_EXEC: _ClassVar[OperationType]
    OPERATION_TYPE_POLICY: _ClassVar[OperationType]

class OperationStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OPERATION_STATUS_UNSPECIFIED: _ClassVar[OperationStatus]
    OPERATION_STATUS_PENDING: _ClassVar[OperationStatus]
    OPERATION_STATUS_RUNNING: _ClassVar[OperationStatus]
    OPERATION_STATUS_CANCELLING: _ClassVar[OperationStatus]
    OPERATION_STATUS_SUCCEEDED: _ClassVar[OperationStatus]
    OPERATION_STATUS_FAILED: _ClassVar[OperationStatus]

class OperationErrorCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OPERATION_ERROR_CODE_UNSPECIFIED: _ClassVar[OperationErrorCode]
    OPERATION_ERROR_CODE_INTERNAL: _ClassVar[OperationErrorCode]
    OPERATION_ERROR_CODE_TIMEOUT: _ClassVar[OperationErrorCode]
    OPERATION_ERROR_CODE_CANCELLED: _ClassVar[OperationErrorCode]
    OPERATION_ERROR_CODE_ORPHANED: _ClassVar[OperationErrorCode]
    OPERATION_ERROR_CODE_GATEWAY_UNREACHABLE: _ClassVar[OperationErrorCode]
    OPERATION_ERROR_CODE_REFUSED: _ClassVar[OperationErrorCode]
    OPERATION_ERROR_CODE_CONCURRENT_CHANGE: _ClassVar[OperationErrorCode]
OPERATION_TYPE_UNSPECIFIED: OperationType
OPERATION_TYPE_SANDBOX: OperationType
OPERATION_TYPE_EXEC: OperationType
OPERATION_TYPE_POLICY: OperationType
OPERATION_STATUS_UNSPECIFIED: OperationStatus
OPERATION_STATUS_PENDING: OperationStatus
OPERATION_STATUS_RUNNING: OperationStatus
OPERATION_STATUS_CANCELLING: OperationStatus
OPERATION_STATUS_SUCCEEDED: OperationStatus
OPERATION_STATUS_FAILED: OperationStatus
OPERATION_ERROR_CODE_UNSPECIFIED: OperationErrorCode
OPERATION_ERROR_CODE_INTERNAL: OperationErrorCode
OPERATION_ERROR_CODE_TIMEOUT: OperationErrorCode
OPERATION_ERROR_CODE_CANCELLED: OperationErrorCode
OPERATION_ERROR_CODE_ORPHANED: OperationErrorCode
OPERATION_ERROR_CODE_GATEWAY_UNREACHABLE: OperationErrorCode
OPERATION_ERROR_CODE_REFUSED: OperationErrorCode
OPERATION_ERROR_CODE_CONCURRENT_CHANGE: OperationErrorCode

class Operation(_message.Message):
    __slots__ = ("id", "type", "status", "gateway", "workspace", "sandbox", "progress_percent", "progress_message", "result", "result_withheld", "error_code", "error_message", "actor", "create_time", "update_time", "complete_time")
    ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_PERCENT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    RESULT_WITHHELD_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_TIME_FIELD_NUMBER: _ClassVar[int]
    id: str
    type: OperationType
    status: OperationStatus
    gateway: str
    workspace: str
    sandbox: str
    progress_percent: int
    progress_message: str
    result: _struct_pb2.Struct
    result_withheld: bool
    error_code: OperationErrorCode
    error_message: str
    actor: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    complete_time: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., type: _Optional[_Union[OperationType, str]] = ..., status: _Optional[_Union[OperationStatus, str]] = ..., gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., progress_percent: _Optional[int] = ..., progress_message: _Optional[str] = ..., result: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., result_withheld: bool = ..., error_code: _Optional[_Union[OperationErrorCode, str]] = ..., error_message: _Optional[str] = ..., actor: _Optional[str] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., complete_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetOperationRequest(_message.Message):
    __slots__ = ("operation",)
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    operation: str
    def __init__(self, operation: _Optional[str] = ...) -> None: ...

class GetOperationResponse(_message.Message):
    __slots__ = ("operation",)
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    operation: Operation
    def __init__(self, operation: _Optional[_Union[Operation, _Mapping]] = ...) -> None: ...

class ListOperationsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "gateway", "status", "type", "mine_only")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MINE_ONLY_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    gateway: str
    status: OperationStatus
    type: OperationType
    mine_only: bool
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., gateway: _Optional[str] = ..., status: _Optional[_Union[OperationStatus, str]] = ..., type: _Optional[_Union[OperationType, str]] = ..., mine_only: bool = ...) -> None: ...

class ListOperationsResponse(_message.Message):
    __slots__ = ("operations", "next_page_token")
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    operations: _containers.RepeatedCompositeFieldContainer[Operation]
    next_page_token: str
    def __init__(self, operations: _Optional[_Iterable[_Union[Operation, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WaitOperationRequest(_message.Message):
    __slots__ = ("operation", "timeout")
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    operation: str
    timeout: _duration_pb2.Duration
    def __init__(self, operation: _Optional[str] = ..., timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class WaitOperationResponse(_message.Message):
    __slots__ = ("operation",)
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    operation: Operation
    def __init__(self, operation: _Optional[_Union[Operation, _Mapping]] = ...) -> None: ...

class WatchOperationRequest(_message.Message):
    __slots__ = ("operation",)
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    operation: str
    def __init__(self, operation: _Optional[str] = ...) -> None: ...

class WatchOperationResponse(_message.Message):
    __slots__ = ("operation",)
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    operation: Operation
    def __init__(self, operation: _Optional[_Union[Operation, _Mapping]] = ...) -> None: ...

class CancelOperationRequest(_message.Message):
    __slots__ = ("operation", "request_id")
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    operation: str
    request_id: str
    def __init__(self, operation: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class CancelOperationResponse(_message.Message):
    __slots__ = ("operation",)
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    operation: Operation
    def __init__(self, operation: _Optional[_Union[Operation, _Mapping]] = ...) -> None: ...
