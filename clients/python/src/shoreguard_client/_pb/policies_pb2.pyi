from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from . import common_pb2 as _common_pb2
from . import gateways_pb2 as _gateways_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PolicyView(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POLICY_VIEW_UNSPECIFIED: _ClassVar[PolicyView]
    POLICY_VIEW_BASE: _ClassVar[PolicyView]
    POLICY_VIEW_EFFECTIVE: _ClassVar[PolicyView]

class PolicyRevisionStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POLICY_REVISION_STATUS_UNSPECIFIED: _ClassVar[PolicyRevisionStatus]
    POLICY_REVISION_STATUS_PENDING: _ClassVar[PolicyRevisionStatus]
    POLICY_REVISION_STATUS_LOADED: _ClassVar[PolicyRevisionStatus]
    POLICY_REVISION_STATUS_FAILED: _ClassVar[PolicyRevisionStatus]
    POLICY_REVISION_STATUS_SUPERSEDED: _ClassVar[PolicyRevisionStatus]

class PolicySource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POLICY_SOURCE_UNSPECIFIED: _ClassVar[PolicySource]
    POLICY_SOURCE_SANDBOX: _ClassVar[PolicySource]
    POLICY_SOURCE_GATEWAY: _ClassVar[PolicySource]

class PolicyDifferenceKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POLICY_DIFFERENCE_KIND_UNSPECIFIED: _ClassVar[PolicyDifferenceKind]
    POLICY_DIFFERENCE_KIND_ADDED: _ClassVar[PolicyDifferenceKind]
    POLICY_DIFFERENCE_KIND_REMOVED: _ClassVar[PolicyDifferenceKind]
    POLICY_DIFFERENCE_KIND_CHANGED: _ClassVar[PolicyDifferenceKind]

class PolicyChangeOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POLICY_CHANGE_OUTCOME_UNSPECIFIED: _ClassVar[PolicyChangeOutcome]
    POLICY_CHANGE_OUTCOME_UP_TO_DATE: _ClassVar[PolicyChangeOutcome]
    POLICY_CHANGE_OUTCOME_VALIDATED: _ClassVar[PolicyChangeOutcome]
    POLICY_CHANGE_OUTCOME_PROPOSED: _ClassVar[PolicyChangeOutcome]
    POLICY_CHANGE_OUTCOME_APPLYING: _ClassVar[PolicyChangeOutcome]

class PolicyVerdictKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POLICY_VERDICT_KIND_UNSPECIFIED: _ClassVar[PolicyVerdictKind]
    POLICY_VERDICT_KIND_APPLY: _ClassVar[PolicyVerdictKind]
    POLICY_VERDICT_KIND_PROPOSE: _ClassVar[PolicyVerdictKind]
    POLICY_VERDICT_KIND_REFUSE: _ClassVar[PolicyVerdictKind]

class PolicyApplyMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POLICY_APPLY_MODE_UNSPECIFIED: _ClassVar[PolicyApplyMode]
    POLICY_APPLY_MODE_REPLACE: _ClassVar[PolicyApplyMode]
    POLICY_APPLY_MODE_MERGE: _ClassVar[PolicyApplyMode]
POLICY_VIEW_UNSPECIFIED: PolicyView
POLICY_VIEW_BASE: PolicyView
POLICY_VIEW_EFFECTIVE: PolicyView
POLICY_REVISION_STATUS_UNSPECIFIED: PolicyRevisionStatus
POLICY_REVISION_STATUS_PENDING: PolicyRevisionStatus
POLICY_REVISION_STATUS_LOADED: PolicyRevisionStatus
POLICY_REVISION_STATUS_FAILED: PolicyRevisionStatus
POLICY_REVISION_STATUS_SUPERSEDED: PolicyRevisionStatus
POLICY_SOURCE_UNSPECIFIED: PolicySource
POLICY_SOURCE_SANDBOX: PolicySource
POLICY_SOURCE_GATEWAY: PolicySource
POLICY_DIFFERENCE_KIND_UNSPECIFIED: PolicyDifferenceKind
POLICY_DIFFERENCE_KIND_ADDED: PolicyDifferenceKind
POLICY_DIFFERENCE_KIND_REMOVED: PolicyDifferenceKind
POLICY_DIFFERENCE_KIND_CHANGED: PolicyDifferenceKind
POLICY_CHANGE_OUTCOME_UNSPECIFIED: PolicyChangeOutcome
POLICY_CHANGE_OUTCOME_UP_TO_DATE: PolicyChangeOutcome
POLICY_CHANGE_OUTCOME_VALIDATED: PolicyChangeOutcome
POLICY_CHANGE_OUTCOME_PROPOSED: PolicyChangeOutcome
POLICY_CHANGE_OUTCOME_APPLYING: PolicyChangeOutcome
POLICY_VERDICT_KIND_UNSPECIFIED: PolicyVerdictKind
POLICY_VERDICT_KIND_APPLY: PolicyVerdictKind
POLICY_VERDICT_KIND_PROPOSE: PolicyVerdictKind
POLICY_VERDICT_KIND_REFUSE: PolicyVerdictKind
POLICY_APPLY_MODE_UNSPECIFIED: PolicyApplyMode
POLICY_APPLY_MODE_REPLACE: PolicyApplyMode
POLICY_APPLY_MODE_MERGE: PolicyApplyMode

class PolicyRevision(_message.Message):
    __slots__ = ("version", "policy_hash", "status", "load_error", "create_time", "load_time", "provenance")
    class ProvenanceEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    POLICY_HASH_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    LOAD_ERROR_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    LOAD_TIME_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    version: int
    policy_hash: str
    status: PolicyRevisionStatus
    load_error: str
    create_time: _timestamp_pb2.Timestamp
    load_time: _timestamp_pb2.Timestamp
    provenance: _containers.ScalarMap[str, str]
    def __init__(self, version: _Optional[int] = ..., policy_hash: _Optional[str] = ..., status: _Optional[_Union[PolicyRevisionStatus, str]] = ..., load_error: _Optional[str] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., load_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., provenance: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Policy(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "wire_generation", "revision", "active_version", "yaml", "digest", "policy_hash", "marks", "unknown_parts", "source", "gateway_policy_version")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    WIRE_GENERATION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_VERSION_FIELD_NUMBER: _ClassVar[int]
    YAML_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    POLICY_HASH_FIELD_NUMBER: _ClassVar[int]
    MARKS_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_PARTS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    wire_generation: _gateways_pb2.WireGeneration
    revision: PolicyRevision
    active_version: int
    yaml: str
    digest: str
    policy_hash: str
    marks: _containers.RepeatedScalarFieldContainer[str]
    unknown_parts: _containers.RepeatedScalarFieldContainer[str]
    source: PolicySource
    gateway_policy_version: int
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., wire_generation: _Optional[_Union[_gateways_pb2.WireGeneration, str]] = ..., revision: _Optional[_Union[PolicyRevision, _Mapping]] = ..., active_version: _Optional[int] = ..., yaml: _Optional[str] = ..., digest: _Optional[str] = ..., policy_hash: _Optional[str] = ..., marks: _Optional[_Iterable[str]] = ..., unknown_parts: _Optional[_Iterable[str]] = ..., source: _Optional[_Union[PolicySource, str]] = ..., gateway_policy_version: _Optional[int] = ...) -> None: ...

class GetPolicyRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "view", "version")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    view: PolicyView
    version: int
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., view: _Optional[_Union[PolicyView, str]] = ..., version: _Optional[int] = ...) -> None: ...

class GetPolicyResponse(_message.Message):
    __slots__ = ("policy",)
    POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: Policy
    def __init__(self, policy: _Optional[_Union[Policy, _Mapping]] = ...) -> None: ...

class ListPolicyRevisionsRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "page_size", "page_token")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    page_size: int
    page_token: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListPolicyRevisionsResponse(_message.Message):
    __slots__ = ("policy_revisions", "next_page_token")
    POLICY_REVISIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    policy_revisions: _containers.RepeatedCompositeFieldContainer[PolicyRevision]
    next_page_token: str
    def __init__(self, policy_revisions: _Optional[_Iterable[_Union[PolicyRevision, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class PolicyOperand(_message.Message):
    __slots__ = ("version", "yaml", "approval_id")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    YAML_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    version: int
    yaml: str
    approval_id: int
    def __init__(self, version: _Optional[int] = ..., yaml: _Optional[str] = ..., approval_id: _Optional[int] = ...) -> None: ...

class PolicyDifference(_message.Message):
    __slots__ = ("path", "kind", "old", "new")
    PATH_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    OLD_FIELD_NUMBER: _ClassVar[int]
    NEW_FIELD_NUMBER: _ClassVar[int]
    path: str
    kind: PolicyDifferenceKind
    old: str
    new: str
    def __init__(self, path: _Optional[str] = ..., kind: _Optional[_Union[PolicyDifferenceKind, str]] = ..., old: _Optional[str] = ..., new: _Optional[str] = ...) -> None: ...

class PolicySectionCount(_message.Message):
    __slots__ = ("section", "added", "removed", "changed")
    SECTION_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    section: str
    added: int
    removed: int
    changed: int
    def __init__(self, section: _Optional[str] = ..., added: _Optional[int] = ..., removed: _Optional[int] = ..., changed: _Optional[int] = ...) -> None: ...

class DiffPoliciesRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "to")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    to: PolicyOperand
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., to: _Optional[_Union[PolicyOperand, _Mapping]] = ..., **kwargs) -> None: ...

class DiffPoliciesResponse(_message.Message):
    __slots__ = ("policy_differences", "omitted", "policy_section_counts", "equivalent", "from_digest", "to_digest")
    POLICY_DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    OMITTED_FIELD_NUMBER: _ClassVar[int]
    POLICY_SECTION_COUNTS_FIELD_NUMBER: _ClassVar[int]
    EQUIVALENT_FIELD_NUMBER: _ClassVar[int]
    FROM_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TO_DIGEST_FIELD_NUMBER: _ClassVar[int]
    policy_differences: _containers.RepeatedCompositeFieldContainer[PolicyDifference]
    omitted: int
    policy_section_counts: _containers.RepeatedCompositeFieldContainer[PolicySectionCount]
    equivalent: bool
    from_digest: str
    to_digest: str
    def __init__(self, policy_differences: _Optional[_Iterable[_Union[PolicyDifference, _Mapping]]] = ..., omitted: _Optional[int] = ..., policy_section_counts: _Optional[_Iterable[_Union[PolicySectionCount, _Mapping]]] = ..., equivalent: bool = ..., from_digest: _Optional[str] = ..., to_digest: _Optional[str] = ...) -> None: ...

class ExportPolicyRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "version")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    version: int
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class ExportPolicyResponse(_message.Message):
    __slots__ = ("yaml", "version", "policy_hash", "digest")
    YAML_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    POLICY_HASH_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    yaml: str
    version: int
    policy_hash: str
    digest: str
    def __init__(self, yaml: _Optional[str] = ..., version: _Optional[int] = ..., policy_hash: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...

class PolicyPreset(_message.Message):
    __slots__ = ("name", "description", "built_in", "wire_generations", "yaml")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    BUILT_IN_FIELD_NUMBER: _ClassVar[int]
    WIRE_GENERATIONS_FIELD_NUMBER: _ClassVar[int]
    YAML_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    built_in: bool
    wire_generations: _containers.RepeatedScalarFieldContainer[_gateways_pb2.WireGeneration]
    yaml: str
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., built_in: bool = ..., wire_generations: _Optional[_Iterable[_Union[_gateways_pb2.WireGeneration, str]]] = ..., yaml: _Optional[str] = ...) -> None: ...

class ListPolicyPresetsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListPolicyPresetsResponse(_message.Message):
    __slots__ = ("policy_presets", "next_page_token")
    POLICY_PRESETS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    policy_presets: _containers.RepeatedCompositeFieldContainer[PolicyPreset]
    next_page_token: str
    def __init__(self, policy_presets: _Optional[_Iterable[_Union[PolicyPreset, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetPolicyPresetRequest(_message.Message):
    __slots__ = ("policy_preset",)
    POLICY_PRESET_FIELD_NUMBER: _ClassVar[int]
    policy_preset: str
    def __init__(self, policy_preset: _Optional[str] = ...) -> None: ...

class GetPolicyPresetResponse(_message.Message):
    __slots__ = ("policy_preset",)
    POLICY_PRESET_FIELD_NUMBER: _ClassVar[int]
    policy_preset: PolicyPreset
    def __init__(self, policy_preset: _Optional[_Union[PolicyPreset, _Mapping]] = ...) -> None: ...

class PolicyVerdict(_message.Message):
    __slots__ = ("kind", "reason", "message")
    KIND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    kind: PolicyVerdictKind
    reason: _common_pb2.ErrorReason
    message: str
    def __init__(self, kind: _Optional[_Union[PolicyVerdictKind, str]] = ..., reason: _Optional[_Union[_common_pb2.ErrorReason, str]] = ..., message: _Optional[str] = ...) -> None: ...

class PolicyChange(_message.Message):
    __slots__ = ("outcome", "policy_differences", "omitted", "policy_section_counts", "base_version", "base_digest", "digest", "etag", "verdict", "approval_id", "approval_digest", "operation")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    POLICY_DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    OMITTED_FIELD_NUMBER: _ClassVar[int]
    POLICY_SECTION_COUNTS_FIELD_NUMBER: _ClassVar[int]
    BASE_VERSION_FIELD_NUMBER: _ClassVar[int]
    BASE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    outcome: PolicyChangeOutcome
    policy_differences: _containers.RepeatedCompositeFieldContainer[PolicyDifference]
    omitted: int
    policy_section_counts: _containers.RepeatedCompositeFieldContainer[PolicySectionCount]
    base_version: int
    base_digest: str
    digest: str
    etag: str
    verdict: PolicyVerdict
    approval_id: int
    approval_digest: str
    operation: str
    def __init__(self, outcome: _Optional[_Union[PolicyChangeOutcome, str]] = ..., policy_differences: _Optional[_Iterable[_Union[PolicyDifference, _Mapping]]] = ..., omitted: _Optional[int] = ..., policy_section_counts: _Optional[_Iterable[_Union[PolicySectionCount, _Mapping]]] = ..., base_version: _Optional[int] = ..., base_digest: _Optional[str] = ..., digest: _Optional[str] = ..., etag: _Optional[str] = ..., verdict: _Optional[_Union[PolicyVerdict, _Mapping]] = ..., approval_id: _Optional[int] = ..., approval_digest: _Optional[str] = ..., operation: _Optional[str] = ...) -> None: ...

class ApplyPolicyRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "yaml", "mode", "etag", "validate_only", "comment", "grant_duration", "request_id")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    YAML_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    GRANT_DURATION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    yaml: str
    mode: PolicyApplyMode
    etag: str
    validate_only: bool
    comment: str
    grant_duration: _duration_pb2.Duration
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., yaml: _Optional[str] = ..., mode: _Optional[_Union[PolicyApplyMode, str]] = ..., etag: _Optional[str] = ..., validate_only: bool = ..., comment: _Optional[str] = ..., grant_duration: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class ApplyPolicyResponse(_message.Message):
    __slots__ = ("policy_change",)
    POLICY_CHANGE_FIELD_NUMBER: _ClassVar[int]
    policy_change: PolicyChange
    def __init__(self, policy_change: _Optional[_Union[PolicyChange, _Mapping]] = ...) -> None: ...

class PolicyEditTarget(_message.Message):
    __slots__ = ("rule_name", "host", "ports", "path", "binaries", "any_binary")
    RULE_NAME_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    BINARIES_FIELD_NUMBER: _ClassVar[int]
    ANY_BINARY_FIELD_NUMBER: _ClassVar[int]
    rule_name: str
    host: str
    ports: _containers.RepeatedScalarFieldContainer[int]
    path: str
    binaries: _containers.RepeatedScalarFieldContainer[str]
    any_binary: bool
    def __init__(self, rule_name: _Optional[str] = ..., host: _Optional[str] = ..., ports: _Optional[_Iterable[int]] = ..., path: _Optional[str] = ..., binaries: _Optional[_Iterable[str]] = ..., any_binary: bool = ...) -> None: ...

class AddPolicyRule(_message.Message):
    __slots__ = ("rule_name", "yaml")
    RULE_NAME_FIELD_NUMBER: _ClassVar[int]
    YAML_FIELD_NUMBER: _ClassVar[int]
    rule_name: str
    yaml: str
    def __init__(self, rule_name: _Optional[str] = ..., yaml: _Optional[str] = ...) -> None: ...

class RemovePolicyRule(_message.Message):
    __slots__ = ("rule_name",)
    RULE_NAME_FIELD_NUMBER: _ClassVar[int]
    rule_name: str
    def __init__(self, rule_name: _Optional[str] = ...) -> None: ...

class RemovePolicyEndpoint(_message.Message):
    __slots__ = ("rule_name", "host", "port")
    RULE_NAME_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    rule_name: str
    host: str
    port: int
    def __init__(self, rule_name: _Optional[str] = ..., host: _Optional[str] = ..., port: _Optional[int] = ...) -> None: ...

class AddPolicyDenyRules(_message.Message):
    __slots__ = ("target", "yaml")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    YAML_FIELD_NUMBER: _ClassVar[int]
    target: PolicyEditTarget
    yaml: str
    def __init__(self, target: _Optional[_Union[PolicyEditTarget, _Mapping]] = ..., yaml: _Optional[str] = ...) -> None: ...

class AddPolicyAllowRules(_message.Message):
    __slots__ = ("target", "yaml")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    YAML_FIELD_NUMBER: _ClassVar[int]
    target: PolicyEditTarget
    yaml: str
    def __init__(self, target: _Optional[_Union[PolicyEditTarget, _Mapping]] = ..., yaml: _Optional[str] = ...) -> None: ...

class RemovePolicyBinary(_message.Message):
    __slots__ = ("rule_name", "binary_path")
    RULE_NAME_FIELD_NUMBER: _ClassVar[int]
    BINARY_PATH_FIELD_NUMBER: _ClassVar[int]
    rule_name: str
    binary_path: str
    def __init__(self, rule_name: _Optional[str] = ..., binary_path: _Optional[str] = ...) -> None: ...

class AddPolicyPaths(_message.Message):
    __slots__ = ("read_only", "read_write")
    READ_ONLY_FIELD_NUMBER: _ClassVar[int]
    READ_WRITE_FIELD_NUMBER: _ClassVar[int]
    read_only: _containers.RepeatedScalarFieldContainer[str]
    read_write: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, read_only: _Optional[_Iterable[str]] = ..., read_write: _Optional[_Iterable[str]] = ...) -> None: ...

class PolicyEdit(_message.Message):
    __slots__ = ("add_rule", "remove_rule", "remove_endpoint", "add_deny_rules", "add_allow_rules", "remove_binary", "add_paths")
    ADD_RULE_FIELD_NUMBER: _ClassVar[int]
    REMOVE_RULE_FIELD_NUMBER: _ClassVar[int]
    REMOVE_ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    ADD_DENY_RULES_FIELD_NUMBER: _ClassVar[int]
    ADD_ALLOW_RULES_FIELD_NUMBER: _ClassVar[int]
    REMOVE_BINARY_FIELD_NUMBER: _ClassVar[int]
    ADD_PATHS_FIELD_NUMBER: _ClassVar[int]
    add_rule: AddPolicyRule
    remove_rule: RemovePolicyRule
    remove_endpoint: RemovePolicyEndpoint
    add_deny_rules: AddPolicyDenyRules
    add_allow_rules: AddPolicyAllowRules
    remove_binary: RemovePolicyBinary
    add_paths: AddPolicyPaths
    def __init__(self, add_rule: _Optional[_Union[AddPolicyRule, _Mapping]] = ..., remove_rule: _Optional[_Union[RemovePolicyRule, _Mapping]] = ..., remove_endpoint: _Optional[_Union[RemovePolicyEndpoint, _Mapping]] = ..., add_deny_rules: _Optional[_Union[AddPolicyDenyRules, _Mapping]] = ..., add_allow_rules: _Optional[_Union[AddPolicyAllowRules, _Mapping]] = ..., remove_binary: _Optional[_Union[RemovePolicyBinary, _Mapping]] = ..., add_paths: _Optional[_Union[AddPolicyPaths, _Mapping]] = ...) -> None: ...

class EditPolicyRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "policy_edits", "etag", "validate_only", "comment", "grant_duration", "request_id")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    POLICY_EDITS_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    GRANT_DURATION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    policy_edits: _containers.RepeatedCompositeFieldContainer[PolicyEdit]
    etag: str
    validate_only: bool
    comment: str
    grant_duration: _duration_pb2.Duration
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., policy_edits: _Optional[_Iterable[_Union[PolicyEdit, _Mapping]]] = ..., etag: _Optional[str] = ..., validate_only: bool = ..., comment: _Optional[str] = ..., grant_duration: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class EditPolicyResponse(_message.Message):
    __slots__ = ("policy_change",)
    POLICY_CHANGE_FIELD_NUMBER: _ClassVar[int]
    policy_change: PolicyChange
    def __init__(self, policy_change: _Optional[_Union[PolicyChange, _Mapping]] = ...) -> None: ...

class ApplyPolicyPresetRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "policy_preset", "etag", "validate_only", "comment", "grant_duration", "request_id")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    POLICY_PRESET_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    GRANT_DURATION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    policy_preset: str
    etag: str
    validate_only: bool
    comment: str
    grant_duration: _duration_pb2.Duration
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., policy_preset: _Optional[str] = ..., etag: _Optional[str] = ..., validate_only: bool = ..., comment: _Optional[str] = ..., grant_duration: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class ApplyPolicyPresetResponse(_message.Message):
    __slots__ = ("policy_change",)
    POLICY_CHANGE_FIELD_NUMBER: _ClassVar[int]
    policy_change: PolicyChange
    def __init__(self, policy_change: _Optional[_Union[PolicyChange, _Mapping]] = ...) -> None: ...

class RevertPolicyRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "version", "etag", "validate_only", "comment", "grant_duration", "request_id")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    GRANT_DURATION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    version: int
    etag: str
    validate_only: bool
    comment: str
    grant_duration: _duration_pb2.Duration
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., version: _Optional[int] = ..., etag: _Optional[str] = ..., validate_only: bool = ..., comment: _Optional[str] = ..., grant_duration: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class RevertPolicyResponse(_message.Message):
    __slots__ = ("policy_change",)
    POLICY_CHANGE_FIELD_NUMBER: _ClassVar[int]
    policy_change: PolicyChange
    def __init__(self, policy_change: _Optional[_Union[PolicyChange, _Mapping]] = ...) -> None: ...

class PolicyPin(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "pinned_version", "pinned_hash", "pinned_by", "reason", "setter_role", "pin_time", "expire_time", "held", "etag")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    PINNED_VERSION_FIELD_NUMBER: _ClassVar[int]
    PINNED_HASH_FIELD_NUMBER: _ClassVar[int]
    PINNED_BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SETTER_ROLE_FIELD_NUMBER: _ClassVar[int]
    PIN_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    pinned_version: int
    pinned_hash: str
    pinned_by: str
    reason: str
    setter_role: _common_pb2.Role
    pin_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    held: bool
    etag: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., pinned_version: _Optional[int] = ..., pinned_hash: _Optional[str] = ..., pinned_by: _Optional[str] = ..., reason: _Optional[str] = ..., setter_role: _Optional[_Union[_common_pb2.Role, str]] = ..., pin_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., held: bool = ..., etag: _Optional[str] = ...) -> None: ...

class WriteInFlight(_message.Message):
    __slots__ = ("workspace", "sandbox", "action", "principal", "deadline_time")
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_TIME_FIELD_NUMBER: _ClassVar[int]
    workspace: str
    sandbox: str
    action: str
    principal: str
    deadline_time: _timestamp_pb2.Timestamp
    def __init__(self, workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., action: _Optional[str] = ..., principal: _Optional[str] = ..., deadline_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class PinPolicyRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "reason", "expire_time", "request_id")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    reason: str
    expire_time: _timestamp_pb2.Timestamp
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., reason: _Optional[str] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class PinPolicyResponse(_message.Message):
    __slots__ = ("policy_pin", "in_flight")
    POLICY_PIN_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    policy_pin: PolicyPin
    in_flight: _containers.RepeatedCompositeFieldContainer[WriteInFlight]
    def __init__(self, policy_pin: _Optional[_Union[PolicyPin, _Mapping]] = ..., in_flight: _Optional[_Iterable[_Union[WriteInFlight, _Mapping]]] = ...) -> None: ...

class UnpinPolicyRequest(_message.Message):
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

class UnpinPolicyResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetPolicyPinRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ...) -> None: ...

class GetPolicyPinResponse(_message.Message):
    __slots__ = ("policy_pin",)
    POLICY_PIN_FIELD_NUMBER: _ClassVar[int]
    policy_pin: PolicyPin
    def __init__(self, policy_pin: _Optional[_Union[PolicyPin, _Mapping]] = ...) -> None: ...

class ListPolicyPinsRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "page_size", "page_token")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    page_size: int
    page_token: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListPolicyPinsResponse(_message.Message):
    __slots__ = ("policy_pins", "next_page_token")
    POLICY_PINS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    policy_pins: _containers.RepeatedCompositeFieldContainer[PolicyPin]
    next_page_token: str
    def __init__(self, policy_pins: _Optional[_Iterable[_Union[PolicyPin, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
