from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BootHookPhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BOOT_HOOK_PHASE_UNSPECIFIED: _ClassVar[BootHookPhase]
    BOOT_HOOK_PHASE_PRE_CREATE: _ClassVar[BootHookPhase]
    BOOT_HOOK_PHASE_POST_CREATE: _ClassVar[BootHookPhase]

class BootHookStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BOOT_HOOK_STATUS_UNSPECIFIED: _ClassVar[BootHookStatus]
    BOOT_HOOK_STATUS_SUCCESS: _ClassVar[BootHookStatus]
    BOOT_HOOK_STATUS_FAILURE: _ClassVar[BootHookStatus]
BOOT_HOOK_PHASE_UNSPECIFIED: BootHookPhase
BOOT_HOOK_PHASE_PRE_CREATE: BootHookPhase
BOOT_HOOK_PHASE_POST_CREATE: BootHookPhase
BOOT_HOOK_STATUS_UNSPECIFIED: BootHookStatus
BOOT_HOOK_STATUS_SUCCESS: BootHookStatus
BOOT_HOOK_STATUS_FAILURE: BootHookStatus

class BootHook(_message.Message):
    __slots__ = ("id", "gateway", "workspace", "sandbox", "name", "phase", "command", "workdir", "environment_names", "timeout_seconds", "order", "enabled", "continue_on_failure", "created_by", "create_time", "update_time", "last_run_time", "last_status", "last_output", "etag")
    ID_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    WORKDIR_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_NAMES_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    CONTINUE_ON_FAILURE_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_RUN_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_STATUS_FIELD_NUMBER: _ClassVar[int]
    LAST_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    id: int
    gateway: str
    workspace: str
    sandbox: str
    name: str
    phase: BootHookPhase
    command: str
    workdir: str
    environment_names: _containers.RepeatedScalarFieldContainer[str]
    timeout_seconds: int
    order: int
    enabled: bool
    continue_on_failure: bool
    created_by: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    last_run_time: _timestamp_pb2.Timestamp
    last_status: BootHookStatus
    last_output: str
    etag: str
    def __init__(self, id: _Optional[int] = ..., gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., name: _Optional[str] = ..., phase: _Optional[_Union[BootHookPhase, str]] = ..., command: _Optional[str] = ..., workdir: _Optional[str] = ..., environment_names: _Optional[_Iterable[str]] = ..., timeout_seconds: _Optional[int] = ..., order: _Optional[int] = ..., enabled: bool = ..., continue_on_failure: bool = ..., created_by: _Optional[str] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., last_run_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., last_status: _Optional[_Union[BootHookStatus, str]] = ..., last_output: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class BootHookOutcome(_message.Message):
    __slots__ = ("boot_hook_id", "name", "phase", "status", "summary", "output")
    BOOT_HOOK_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    boot_hook_id: int
    name: str
    phase: BootHookPhase
    status: BootHookStatus
    summary: str
    output: str
    def __init__(self, boot_hook_id: _Optional[int] = ..., name: _Optional[str] = ..., phase: _Optional[_Union[BootHookPhase, str]] = ..., status: _Optional[_Union[BootHookStatus, str]] = ..., summary: _Optional[str] = ..., output: _Optional[str] = ...) -> None: ...

class CreateBootHookRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "name", "phase", "command", "workdir", "environment", "timeout_seconds", "enabled", "continue_on_failure", "request_id")
    class EnvironmentEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    WORKDIR_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    CONTINUE_ON_FAILURE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    name: str
    phase: BootHookPhase
    command: str
    workdir: str
    environment: _containers.ScalarMap[str, str]
    timeout_seconds: int
    enabled: bool
    continue_on_failure: bool
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., name: _Optional[str] = ..., phase: _Optional[_Union[BootHookPhase, str]] = ..., command: _Optional[str] = ..., workdir: _Optional[str] = ..., environment: _Optional[_Mapping[str, str]] = ..., timeout_seconds: _Optional[int] = ..., enabled: bool = ..., continue_on_failure: bool = ..., request_id: _Optional[str] = ...) -> None: ...

class CreateBootHookResponse(_message.Message):
    __slots__ = ("boot_hook",)
    BOOT_HOOK_FIELD_NUMBER: _ClassVar[int]
    boot_hook: BootHook
    def __init__(self, boot_hook: _Optional[_Union[BootHook, _Mapping]] = ...) -> None: ...

class GetBootHookRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "boot_hook_id")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    BOOT_HOOK_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    boot_hook_id: int
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., boot_hook_id: _Optional[int] = ...) -> None: ...

class GetBootHookResponse(_message.Message):
    __slots__ = ("boot_hook",)
    BOOT_HOOK_FIELD_NUMBER: _ClassVar[int]
    boot_hook: BootHook
    def __init__(self, boot_hook: _Optional[_Union[BootHook, _Mapping]] = ...) -> None: ...

class ListBootHooksRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "phase", "page_size", "page_token")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    phase: BootHookPhase
    page_size: int
    page_token: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., phase: _Optional[_Union[BootHookPhase, str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListBootHooksResponse(_message.Message):
    __slots__ = ("boot_hooks", "next_page_token")
    BOOT_HOOKS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    boot_hooks: _containers.RepeatedCompositeFieldContainer[BootHook]
    next_page_token: str
    def __init__(self, boot_hooks: _Optional[_Iterable[_Union[BootHook, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateBootHookRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "boot_hook_id", "update_mask", "command", "workdir", "environment", "timeout_seconds", "enabled", "continue_on_failure", "etag", "request_id")
    class EnvironmentEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    BOOT_HOOK_ID_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    WORKDIR_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    CONTINUE_ON_FAILURE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    boot_hook_id: int
    update_mask: _field_mask_pb2.FieldMask
    command: str
    workdir: str
    environment: _containers.ScalarMap[str, str]
    timeout_seconds: int
    enabled: bool
    continue_on_failure: bool
    etag: str
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., boot_hook_id: _Optional[int] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., command: _Optional[str] = ..., workdir: _Optional[str] = ..., environment: _Optional[_Mapping[str, str]] = ..., timeout_seconds: _Optional[int] = ..., enabled: bool = ..., continue_on_failure: bool = ..., etag: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class UpdateBootHookResponse(_message.Message):
    __slots__ = ("boot_hook",)
    BOOT_HOOK_FIELD_NUMBER: _ClassVar[int]
    boot_hook: BootHook
    def __init__(self, boot_hook: _Optional[_Union[BootHook, _Mapping]] = ...) -> None: ...

class DeleteBootHookRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "boot_hook_id", "etag", "request_id")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    BOOT_HOOK_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    boot_hook_id: int
    etag: str
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., boot_hook_id: _Optional[int] = ..., etag: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class DeleteBootHookResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReorderBootHooksRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "phase", "boot_hook_ids", "request_id")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    BOOT_HOOK_IDS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    phase: BootHookPhase
    boot_hook_ids: _containers.RepeatedScalarFieldContainer[int]
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., phase: _Optional[_Union[BootHookPhase, str]] = ..., boot_hook_ids: _Optional[_Iterable[int]] = ..., request_id: _Optional[str] = ...) -> None: ...

class ReorderBootHooksResponse(_message.Message):
    __slots__ = ("boot_hooks",)
    BOOT_HOOKS_FIELD_NUMBER: _ClassVar[int]
    boot_hooks: _containers.RepeatedCompositeFieldContainer[BootHook]
    def __init__(self, boot_hooks: _Optional[_Iterable[_Union[BootHook, _Mapping]]] = ...) -> None: ...

class RunBootHookRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "boot_hook_id", "request_id")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    BOOT_HOOK_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    boot_hook_id: int
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., boot_hook_id: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class RunBootHookResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: BootHookOutcome
    def __init__(self, outcome: _Optional[_Union[BootHookOutcome, _Mapping]] = ...) -> None: ...
