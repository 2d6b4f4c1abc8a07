from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from . import gateway_discovery_pb2 as _gateway_discovery_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GatewayScheme(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GATEWAY_SCHEME_UNSPECIFIED: _ClassVar[GatewayScheme]
    GATEWAY_SCHEME_HTTP: _ClassVar[GatewayScheme]
    GATEWAY_SCHEME_HTTPS: _ClassVar[GatewayScheme]

class GatewayAuthMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GATEWAY_AUTH_MODE_UNSPECIFIED: _ClassVar[GatewayAuthMode]
    GATEWAY_AUTH_MODE_NONE: _ClassVar[GatewayAuthMode]
    GATEWAY_AUTH_MODE_MTLS: _ClassVar[GatewayAuthMode]
    GATEWAY_AUTH_MODE_BEARER: _ClassVar[GatewayAuthMode]
    GATEWAY_AUTH_MODE_OIDC_CLIENT: _ClassVar[GatewayAuthMode]

class GatewayStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GATEWAY_STATUS_UNSPECIFIED: _ClassVar[GatewayStatus]
    GATEWAY_STATUS_UNKNOWN: _ClassVar[GatewayStatus]
    GATEWAY_STATUS_HEALTHY: _ClassVar[GatewayStatus]
    GATEWAY_STATUS_DEGRADED: _ClassVar[GatewayStatus]
    GATEWAY_STATUS_UNHEALTHY: _ClassVar[GatewayStatus]
    GATEWAY_STATUS_UNSTATED: _ClassVar[GatewayStatus]
    GATEWAY_STATUS_UNREACHABLE: _ClassVar[GatewayStatus]

class WireGeneration(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WIRE_GENERATION_UNSPECIFIED: _ClassVar[WireGeneration]
    WIRE_GENERATION_UNKNOWN: _ClassVar[WireGeneration]
    WIRE_GENERATION_V0_0: _ClassVar[WireGeneration]
    WIRE_GENERATION_V0_1: _ClassVar[WireGeneration]
    WIRE_GENERATION_UNSUPPORTED: _ClassVar[WireGeneration]

class GatewayCertificateKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GATEWAY_CERTIFICATE_KIND_UNSPECIFIED: _ClassVar[GatewayCertificateKind]
    GATEWAY_CERTIFICATE_KIND_CA: _ClassVar[GatewayCertificateKind]
    GATEWAY_CERTIFICATE_KIND_CLIENT: _ClassVar[GatewayCertificateKind]
    GATEWAY_CERTIFICATE_KIND_SERVER: _ClassVar[GatewayCertificateKind]

class GatewayCapability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GATEWAY_CAPABILITY_UNSPECIFIED: _ClassVar[GatewayCapability]
    GATEWAY_CAPABILITY_INFERENCE_ROUTES: _ClassVar[GatewayCapability]
    GATEWAY_CAPABILITY_CURRENT_USER: _ClassVar[GatewayCapability]
    GATEWAY_CAPABILITY_START_STOP: _ClassVar[GatewayCapability]
    GATEWAY_CAPABILITY_MAIN_PROCESS_EXIT: _ClassVar[GatewayCapability]
    GATEWAY_CAPABILITY_SUBJECT_TOKENS: _ClassVar[GatewayCapability]
    GATEWAY_CAPABILITY_SANDBOX_TEMPLATES: _ClassVar[GatewayCapability]
    GATEWAY_CAPABILITY_ROOTFS_STAGING: _ClassVar[GatewayCapability]
    GATEWAY_CAPABILITY_PROVIDER_STATUS: _ClassVar[GatewayCapability]
    GATEWAY_CAPABILITY_REQUEST_IDS: _ClassVar[GatewayCapability]
    GATEWAY_CAPABILITY_SANDBOX_NAMES: _ClassVar[GatewayCapability]
    GATEWAY_CAPABILITY_PROVIDER_CREDENTIALS: _ClassVar[GatewayCapability]

class GatewayFindingKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GATEWAY_FINDING_KIND_UNSPECIFIED: _ClassVar[GatewayFindingKind]
    GATEWAY_FINDING_KIND_AUTOMATIC_APPROVALS: _ClassVar[GatewayFindingKind]
    GATEWAY_FINDING_KIND_CREDENTIAL_UNUSABLE: _ClassVar[GatewayFindingKind]

class GatewaySettingScope(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GATEWAY_SETTING_SCOPE_UNSPECIFIED: _ClassVar[GatewaySettingScope]
    GATEWAY_SETTING_SCOPE_GATEWAY: _ClassVar[GatewaySettingScope]
    GATEWAY_SETTING_SCOPE_SANDBOX: _ClassVar[GatewaySettingScope]
GATEWAY_SCHEME_UNSPECIFIED: GatewayScheme
GATEWAY_SCHEME_HTTP: GatewayScheme
GATEWAY_SCHEME_HTTPS: GatewayScheme
GATEWAY_AUTH_MODE_UNSPECIFIED: GatewayAuthMode
GATEWAY_AUTH_MODE_NONE: GatewayAuthMode
GATEWAY_AUTH_MODE_MTLS: GatewayAuthMode
GATEWAY_AUTH_MODE_BEARER: GatewayAuthMode
GATEWAY_AUTH_MODE_OIDC_CLIENT: GatewayAuthMode
GATEWAY_STATUS_UNSPECIFIED: GatewayStatus
GATEWAY_STATUS_UNKNOWN: GatewayStatus
GATEWAY_STATUS_HEALTHY: GatewayStatus
GATEWAY_STATUS_DEGRADED: GatewayStatus
GATEWAY_STATUS_UNHEALTHY: GatewayStatus
GATEWAY_STATUS_UNSTATED: GatewayStatus
GATEWAY_STATUS_UNREACHABLE: GatewayStatus
WIRE_GENERATION_UNSPECIFIED: WireGeneration
WIRE_GENERATION_UNKNOWN: WireGeneration
WIRE_GENERATION_V0_0: WireGeneration
WIRE_GENERATION_V0_1: WireGeneration
WIRE_GENERATION_UNSUPPORTED: WireGeneration
GATEWAY_CERTIFICATE_KIND_UNSPECIFIED: GatewayCertificateKind
GATEWAY_CERTIFICATE_KIND_CA: GatewayCertificateKind
GATEWAY_CERTIFICATE_KIND_CLIENT: GatewayCertificateKind
GATEWAY_CERTIFICATE_KIND_SERVER: GatewayCertificateKind
GATEWAY_CAPABILITY_UNSPECIFIED: GatewayCapability
GATEWAY_CAPABILITY_INFERENCE_ROUTES: GatewayCapability
GATEWAY_CAPABILITY_CURRENT_USER: GatewayCapability
GATEWAY_CAPABILITY_START_STOP: GatewayCapability
GATEWAY_CAPABILITY_MAIN_PROCESS_EXIT: GatewayCapability
GATEWAY_CAPABILITY_SUBJECT_TOKENS: GatewayCapability
GATEWAY_CAPABILITY_SANDBOX_TEMPLATES: GatewayCapability
GATEWAY_CAPABILITY_ROOTFS_STAGING: GatewayCapability
GATEWAY_CAPABILITY_PROVIDER_STATUS: GatewayCapability
GATEWAY_CAPABILITY_REQUEST_IDS: GatewayCapability
GATEWAY_CAPABILITY_SANDBOX_NAMES: GatewayCapability
GATEWAY_CAPABILITY_PROVIDER_CREDENTIALS: GatewayCapability
GATEWAY_FINDING_KIND_UNSPECIFIED: GatewayFindingKind
GATEWAY_FINDING_KIND_AUTOMATIC_APPROVALS: GatewayFindingKind
GATEWAY_FINDING_KIND_CREDENTIAL_UNUSABLE: GatewayFindingKind
GATEWAY_SETTING_SCOPE_UNSPECIFIED: GatewaySettingScope
GATEWAY_SETTING_SCOPE_GATEWAY: GatewaySettingScope
GATEWAY_SETTING_SCOPE_SANDBOX: GatewaySettingScope

class Gateway(_message.Message):
    __slots__ = ("id", "name", "endpoint", "scheme", "auth_mode", "ca_cert", "client_cert", "has_client_key", "has_bearer_token", "metadata_json", "description", "labels", "register_time", "last_seen_time", "status", "latency", "version", "wire_generation", "last_error", "probe_time", "etag", "oidc_client", "oidc_client_id", "has_oidc_client_secret", "pinned_generation", "certificates", "capabilities", "wire_note", "findings")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    AUTH_MODE_FIELD_NUMBER: _ClassVar[int]
    CA_CERT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_CERT_FIELD_NUMBER: _ClassVar[int]
    HAS_CLIENT_KEY_FIELD_NUMBER: _ClassVar[int]
    HAS_BEARER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    METADATA_JSON_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    REGISTER_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_TIME_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WIRE_GENERATION_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    PROBE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    OIDC_CLIENT_FIELD_NUMBER: _ClassVar[int]
    OIDC_CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    HAS_OIDC_CLIENT_SECRET_FIELD_NUMBER: _ClassVar[int]
    PINNED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATES_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    WIRE_NOTE_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    id: int
    name: str
    endpoint: str
    scheme: GatewayScheme
    auth_mode: GatewayAuthMode
    ca_cert: bytes
    client_cert: bytes
    has_client_key: bool
    has_bearer_token: bool
    metadata_json: str
    description: str
    labels: _containers.ScalarMap[str, str]
    register_time: _timestamp_pb2.Timestamp
    last_seen_time: _timestamp_pb2.Timestamp
    status: GatewayStatus
    latency: _duration_pb2.Duration
    version: str
    wire_generation: WireGeneration
    last_error: str
    probe_time: _timestamp_pb2.Timestamp
    etag: str
    oidc_client: GatewayOidcClient
    oidc_client_id: str
    has_oidc_client_secret: bool
    pinned_generation: WireGeneration
    certificates: _containers.RepeatedCompositeFieldContainer[GatewayCertificate]
    capabilities: _containers.RepeatedScalarFieldContainer[GatewayCapability]
    wire_note: str
    findings: _containers.RepeatedCompositeFieldContainer[GatewayFinding]
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., endpoint: _Optional[str] = ..., scheme: _Optional[_Union[GatewayScheme, str]] = ..., auth_mode: _Optional[_Union[GatewayAuthMode, str]] = ..., ca_cert: _Optional[bytes] = ..., client_cert: _Optional[bytes] = ..., has_client_key: bool = ..., has_bearer_token: bool = ..., metadata_json: _Optional[str] = ..., description: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., register_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., last_seen_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., status: _Optional[_Union[GatewayStatus, str]] = ..., latency: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., version: _Optional[str] = ..., wire_generation: _Optional[_Union[WireGeneration, str]] = ..., last_error: _Optional[str] = ..., probe_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ..., oidc_client: _Optional[_Union[GatewayOidcClient, _Mapping]] = ..., oidc_client_id: _Optional[str] = ..., has_oidc_client_secret: bool = ..., pinned_generation: _Optional[_Union[WireGeneration, str]] = ..., certificates: _Optional[_Iterable[_Union[GatewayCertificate, _Mapping]]] = ..., capabilities: _Optional[_Iterable[_Union[GatewayCapability, str]]] = ..., wire_note: _Optional[str] = ..., findings: _Optional[_Iterable[_Union[GatewayFinding, _Mapping]]] = ...) -> None: ...

class GatewayCertificate(_message.Message):
    __slots__ = ("kind", "expire_time")
    KIND_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    kind: GatewayCertificateKind
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, kind: _Optional[_Union[GatewayCertificateKind, str]] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GatewayOidcClient(_message.Message):
    __slots__ = ("token_url", "scope", "audience")
    TOKEN_URL_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    token_url: str
    scope: str
    audience: str
    def __init__(self, token_url: _Optional[str] = ..., scope: _Optional[str] = ..., audience: _Optional[str] = ...) -> None: ...

class GatewayCredentials(_message.Message):
    __slots__ = ("client_cert", "client_key", "bearer_token", "oidc_client_id", "oidc_client_secret")
    CLIENT_CERT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_KEY_FIELD_NUMBER: _ClassVar[int]
    BEARER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    OIDC_CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    OIDC_CLIENT_SECRET_FIELD_NUMBER: _ClassVar[int]
    client_cert: bytes
    client_key: bytes
    bearer_token: str
    oidc_client_id: str
    oidc_client_secret: str
    def __init__(self, client_cert: _Optional[bytes] = ..., client_key: _Optional[bytes] = ..., bearer_token: _Optional[str] = ..., oidc_client_id: _Optional[str] = ..., oidc_client_secret: _Optional[str] = ...) -> None: ...

class RegisterGatewayRequest(_message.Message):
    __slots__ = ("name", "endpoint", "scheme", "auth_mode", "ca_cert", "credentials", "metadata_json", "description", "labels", "request_id", "oidc_client")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    AUTH_MODE_FIELD_NUMBER: _ClassVar[int]
    CA_CERT_FIELD_NUMBER: _ClassVar[int]
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    METADATA_JSON_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    OIDC_CLIENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    endpoint: str
    scheme: GatewayScheme
    auth_mode: GatewayAuthMode
    ca_cert: bytes
    credentials: GatewayCredentials
    metadata_json: str
    description: str
    labels: _containers.ScalarMap[str, str]
    request_id: str
    oidc_client: GatewayOidcClient
    def __init__(self, name: _Optional[str] = ..., endpoint: _Optional[str] = ..., scheme: _Optional[_Union[GatewayScheme, str]] = ..., auth_mode: _Optional[_Union[GatewayAuthMode, str]] = ..., ca_cert: _Optional[bytes] = ..., credentials: _Optional[_Union[GatewayCredentials, _Mapping]] = ..., metadata_json: _Optional[str] = ..., description: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., request_id: _Optional[str] = ..., oidc_client: _Optional[_Union[GatewayOidcClient, _Mapping]] = ...) -> None: ...

class RegisterGatewayResponse(_message.Message):
    __slots__ = ("gateway",)
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    gateway: Gateway
    def __init__(self, gateway: _Optional[_Union[Gateway, _Mapping]] = ...) -> None: ...

class GetGatewayRequest(_message.Message):
    __slots__ = ("gateway",)
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    def __init__(self, gateway: _Optional[str] = ...) -> None: ...

class GetGatewayResponse(_message.Message):
    __slots__ = ("gateway",)
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    gateway: Gateway
    def __init__(self, gateway: _Optional[_Union[Gateway, _Mapping]] = ...) -> None: ...

class ListGatewaysRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "label_selector")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    LABEL_SELECTOR_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    label_selector: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., label_selector: _Optional[str] = ...) -> None: ...

class ListGatewaysResponse(_message.Message):
    __slots__ = ("gateways", "next_page_token")
    GATEWAYS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    gateways: _containers.RepeatedCompositeFieldContainer[Gateway]
    next_page_token: str
    def __init__(self, gateways: _Optional[_Iterable[_Union[Gateway, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchGatewaysRequest(_message.Message):
    __slots__ = ("after_sequence",)
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    after_sequence: int
    def __init__(self, after_sequence: _Optional[int] = ...) -> None: ...

class GatewayNames(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...

class WatchGatewaysResponse(_message.Message):
    __slots__ = ("gateway", "removed_gateway", "present", "sequence")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    REMOVED_GATEWAY_FIELD_NUMBER: _ClassVar[int]
    PRESENT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    gateway: Gateway
    removed_gateway: str
    present: GatewayNames
    sequence: int
    def __init__(self, gateway: _Optional[_Union[Gateway, _Mapping]] = ..., removed_gateway: _Optional[str] = ..., present: _Optional[_Union[GatewayNames, _Mapping]] = ..., sequence: _Optional[int] = ...) -> None: ...

class GetGatewayHealthRequest(_message.Message):
    __slots__ = ("gateway",)
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    def __init__(self, gateway: _Optional[str] = ...) -> None: ...

class GatewayState(_message.Message):
    __slots__ = ("begin_time", "status", "version", "error")
    BEGIN_TIME_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    begin_time: _timestamp_pb2.Timestamp
    status: GatewayStatus
    version: str
    error: str
    def __init__(self, begin_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., status: _Optional[_Union[GatewayStatus, str]] = ..., version: _Optional[str] = ..., error: _Optional[str] = ...) -> None: ...

class GetGatewayHealthResponse(_message.Message):
    __slots__ = ("status", "probe_time", "last_seen_time", "version", "probe_count", "failure_count", "latency_p50", "latency_p90", "latency_p99", "states")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PROBE_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_TIME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROBE_COUNT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_COUNT_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P50_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P90_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P99_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    status: GatewayStatus
    probe_time: _timestamp_pb2.Timestamp
    last_seen_time: _timestamp_pb2.Timestamp
    version: str
    probe_count: int
    failure_count: int
    latency_p50: _duration_pb2.Duration
    latency_p90: _duration_pb2.Duration
    latency_p99: _duration_pb2.Duration
    states: _containers.RepeatedCompositeFieldContainer[GatewayState]
    def __init__(self, status: _Optional[_Union[GatewayStatus, str]] = ..., probe_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., last_seen_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., version: _Optional[str] = ..., probe_count: _Optional[int] = ..., failure_count: _Optional[int] = ..., latency_p50: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., latency_p90: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., latency_p99: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., states: _Optional[_Iterable[_Union[GatewayState, _Mapping]]] = ...) -> None: ...

class UpdateGatewayRequest(_message.Message):
    __slots__ = ("gateway", "update_mask", "endpoint", "scheme", "auth_mode", "ca_cert", "credentials", "metadata_json", "description", "labels", "etag", "request_id", "oidc_client", "pinned_generation")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    AUTH_MODE_FIELD_NUMBER: _ClassVar[int]
    CA_CERT_FIELD_NUMBER: _ClassVar[int]
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    METADATA_JSON_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    OIDC_CLIENT_FIELD_NUMBER: _ClassVar[int]
    PINNED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    update_mask: _field_mask_pb2.FieldMask
    endpoint: str
    scheme: GatewayScheme
    auth_mode: GatewayAuthMode
    ca_cert: bytes
    credentials: GatewayCredentials
    metadata_json: str
    description: str
    labels: _containers.ScalarMap[str, str]
    etag: str
    request_id: str
    oidc_client: GatewayOidcClient
    pinned_generation: WireGeneration
    def __init__(self, gateway: _Optional[str] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., endpoint: _Optional[str] = ..., scheme: _Optional[_Union[GatewayScheme, str]] = ..., auth_mode: _Optional[_Union[GatewayAuthMode, str]] = ..., ca_cert: _Optional[bytes] = ..., credentials: _Optional[_Union[GatewayCredentials, _Mapping]] = ..., metadata_json: _Optional[str] = ..., description: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., etag: _Optional[str] = ..., request_id: _Optional[str] = ..., oidc_client: _Optional[_Union[GatewayOidcClient, _Mapping]] = ..., pinned_generation: _Optional[_Union[WireGeneration, str]] = ...) -> None: ...

class UpdateGatewayResponse(_message.Message):
    __slots__ = ("gateway",)
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    gateway: Gateway
    def __init__(self, gateway: _Optional[_Union[Gateway, _Mapping]] = ...) -> None: ...

class RotateGatewayCredentialsRequest(_message.Message):
    __slots__ = ("gateway", "credentials", "unproven", "etag", "request_id")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    UNPROVEN_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    credentials: GatewayCredentials
    unproven: bool
    etag: str
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., credentials: _Optional[_Union[GatewayCredentials, _Mapping]] = ..., unproven: bool = ..., etag: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class RotateGatewayCredentialsResponse(_message.Message):
    __slots__ = ("gateway", "rotated")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    ROTATED_FIELD_NUMBER: _ClassVar[int]
    gateway: Gateway
    rotated: bool
    def __init__(self, gateway: _Optional[_Union[Gateway, _Mapping]] = ..., rotated: bool = ...) -> None: ...

class UnregisterGatewayRequest(_message.Message):
    __slots__ = ("gateway", "etag", "request_id", "force")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    etag: str
    request_id: str
    force: bool
    def __init__(self, gateway: _Optional[str] = ..., etag: _Optional[str] = ..., request_id: _Optional[str] = ..., force: bool = ...) -> None: ...

class UnregisterGatewayResponse(_message.Message):
    __slots__ = ("gateway_roles_removed", "sandbox_metadata_removed", "ssh_sessions_removed", "boot_hooks_removed", "sboms_removed", "operations_canceled", "streams_ended")
    GATEWAY_ROLES_REMOVED_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_METADATA_REMOVED_FIELD_NUMBER: _ClassVar[int]
    SSH_SESSIONS_REMOVED_FIELD_NUMBER: _ClassVar[int]
    BOOT_HOOKS_REMOVED_FIELD_NUMBER: _ClassVar[int]
    SBOMS_REMOVED_FIELD_NUMBER: _ClassVar[int]
    OPERATIONS_CANCELED_FIELD_NUMBER: _ClassVar[int]
    STREAMS_ENDED_FIELD_NUMBER: _ClassVar[int]
    gateway_roles_removed: int
    sandbox_metadata_removed: int
    ssh_sessions_removed: int
    boot_hooks_removed: int
    sboms_removed: int
    operations_canceled: int
    streams_ended: int
    def __init__(self, gateway_roles_removed: _Optional[int] = ..., sandbox_metadata_removed: _Optional[int] = ..., ssh_sessions_removed: _Optional[int] = ..., boot_hooks_removed: _Optional[int] = ..., sboms_removed: _Optional[int] = ..., operations_canceled: _Optional[int] = ..., streams_ended: _Optional[int] = ...) -> None: ...

class TestGatewayRequest(_message.Message):
    __slots__ = ("gateway", "request_id")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class TestGatewayResponse(_message.Message):
    __slots__ = ("reachable", "status", "version", "wire_generation", "latency", "error", "usable")
    REACHABLE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WIRE_GENERATION_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    USABLE_FIELD_NUMBER: _ClassVar[int]
    reachable: bool
    status: GatewayStatus
    version: str
    wire_generation: WireGeneration
    latency: _duration_pb2.Duration
    error: str
    usable: bool
    def __init__(self, reachable: bool = ..., status: _Optional[_Union[GatewayStatus, str]] = ..., version: _Optional[str] = ..., wire_generation: _Optional[_Union[WireGeneration, str]] = ..., latency: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., error: _Optional[str] = ..., usable: bool = ...) -> None: ...

class GatewayFinding(_message.Message):
    __slots__ = ("kind", "since_time", "description")
    KIND_FIELD_NUMBER: _ClassVar[int]
    SINCE_TIME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    kind: GatewayFindingKind
    since_time: _timestamp_pb2.Timestamp
    description: str
    def __init__(self, kind: _Optional[_Union[GatewayFindingKind, str]] = ..., since_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., description: _Optional[str] = ...) -> None: ...

class GatewaySettingValue(_message.Message):
    __slots__ = ("switch", "text", "number")
    SWITCH_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    switch: bool
    text: str
    number: int
    def __init__(self, switch: bool = ..., text: _Optional[str] = ..., number: _Optional[int] = ...) -> None: ...

class GatewaySetting(_message.Message):
    __slots__ = ("key", "value", "scope", "workspace", "sandbox", "managed_by_gateway")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    MANAGED_BY_GATEWAY_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: GatewaySettingValue
    scope: GatewaySettingScope
    workspace: str
    sandbox: str
    managed_by_gateway: bool
    def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[GatewaySettingValue, _Mapping]] = ..., scope: _Optional[_Union[GatewaySettingScope, str]] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., managed_by_gateway: bool = ...) -> None: ...

class ListGatewaySettingsRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ...) -> None: ...

class ListGatewaySettingsResponse(_message.Message):
    __slots__ = ("gateway_settings", "settings_revision")
    GATEWAY_SETTINGS_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_REVISION_FIELD_NUMBER: _ClassVar[int]
    gateway_settings: _containers.RepeatedCompositeFieldContainer[GatewaySetting]
    settings_revision: int
    def __init__(self, gateway_settings: _Optional[_Iterable[_Union[GatewaySetting, _Mapping]]] = ..., settings_revision: _Optional[int] = ...) -> None: ...

class UpdateGatewaySettingRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "key", "value", "request_id")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    key: str
    value: GatewaySettingValue
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., key: _Optional[str] = ..., value: _Optional[_Union[GatewaySettingValue, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class UpdateGatewaySettingResponse(_message.Message):
    __slots__ = ("gateway_setting", "settings_revision")
    GATEWAY_SETTING_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_REVISION_FIELD_NUMBER: _ClassVar[int]
    gateway_setting: GatewaySetting
    settings_revision: int
    def __init__(self, gateway_setting: _Optional[_Union[GatewaySetting, _Mapping]] = ..., settings_revision: _Optional[int] = ...) -> None: ...

class DeleteGatewaySettingRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "key", "request_id")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    key: str
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., key: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class DeleteGatewaySettingResponse(_message.Message):
    __slots__ = ("deleted", "settings_revision")
    DELETED_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_REVISION_FIELD_NUMBER: _ClassVar[int]
    deleted: bool
    settings_revision: int
    def __init__(self, deleted: bool = ..., settings_revision: _Optional[int] = ...) -> None: ...
