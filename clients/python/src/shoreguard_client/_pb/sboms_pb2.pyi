from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SbomSeverity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SBOM_SEVERITY_UNSPECIFIED: _ClassVar[SbomSeverity]
    SBOM_SEVERITY_CRITICAL: _ClassVar[SbomSeverity]
    SBOM_SEVERITY_HIGH: _ClassVar[SbomSeverity]
    SBOM_SEVERITY_MEDIUM: _ClassVar[SbomSeverity]
    SBOM_SEVERITY_LOW: _ClassVar[SbomSeverity]
    SBOM_SEVERITY_INFO: _ClassVar[SbomSeverity]
    SBOM_SEVERITY_NONE: _ClassVar[SbomSeverity]
    SBOM_SEVERITY_UNKNOWN: _ClassVar[SbomSeverity]
    SBOM_SEVERITY_CLEAN: _ClassVar[SbomSeverity]

class SbomAnalysisState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SBOM_ANALYSIS_STATE_UNSPECIFIED: _ClassVar[SbomAnalysisState]
    SBOM_ANALYSIS_STATE_EXPLOITABLE: _ClassVar[SbomAnalysisState]
    SBOM_ANALYSIS_STATE_IN_TRIAGE: _ClassVar[SbomAnalysisState]
    SBOM_ANALYSIS_STATE_FALSE_POSITIVE: _ClassVar[SbomAnalysisState]
    SBOM_ANALYSIS_STATE_NOT_AFFECTED: _ClassVar[SbomAnalysisState]
    SBOM_ANALYSIS_STATE_RESOLVED: _ClassVar[SbomAnalysisState]
    SBOM_ANALYSIS_STATE_RESOLVED_WITH_PEDIGREE: _ClassVar[SbomAnalysisState]

class SbomChangeKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SBOM_CHANGE_KIND_UNSPECIFIED: _ClassVar[SbomChangeKind]
    SBOM_CHANGE_KIND_ADDED: _ClassVar[SbomChangeKind]
    SBOM_CHANGE_KIND_REMOVED: _ClassVar[SbomChangeKind]
    SBOM_CHANGE_KIND_CHANGED: _ClassVar[SbomChangeKind]
SBOM_SEVERITY_UNSPECIFIED: SbomSeverity
SBOM_SEVERITY_CRITICAL: SbomSeverity
SBOM_SEVERITY_HIGH: SbomSeverity
SBOM_SEVERITY_MEDIUM: SbomSeverity
SBOM_SEVERITY_LOW: SbomSeverity
SBOM_SEVERITY_INFO: SbomSeverity
SBOM_SEVERITY_NONE: SbomSeverity
SBOM_SEVERITY_UNKNOWN: SbomSeverity
SBOM_SEVERITY_CLEAN: SbomSeverity
SBOM_ANALYSIS_STATE_UNSPECIFIED: SbomAnalysisState
SBOM_ANALYSIS_STATE_EXPLOITABLE: SbomAnalysisState
SBOM_ANALYSIS_STATE_IN_TRIAGE: SbomAnalysisState
SBOM_ANALYSIS_STATE_FALSE_POSITIVE: SbomAnalysisState
SBOM_ANALYSIS_STATE_NOT_AFFECTED: SbomAnalysisState
SBOM_ANALYSIS_STATE_RESOLVED: SbomAnalysisState
SBOM_ANALYSIS_STATE_RESOLVED_WITH_PEDIGREE: SbomAnalysisState
SBOM_CHANGE_KIND_UNSPECIFIED: SbomChangeKind
SBOM_CHANGE_KIND_ADDED: SbomChangeKind
SBOM_CHANGE_KIND_REMOVED: SbomChangeKind
SBOM_CHANGE_KIND_CHANGED: SbomChangeKind

class Sbom(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "bom_format", "spec_version", "serial_number", "uploaded_by", "upload_time", "component_count", "vulnerability_count", "max_severity", "size_bytes", "sha256", "etag")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    BOM_FORMAT_FIELD_NUMBER: _ClassVar[int]
    SPEC_VERSION_FIELD_NUMBER: _ClassVar[int]
    SERIAL_NUMBER_FIELD_NUMBER: _ClassVar[int]
    UPLOADED_BY_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_TIME_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    VULNERABILITY_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_SEVERITY_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    bom_format: str
    spec_version: str
    serial_number: str
    uploaded_by: str
    upload_time: _timestamp_pb2.Timestamp
    component_count: int
    vulnerability_count: int
    max_severity: SbomSeverity
    size_bytes: int
    sha256: str
    etag: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., bom_format: _Optional[str] = ..., spec_version: _Optional[str] = ..., serial_number: _Optional[str] = ..., uploaded_by: _Optional[str] = ..., upload_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., component_count: _Optional[int] = ..., vulnerability_count: _Optional[int] = ..., max_severity: _Optional[_Union[SbomSeverity, str]] = ..., size_bytes: _Optional[int] = ..., sha256: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class SbomComponent(_message.Message):
    __slots__ = ("bom_ref", "name", "group", "version", "purl", "type", "licenses", "vulnerability_count", "max_severity")
    BOM_REF_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PURL_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    LICENSES_FIELD_NUMBER: _ClassVar[int]
    VULNERABILITY_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_SEVERITY_FIELD_NUMBER: _ClassVar[int]
    bom_ref: str
    name: str
    group: str
    version: str
    purl: str
    type: str
    licenses: str
    vulnerability_count: int
    max_severity: SbomSeverity
    def __init__(self, bom_ref: _Optional[str] = ..., name: _Optional[str] = ..., group: _Optional[str] = ..., version: _Optional[str] = ..., purl: _Optional[str] = ..., type: _Optional[str] = ..., licenses: _Optional[str] = ..., vulnerability_count: _Optional[int] = ..., max_severity: _Optional[_Union[SbomSeverity, str]] = ...) -> None: ...

class SbomVulnerability(_message.Message):
    __slots__ = ("id", "severity", "cvss_score", "description", "affects", "affects_count", "references", "analysis_state", "counts")
    ID_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    CVSS_SCORE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    AFFECTS_FIELD_NUMBER: _ClassVar[int]
    AFFECTS_COUNT_FIELD_NUMBER: _ClassVar[int]
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    ANALYSIS_STATE_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    id: str
    severity: SbomSeverity
    cvss_score: float
    description: str
    affects: _containers.RepeatedScalarFieldContainer[str]
    affects_count: int
    references: _containers.RepeatedScalarFieldContainer[str]
    analysis_state: SbomAnalysisState
    counts: bool
    def __init__(self, id: _Optional[str] = ..., severity: _Optional[_Union[SbomSeverity, str]] = ..., cvss_score: _Optional[float] = ..., description: _Optional[str] = ..., affects: _Optional[_Iterable[str]] = ..., affects_count: _Optional[int] = ..., references: _Optional[_Iterable[str]] = ..., analysis_state: _Optional[_Union[SbomAnalysisState, str]] = ..., counts: bool = ...) -> None: ...

class SbomComponentChange(_message.Message):
    __slots__ = ("name", "group", "purl", "versions_removed", "versions_added")
    NAME_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    PURL_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_REMOVED_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_ADDED_FIELD_NUMBER: _ClassVar[int]
    name: str
    group: str
    purl: str
    versions_removed: _containers.RepeatedScalarFieldContainer[str]
    versions_added: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., group: _Optional[str] = ..., purl: _Optional[str] = ..., versions_removed: _Optional[_Iterable[str]] = ..., versions_added: _Optional[_Iterable[str]] = ...) -> None: ...

class SbomVulnerabilityChange(_message.Message):
    __slots__ = ("id", "severity_before", "severity")
    ID_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_BEFORE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    id: str
    severity_before: SbomSeverity
    severity: SbomSeverity
    def __init__(self, id: _Optional[str] = ..., severity_before: _Optional[_Union[SbomSeverity, str]] = ..., severity: _Optional[_Union[SbomSeverity, str]] = ...) -> None: ...

class SbomChange(_message.Message):
    __slots__ = ("kind", "vulnerability", "component")
    KIND_FIELD_NUMBER: _ClassVar[int]
    VULNERABILITY_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    kind: SbomChangeKind
    vulnerability: SbomVulnerabilityChange
    component: SbomComponentChange
    def __init__(self, kind: _Optional[_Union[SbomChangeKind, str]] = ..., vulnerability: _Optional[_Union[SbomVulnerabilityChange, _Mapping]] = ..., component: _Optional[_Union[SbomComponentChange, _Mapping]] = ...) -> None: ...

class SbomChangeCounts(_message.Message):
    __slots__ = ("components_added", "components_removed", "components_changed", "vulnerabilities_added", "vulnerabilities_removed", "vulnerabilities_changed")
    COMPONENTS_ADDED_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_REMOVED_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_CHANGED_FIELD_NUMBER: _ClassVar[int]
    VULNERABILITIES_ADDED_FIELD_NUMBER: _ClassVar[int]
    VULNERABILITIES_REMOVED_FIELD_NUMBER: _ClassVar[int]
    VULNERABILITIES_CHANGED_FIELD_NUMBER: _ClassVar[int]
    components_added: int
    components_removed: int
    components_changed: int
    vulnerabilities_added: int
    vulnerabilities_removed: int
    vulnerabilities_changed: int
    def __init__(self, components_added: _Optional[int] = ..., components_removed: _Optional[int] = ..., components_changed: _Optional[int] = ..., vulnerabilities_added: _Optional[int] = ..., vulnerabilities_removed: _Optional[int] = ..., vulnerabilities_changed: _Optional[int] = ...) -> None: ...

class UploadSbomRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "sha256", "request_id", "chunk")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    sha256: str
    request_id: str
    chunk: bytes
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., sha256: _Optional[str] = ..., request_id: _Optional[str] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class UploadSbomResponse(_message.Message):
    __slots__ = ("sbom", "replaced", "counts", "changes", "changes_cut", "entries_skipped", "texts_cut", "cut_paths")
    SBOM_FIELD_NUMBER: _ClassVar[int]
    REPLACED_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    CHANGES_CUT_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_SKIPPED_FIELD_NUMBER: _ClassVar[int]
    TEXTS_CUT_FIELD_NUMBER: _ClassVar[int]
    CUT_PATHS_FIELD_NUMBER: _ClassVar[int]
    sbom: Sbom
    replaced: bool
    counts: SbomChangeCounts
    changes: _containers.RepeatedCompositeFieldContainer[SbomChange]
    changes_cut: bool
    entries_skipped: int
    texts_cut: int
    cut_paths: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, sbom: _Optional[_Union[Sbom, _Mapping]] = ..., replaced: bool = ..., counts: _Optional[_Union[SbomChangeCounts, _Mapping]] = ..., changes: _Optional[_Iterable[_Union[SbomChange, _Mapping]]] = ..., changes_cut: bool = ..., entries_skipped: _Optional[int] = ..., texts_cut: _Optional[int] = ..., cut_paths: _Optional[_Iterable[str]] = ...) -> None: ...

class DeleteSbomRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "etag", "request_id")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    etag: str
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., etag: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class DeleteSbomResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetSbomRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ...) -> None: ...

class GetSbomResponse(_message.Message):
    __slots__ = ("sbom",)
    SBOM_FIELD_NUMBER: _ClassVar[int]
    sbom: Sbom
    def __init__(self, sbom: _Optional[_Union[Sbom, _Mapping]] = ...) -> None: ...

class ListSbomComponentsRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "search", "severity", "page_size", "page_token")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    SEARCH_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    search: str
    severity: SbomSeverity
    page_size: int
    page_token: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., search: _Optional[str] = ..., severity: _Optional[_Union[SbomSeverity, str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSbomComponentsResponse(_message.Message):
    __slots__ = ("sbom_components", "next_page_token")
    SBOM_COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    sbom_components: _containers.RepeatedCompositeFieldContainer[SbomComponent]
    next_page_token: str
    def __init__(self, sbom_components: _Optional[_Iterable[_Union[SbomComponent, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListSbomVulnerabilitiesRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "severity", "bom_ref", "page_size", "page_token")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    BOM_REF_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    severity: SbomSeverity
    bom_ref: str
    page_size: int
    page_token: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., severity: _Optional[_Union[SbomSeverity, str]] = ..., bom_ref: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSbomVulnerabilitiesResponse(_message.Message):
    __slots__ = ("sbom_vulnerabilities", "next_page_token")
    SBOM_VULNERABILITIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    sbom_vulnerabilities: _containers.RepeatedCompositeFieldContainer[SbomVulnerability]
    next_page_token: str
    def __init__(self, sbom_vulnerabilities: _Optional[_Iterable[_Union[SbomVulnerability, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DownloadSbomRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ...) -> None: ...

class DownloadSbomResponse(_message.Message):
    __slots__ = ("chunk",)
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    def __init__(self, chunk: _Optional[bytes] = ...) -> None: ...

class SearchComponentsRequest(_message.Message):
    __slots__ = ("name", "name_contains", "purl_prefix", "purl_contains", "version_from", "version_below", "severity", "gateway", "page_size", "page_token")
    NAME_FIELD_NUMBER: _ClassVar[int]
    NAME_CONTAINS_FIELD_NUMBER: _ClassVar[int]
    PURL_PREFIX_FIELD_NUMBER: _ClassVar[int]
    PURL_CONTAINS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FROM_FIELD_NUMBER: _ClassVar[int]
    VERSION_BELOW_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    name: str
    name_contains: str
    purl_prefix: str
    purl_contains: str
    version_from: str
    version_below: str
    severity: SbomSeverity
    gateway: str
    page_size: int
    page_token: str
    def __init__(self, name: _Optional[str] = ..., name_contains: _Optional[str] = ..., purl_prefix: _Optional[str] = ..., purl_contains: _Optional[str] = ..., version_from: _Optional[str] = ..., version_below: _Optional[str] = ..., severity: _Optional[_Union[SbomSeverity, str]] = ..., gateway: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class FoundComponent(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "component")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    component: SbomComponent
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., component: _Optional[_Union[SbomComponent, _Mapping]] = ...) -> None: ...

class SearchComponentsResponse(_message.Message):
    __slots__ = ("found_components", "next_page_token")
    FOUND_COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    found_components: _containers.RepeatedCompositeFieldContainer[FoundComponent]
    next_page_token: str
    def __init__(self, found_components: _Optional[_Iterable[_Union[FoundComponent, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DiffSbomsRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "other_gateway", "other_workspace", "other_sandbox", "page_size", "page_token")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    OTHER_GATEWAY_FIELD_NUMBER: _ClassVar[int]
    OTHER_WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    OTHER_SANDBOX_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    other_gateway: str
    other_workspace: str
    other_sandbox: str
    page_size: int
    page_token: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., other_gateway: _Optional[str] = ..., other_workspace: _Optional[str] = ..., other_sandbox: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class DiffSbomsResponse(_message.Message):
    __slots__ = ("counts", "changes", "next_page_token")
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    counts: SbomChangeCounts
    changes: _containers.RepeatedCompositeFieldContainer[SbomChange]
    next_page_token: str
    def __init__(self, counts: _Optional[_Union[SbomChangeCounts, _Mapping]] = ..., changes: _Optional[_Iterable[_Union[SbomChange, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
