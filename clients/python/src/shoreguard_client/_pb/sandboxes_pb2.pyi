from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from . import operations_pb2 as _operations_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SandboxPhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SANDBOX_PHASE_UNSPECIFIED: _ClassVar[SandboxPhase]
    SANDBOX_PHASE_PROVISIONING: _ClassVar[SandboxPhase]
    SANDBOX_PHASE_READY: _ClassVar[SandboxPhase]
    SANDBOX_PHASE_ERROR: _ClassVar[SandboxPhase]
    SANDBOX_PHASE_DELETING: _ClassVar[SandboxPhase]
    SANDBOX_PHASE_UNKNOWN: _ClassVar[SandboxPhase]
    SANDBOX_PHASE_STOPPING: _ClassVar[SandboxPhase]
    SANDBOX_PHASE_STOPPED: _ClassVar[SandboxPhase]
    SANDBOX_PHASE_STARTING: _ClassVar[SandboxPhase]
    SANDBOX_PHASE_COMPLETED: _ClassVar[SandboxPhase]
SANDBOX_PHASE_UNSPECIFIED: SandboxPhase
SANDBOX_PHASE_PROVISIONING: SandboxPhase
SANDBOX_PHASE_READY: SandboxPhase
SANDBOX_PHASE_ERROR: SandboxPhase
SANDBOX_PHASE_DELETING: SandboxPhase
SANDBOX_PHASE_UNKNOWN: SandboxPhase
SANDBOX_PHASE_STOPPING: SandboxPhase
SANDBOX_PHASE_STOPPED: SandboxPhase
SANDBOX_PHASE_STARTING: SandboxPhase
SANDBOX_PHASE_COMPLETED: SandboxPhase

class Sandbox(_message.Message):
    __slots__ = ("gateway", "workspace", "name", "id", "phase", "create_time", "image", "gpu", "providers", "policy_version", "conditions", "exit_code", "gateway_labels", "gateway_annotations", "description", "labels", "metadata_update_time", "etag")
    class GatewayLabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class GatewayAnnotationsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    GPU_FIELD_NUMBER: _ClassVar[int]
    PROVIDERS_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_LABELS_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    METADATA_UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    name: str
    id: str
    phase: SandboxPhase
    create_time: _timestamp_pb2.Timestamp
    image: str
    gpu: bool
    providers: _containers.RepeatedScalarFieldContainer[str]
    policy_version: int
    conditions: _containers.RepeatedCompositeFieldContainer[SandboxCondition]
    exit_code: int
    gateway_labels: _containers.ScalarMap[str, str]
    gateway_annotations: _containers.ScalarMap[str, str]
    description: str
    labels: _containers.ScalarMap[str, str]
    metadata_update_time: _timestamp_pb2.Timestamp
    etag: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., name: _Optional[str] = ..., id: _Optional[str] = ..., phase: _Optional[_Union[SandboxPhase, str]] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., image: _Optional[str] = ..., gpu: bool = ..., providers: _Optional[_Iterable[str]] = ..., policy_version: _Optional[int] = ..., conditions: _Optional[_Iterable[_Union[SandboxCondition, _Mapping]]] = ..., exit_code: _Optional[int] = ..., gateway_labels: _Optional[_Mapping[str, str]] = ..., gateway_annotations: _Optional[_Mapping[str, str]] = ..., description: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., metadata_update_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ...) -> None: ...

class SandboxCondition(_message.Message):
    __slots__ = ("type", "status", "reason", "message")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    type: str
    status: str
    reason: str
    message: str
    def __init__(self, type: _Optional[str] = ..., status: _Optional[str] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class CreateSandboxRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "name", "template", "gateway_template", "image", "gpu", "providers", "environment", "log_level", "policy", "description", "labels", "skip_hooks", "validate_only", "request_id")
    class EnvironmentEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    GPU_FIELD_NUMBER: _ClassVar[int]
    PROVIDERS_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    LOG_LEVEL_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SKIP_HOOKS_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    name: str
    template: str
    gateway_template: str
    image: str
    gpu: bool
    providers: _containers.RepeatedScalarFieldContainer[str]
    environment: _containers.ScalarMap[str, str]
    log_level: str
    policy: str
    description: str
    labels: _containers.ScalarMap[str, str]
    skip_hooks: bool
    validate_only: bool
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., name: _Optional[str] = ..., template: _Optional[str] = ..., gateway_template: _Optional[str] = ..., image: _Optional[str] = ..., gpu: bool = ..., providers: _Optional[_Iterable[str]] = ..., environment: _Optional[_Mapping[str, str]] = ..., log_level: _Optional[str] = ..., policy: _Optional[str] = ..., description: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., skip_hooks: bool = ..., validate_only: bool = ..., request_id: _Optional[str] = ...) -> None: ...

class CreateSandboxResponse(_message.Message):
    __slots__ = ("operation",)
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    operation: _operations_pb2.Operation
    def __init__(self, operation: _Optional[_Union[_operations_pb2.Operation, _Mapping]] = ...) -> None: ...

class GetSandboxRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ...) -> None: ...

class GetSandboxResponse(_message.Message):
    __slots__ = ("sandbox",)
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    sandbox: Sandbox
    def __init__(self, sandbox: _Optional[_Union[Sandbox, _Mapping]] = ...) -> None: ...

class ListSandboxesRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "label_selector", "page_size", "page_token", "gateway_selector")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    LABEL_SELECTOR_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_SELECTOR_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    label_selector: str
    page_size: int
    page_token: str
    gateway_selector: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., label_selector: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., gateway_selector: _Optional[str] = ...) -> None: ...

class ListSandboxesResponse(_message.Message):
    __slots__ = ("sandboxes", "next_page_token", "unreachable")
    SANDBOXES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    sandboxes: _containers.RepeatedCompositeFieldContainer[Sandbox]
    next_page_token: str
    unreachable: _containers.RepeatedCompositeFieldContainer[UnreachableGateway]
    def __init__(self, sandboxes: _Optional[_Iterable[_Union[Sandbox, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., unreachable: _Optional[_Iterable[_Union[UnreachableGateway, _Mapping]]] = ...) -> None: ...

class UpdateSandboxMetadataRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "description", "labels", "update_mask", "etag", "request_id")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    description: str
    labels: _containers.ScalarMap[str, str]
    update_mask: _field_mask_pb2.FieldMask
    etag: str
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., description: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., etag: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class UpdateSandboxMetadataResponse(_message.Message):
    __slots__ = ("sandbox",)
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    sandbox: Sandbox
    def __init__(self, sandbox: _Optional[_Union[Sandbox, _Mapping]] = ...) -> None: ...

class DeleteSandboxRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "validate_only", "request_id")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    validate_only: bool
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., validate_only: bool = ..., request_id: _Optional[str] = ...) -> None: ...

class DeleteSandboxResponse(_message.Message):
    __slots__ = ("metadata_removed", "boot_hooks_removed", "sbom_removed", "ssh_sessions_removed")
    METADATA_REMOVED_FIELD_NUMBER: _ClassVar[int]
    BOOT_HOOKS_REMOVED_FIELD_NUMBER: _ClassVar[int]
    SBOM_REMOVED_FIELD_NUMBER: _ClassVar[int]
    SSH_SESSIONS_REMOVED_FIELD_NUMBER: _ClassVar[int]
    metadata_removed: bool
    boot_hooks_removed: int
    sbom_removed: bool
    ssh_sessions_removed: int
    def __init__(self, metadata_removed: bool = ..., boot_hooks_removed: _Optional[int] = ..., sbom_removed: bool = ..., ssh_sessions_removed: _Optional[int] = ...) -> None: ...

class StartSandboxRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "request_id")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class StartSandboxResponse(_message.Message):
    __slots__ = ("sandbox",)
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    sandbox: Sandbox
    def __init__(self, sandbox: _Optional[_Union[Sandbox, _Mapping]] = ...) -> None: ...

class StopSandboxRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "request_id")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class StopSandboxResponse(_message.Message):
    __slots__ = ("sandbox",)
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    sandbox: Sandbox
    def __init__(self, sandbox: _Optional[_Union[Sandbox, _Mapping]] = ...) -> None: ...

class TerminalSize(_message.Message):
    __slots__ = ("cols", "rows")
    COLS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    cols: int
    rows: int
    def __init__(self, cols: _Optional[int] = ..., rows: _Optional[int] = ...) -> None: ...

class ExecSandboxRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "command", "workdir", "environment", "timeout", "tty", "size", "stdin", "resize")
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
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    WORKDIR_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    TTY_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    STDIN_FIELD_NUMBER: _ClassVar[int]
    RESIZE_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    command: _containers.RepeatedScalarFieldContainer[str]
    workdir: str
    environment: _containers.ScalarMap[str, str]
    timeout: _duration_pb2.Duration
    tty: bool
    size: TerminalSize
    stdin: bytes
    resize: TerminalSize
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., command: _Optional[_Iterable[str]] = ..., workdir: _Optional[str] = ..., environment: _Optional[_Mapping[str, str]] = ..., timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., tty: bool = ..., size: _Optional[_Union[TerminalSize, _Mapping]] = ..., stdin: _Optional[bytes] = ..., resize: _Optional[_Union[TerminalSize, _Mapping]] = ...) -> None: ...

class ExecSandboxResponse(_message.Message):
    __slots__ = ("stdout", "stderr", "exit_code")
    STDOUT_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    stdout: bytes
    stderr: bytes
    exit_code: int
    def __init__(self, stdout: _Optional[bytes] = ..., stderr: _Optional[bytes] = ..., exit_code: _Optional[int] = ...) -> None: ...

class StartExecSandboxRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "command", "workdir", "environment", "timeout", "tty", "stdin", "request_id")
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
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    WORKDIR_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    TTY_FIELD_NUMBER: _ClassVar[int]
    STDIN_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    command: _containers.RepeatedScalarFieldContainer[str]
    workdir: str
    environment: _containers.ScalarMap[str, str]
    timeout: _duration_pb2.Duration
    tty: bool
    stdin: bytes
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., command: _Optional[_Iterable[str]] = ..., workdir: _Optional[str] = ..., environment: _Optional[_Mapping[str, str]] = ..., timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., tty: bool = ..., stdin: _Optional[bytes] = ..., request_id: _Optional[str] = ...) -> None: ...

class StartExecSandboxResponse(_message.Message):
    __slots__ = ("operation",)
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    operation: _operations_pb2.Operation
    def __init__(self, operation: _Optional[_Union[_operations_pb2.Operation, _Mapping]] = ...) -> None: ...

class SandboxLogLine(_message.Message):
    __slots__ = ("log_time", "level", "target", "message", "source", "fields")
    class FieldsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    LOG_TIME_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    log_time: _timestamp_pb2.Timestamp
    level: str
    target: str
    message: str
    source: str
    fields: _containers.ScalarMap[str, str]
    def __init__(self, log_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., level: _Optional[str] = ..., target: _Optional[str] = ..., message: _Optional[str] = ..., source: _Optional[str] = ..., fields: _Optional[_Mapping[str, str]] = ...) -> None: ...

class GetSandboxLogsRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "lines", "since_time", "min_level", "sources", "ocsf_only")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    SINCE_TIME_FIELD_NUMBER: _ClassVar[int]
    MIN_LEVEL_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    OCSF_ONLY_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    lines: int
    since_time: _timestamp_pb2.Timestamp
    min_level: str
    sources: _containers.RepeatedScalarFieldContainer[str]
    ocsf_only: bool
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., lines: _Optional[int] = ..., since_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., min_level: _Optional[str] = ..., sources: _Optional[_Iterable[str]] = ..., ocsf_only: bool = ...) -> None: ...

class GetSandboxLogsResponse(_message.Message):
    __slots__ = ("log_lines",)
    LOG_LINES_FIELD_NUMBER: _ClassVar[int]
    log_lines: _containers.RepeatedCompositeFieldContainer[SandboxLogLine]
    def __init__(self, log_lines: _Optional[_Iterable[_Union[SandboxLogLine, _Mapping]]] = ...) -> None: ...

class WatchSandboxRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "logs", "events", "log_tail")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    LOGS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    LOG_TAIL_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    logs: bool
    events: bool
    log_tail: int
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., logs: bool = ..., events: bool = ..., log_tail: _Optional[int] = ...) -> None: ...

class SandboxEvent(_message.Message):
    __slots__ = ("event_time", "source", "type", "reason", "message")
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    event_time: _timestamp_pb2.Timestamp
    source: str
    type: str
    reason: str
    message: str
    def __init__(self, event_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., source: _Optional[str] = ..., type: _Optional[str] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class WatchSandboxResponse(_message.Message):
    __slots__ = ("sandbox", "log", "event", "warning")
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    WARNING_FIELD_NUMBER: _ClassVar[int]
    sandbox: Sandbox
    log: SandboxLogLine
    event: SandboxEvent
    warning: str
    def __init__(self, sandbox: _Optional[_Union[Sandbox, _Mapping]] = ..., log: _Optional[_Union[SandboxLogLine, _Mapping]] = ..., event: _Optional[_Union[SandboxEvent, _Mapping]] = ..., warning: _Optional[str] = ...) -> None: ...

class CreateSshSessionRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "request_id")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreateSshSessionResponse(_message.Message):
    __slots__ = ("sandbox_id", "token", "host", "port", "scheme", "host_key_fingerprint", "expire_time")
    SANDBOX_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    HOST_KEY_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    sandbox_id: str
    token: str
    host: str
    port: int
    scheme: str
    host_key_fingerprint: str
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, sandbox_id: _Optional[str] = ..., token: _Optional[str] = ..., host: _Optional[str] = ..., port: _Optional[int] = ..., scheme: _Optional[str] = ..., host_key_fingerprint: _Optional[str] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RevokeSshSessionRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "token", "request_id")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    token: str
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., token: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class RevokeSshSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BypassEvent(_message.Message):
    __slots__ = ("id", "sandbox_id", "log_time", "create_time", "severity", "technique", "mitre_id", "binary", "summary", "fields", "raw_class", "raw_disposition")
    class FieldsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_ID_FIELD_NUMBER: _ClassVar[int]
    LOG_TIME_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    TECHNIQUE_FIELD_NUMBER: _ClassVar[int]
    MITRE_ID_FIELD_NUMBER: _ClassVar[int]
    BINARY_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    RAW_CLASS_FIELD_NUMBER: _ClassVar[int]
    RAW_DISPOSITION_FIELD_NUMBER: _ClassVar[int]
    id: int
    sandbox_id: str
    log_time: _timestamp_pb2.Timestamp
    create_time: _timestamp_pb2.Timestamp
    severity: str
    technique: str
    mitre_id: str
    binary: str
    summary: str
    fields: _containers.ScalarMap[str, str]
    raw_class: str
    raw_disposition: str
    def __init__(self, id: _Optional[int] = ..., sandbox_id: _Optional[str] = ..., log_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., severity: _Optional[str] = ..., technique: _Optional[str] = ..., mitre_id: _Optional[str] = ..., binary: _Optional[str] = ..., summary: _Optional[str] = ..., fields: _Optional[_Mapping[str, str]] = ..., raw_class: _Optional[str] = ..., raw_disposition: _Optional[str] = ...) -> None: ...

class ListBypassEventsRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "sandbox_id", "since_time", "page_size", "page_token")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_ID_FIELD_NUMBER: _ClassVar[int]
    SINCE_TIME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    sandbox_id: str
    since_time: _timestamp_pb2.Timestamp
    page_size: int
    page_token: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., sandbox_id: _Optional[str] = ..., since_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListBypassEventsResponse(_message.Message):
    __slots__ = ("bypass_events", "next_page_token", "sandbox_id", "count_by_technique", "count_by_severity", "latest_time", "dropped", "log_gaps", "logs_followed")
    class CountByTechniqueEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class CountBySeverityEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    BYPASS_EVENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_ID_FIELD_NUMBER: _ClassVar[int]
    COUNT_BY_TECHNIQUE_FIELD_NUMBER: _ClassVar[int]
    COUNT_BY_SEVERITY_FIELD_NUMBER: _ClassVar[int]
    LATEST_TIME_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    LOG_GAPS_FIELD_NUMBER: _ClassVar[int]
    LOGS_FOLLOWED_FIELD_NUMBER: _ClassVar[int]
    bypass_events: _containers.RepeatedCompositeFieldContainer[BypassEvent]
    next_page_token: str
    sandbox_id: str
    count_by_technique: _containers.ScalarMap[str, int]
    count_by_severity: _containers.ScalarMap[str, int]
    latest_time: _timestamp_pb2.Timestamp
    dropped: int
    log_gaps: int
    logs_followed: bool
    def __init__(self, bypass_events: _Optional[_Iterable[_Union[BypassEvent, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., sandbox_id: _Optional[str] = ..., count_by_technique: _Optional[_Mapping[str, int]] = ..., count_by_severity: _Optional[_Mapping[str, int]] = ..., latest_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., dropped: _Optional[int] = ..., log_gaps: _Optional[int] = ..., logs_followed: bool = ...) -> None: ...

class SandboxTemplate(_message.Message):
    __slots__ = ("name", "description", "category", "of_gateway", "image", "gpu", "providers", "environment", "presets", "workspace")
    class EnvironmentEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    OF_GATEWAY_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    GPU_FIELD_NUMBER: _ClassVar[int]
    PROVIDERS_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    PRESETS_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    category: str
    of_gateway: bool
    image: str
    gpu: bool
    providers: _containers.RepeatedScalarFieldContainer[str]
    environment: _containers.ScalarMap[str, str]
    presets: _containers.RepeatedScalarFieldContainer[str]
    workspace: str
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., category: _Optional[str] = ..., of_gateway: bool = ..., image: _Optional[str] = ..., gpu: bool = ..., providers: _Optional[_Iterable[str]] = ..., environment: _Optional[_Mapping[str, str]] = ..., presets: _Optional[_Iterable[str]] = ..., workspace: _Optional[str] = ...) -> None: ...

class ListSandboxTemplatesRequest(_message.Message):
    __slots__ = ("gateway", "page_size", "page_token")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    page_size: int
    page_token: str
    def __init__(self, gateway: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSandboxTemplatesResponse(_message.Message):
    __slots__ = ("sandbox_templates", "next_page_token", "gateway_unreachable", "gateway_error")
    SANDBOX_TEMPLATES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_ERROR_FIELD_NUMBER: _ClassVar[int]
    sandbox_templates: _containers.RepeatedCompositeFieldContainer[SandboxTemplate]
    next_page_token: str
    gateway_unreachable: bool
    gateway_error: str
    def __init__(self, sandbox_templates: _Optional[_Iterable[_Union[SandboxTemplate, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., gateway_unreachable: bool = ..., gateway_error: _Optional[str] = ...) -> None: ...

class UnreachableGateway(_message.Message):
    __slots__ = ("gateway", "error")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    error: str
    def __init__(self, gateway: _Optional[str] = ..., error: _Optional[str] = ...) -> None: ...
