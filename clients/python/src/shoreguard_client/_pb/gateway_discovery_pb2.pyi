from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DiscoveryOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DISCOVERY_OUTCOME_UNSPECIFIED: _ClassVar[DiscoveryOutcome]
    DISCOVERY_OUTCOME_REGISTERED: _ClassVar[DiscoveryOutcome]
    DISCOVERY_OUTCOME_REGISTRABLE: _ClassVar[DiscoveryOutcome]
    DISCOVERY_OUTCOME_ALREADY_REGISTERED: _ClassVar[DiscoveryOutcome]
    DISCOVERY_OUTCOME_REFUSED: _ClassVar[DiscoveryOutcome]
    DISCOVERY_OUTCOME_LEFT: _ClassVar[DiscoveryOutcome]
DISCOVERY_OUTCOME_UNSPECIFIED: DiscoveryOutcome
DISCOVERY_OUTCOME_REGISTERED: DiscoveryOutcome
DISCOVERY_OUTCOME_REGISTRABLE: DiscoveryOutcome
DISCOVERY_OUTCOME_ALREADY_REGISTERED: DiscoveryOutcome
DISCOVERY_OUTCOME_REFUSED: DiscoveryOutcome
DISCOVERY_OUTCOME_LEFT: DiscoveryOutcome

class DiscoverGatewaysRequest(_message.Message):
    __slots__ = ("domains", "request_id")
    DOMAINS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    domains: _containers.RepeatedScalarFieldContainer[str]
    request_id: str
    def __init__(self, domains: _Optional[_Iterable[str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class DiscoverGatewaysResponse(_message.Message):
    __slots__ = ("gateways", "run")
    GATEWAYS_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    gateways: _containers.RepeatedCompositeFieldContainer[DiscoveredGateway]
    run: GatewayDiscoveryRun
    def __init__(self, gateways: _Optional[_Iterable[_Union[DiscoveredGateway, _Mapping]]] = ..., run: _Optional[_Union[GatewayDiscoveryRun, _Mapping]] = ...) -> None: ...

class DiscoveredGateway(_message.Message):
    __slots__ = ("domain", "host", "port", "priority", "weight", "endpoint", "name", "outcome", "reason")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    domain: str
    host: str
    port: int
    priority: int
    weight: int
    endpoint: str
    name: str
    outcome: DiscoveryOutcome
    reason: str
    def __init__(self, domain: _Optional[str] = ..., host: _Optional[str] = ..., port: _Optional[int] = ..., priority: _Optional[int] = ..., weight: _Optional[int] = ..., endpoint: _Optional[str] = ..., name: _Optional[str] = ..., outcome: _Optional[_Union[DiscoveryOutcome, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class DiscoveryDomain(_message.Message):
    __slots__ = ("domain", "found_count", "error")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    FOUND_COUNT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    domain: str
    found_count: int
    error: str
    def __init__(self, domain: _Optional[str] = ..., found_count: _Optional[int] = ..., error: _Optional[str] = ...) -> None: ...

class GatewayDiscoveryRun(_message.Message):
    __slots__ = ("begin_time", "end_time", "actor", "found_count", "registered_count", "skipped_count", "failed_count", "domains")
    BEGIN_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    FOUND_COUNT_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_COUNT_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_COUNT_FIELD_NUMBER: _ClassVar[int]
    FAILED_COUNT_FIELD_NUMBER: _ClassVar[int]
    DOMAINS_FIELD_NUMBER: _ClassVar[int]
    begin_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    actor: str
    found_count: int
    registered_count: int
    skipped_count: int
    failed_count: int
    domains: _containers.RepeatedCompositeFieldContainer[DiscoveryDomain]
    def __init__(self, begin_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., actor: _Optional[str] = ..., found_count: _Optional[int] = ..., registered_count: _Optional[int] = ..., skipped_count: _Optional[int] = ..., failed_count: _Optional[int] = ..., domains: _Optional[_Iterable[_Union[DiscoveryDomain, _Mapping]]] = ...) -> None: ...

class GetGatewayDiscoveryStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetGatewayDiscoveryStatusResponse(_message.Message):
    __slots__ = ("enabled", "domains", "interval", "auto_register", "last_run")
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    DOMAINS_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    AUTO_REGISTER_FIELD_NUMBER: _ClassVar[int]
    LAST_RUN_FIELD_NUMBER: _ClassVar[int]
    enabled: bool
    domains: _containers.RepeatedScalarFieldContainer[str]
    interval: _duration_pb2.Duration
    auto_register: bool
    last_run: GatewayDiscoveryRun
    def __init__(self, enabled: bool = ..., domains: _Optional[_Iterable[str]] = ..., interval: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., auto_register: bool = ..., last_run: _Optional[_Union[GatewayDiscoveryRun, _Mapping]] = ...) -> None: ...
