from google.protobuf import timestamp_pb2 as _timestamp_pb2
from . import common_pb2 as _common_pb2
from . import policies_pb2 as _policies_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ApprovalWorkflowWarning(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    APPROVAL_WORKFLOW_WARNING_UNSPECIFIED: _ClassVar[ApprovalWorkflowWarning]
    APPROVAL_WORKFLOW_WARNING_APPROVAL_MODE_AUTO: _ClassVar[ApprovalWorkflowWarning]
    APPROVAL_WORKFLOW_WARNING_APPROVAL_MODE_UNKNOWN: _ClassVar[ApprovalWorkflowWarning]
    APPROVAL_WORKFLOW_WARNING_NO_SPARE_VOTER: _ClassVar[ApprovalWorkflowWarning]
    APPROVAL_WORKFLOW_WARNING_ROLES_ALONE: _ClassVar[ApprovalWorkflowWarning]
    APPROVAL_WORKFLOW_WARNING_REVIEW_REQUIRED: _ClassVar[ApprovalWorkflowWarning]

class VoteExclusion(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VOTE_EXCLUSION_UNSPECIFIED: _ClassVar[VoteExclusion]
    VOTE_EXCLUSION_NOT_NAMED: _ClassVar[VoteExclusion]
    VOTE_EXCLUSION_JOINED_LATER: _ClassVar[VoteExclusion]
    VOTE_EXCLUSION_ROLE_TOO_LOW: _ClassVar[VoteExclusion]
    VOTE_EXCLUSION_BESIDE_MAKER: _ClassVar[VoteExclusion]
    VOTE_EXCLUSION_MAKER_UNKNOWN: _ClassVar[VoteExclusion]
    VOTE_EXCLUSION_MAKER: _ClassVar[VoteExclusion]
    VOTE_EXCLUSION_OWNER: _ClassVar[VoteExclusion]
    VOTE_EXCLUSION_AUTHOR: _ClassVar[VoteExclusion]
    VOTE_EXCLUSION_LEFT: _ClassVar[VoteExclusion]
APPROVAL_WORKFLOW_WARNING_UNSPECIFIED: ApprovalWorkflowWarning
APPROVAL_WORKFLOW_WARNING_APPROVAL_MODE_AUTO: ApprovalWorkflowWarning
APPROVAL_WORKFLOW_WARNING_APPROVAL_MODE_UNKNOWN: ApprovalWorkflowWarning
APPROVAL_WORKFLOW_WARNING_NO_SPARE_VOTER: ApprovalWorkflowWarning
APPROVAL_WORKFLOW_WARNING_ROLES_ALONE: ApprovalWorkflowWarning
APPROVAL_WORKFLOW_WARNING_REVIEW_REQUIRED: ApprovalWorkflowWarning
VOTE_EXCLUSION_UNSPECIFIED: VoteExclusion
VOTE_EXCLUSION_NOT_NAMED: VoteExclusion
VOTE_EXCLUSION_JOINED_LATER: VoteExclusion
VOTE_EXCLUSION_ROLE_TOO_LOW: VoteExclusion
VOTE_EXCLUSION_BESIDE_MAKER: VoteExclusion
VOTE_EXCLUSION_MAKER_UNKNOWN: VoteExclusion
VOTE_EXCLUSION_MAKER: VoteExclusion
VOTE_EXCLUSION_OWNER: VoteExclusion
VOTE_EXCLUSION_AUTHOR: VoteExclusion
VOTE_EXCLUSION_LEFT: VoteExclusion

class ApprovalRule(_message.Message):
    __slots__ = ("groups", "required_groups", "distinct_actors", "escalation", "escalation_timeout_minutes", "expire_minutes", "apply_window_minutes", "rollback_on_load_failure", "grant_minutes_max")
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_GROUPS_FIELD_NUMBER: _ClassVar[int]
    DISTINCT_ACTORS_FIELD_NUMBER: _ClassVar[int]
    ESCALATION_FIELD_NUMBER: _ClassVar[int]
    ESCALATION_TIMEOUT_MINUTES_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_MINUTES_FIELD_NUMBER: _ClassVar[int]
    APPLY_WINDOW_MINUTES_FIELD_NUMBER: _ClassVar[int]
    ROLLBACK_ON_LOAD_FAILURE_FIELD_NUMBER: _ClassVar[int]
    GRANT_MINUTES_MAX_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedCompositeFieldContainer[VoterGroup]
    required_groups: int
    distinct_actors: bool
    escalation: VoterSet
    escalation_timeout_minutes: int
    expire_minutes: int
    apply_window_minutes: int
    rollback_on_load_failure: bool
    grant_minutes_max: int
    def __init__(self, groups: _Optional[_Iterable[_Union[VoterGroup, _Mapping]]] = ..., required_groups: _Optional[int] = ..., distinct_actors: bool = ..., escalation: _Optional[_Union[VoterSet, _Mapping]] = ..., escalation_timeout_minutes: _Optional[int] = ..., expire_minutes: _Optional[int] = ..., apply_window_minutes: _Optional[int] = ..., rollback_on_load_failure: bool = ..., grant_minutes_max: _Optional[int] = ...) -> None: ...

class VoterGroup(_message.Message):
    __slots__ = ("name", "required", "voters")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    VOTERS_FIELD_NUMBER: _ClassVar[int]
    name: str
    required: int
    voters: VoterSet
    def __init__(self, name: _Optional[str] = ..., required: _Optional[int] = ..., voters: _Optional[_Union[VoterSet, _Mapping]] = ...) -> None: ...

class VoterSet(_message.Message):
    __slots__ = ("role", "users", "groups", "service_principals")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    SERVICE_PRINCIPALS_FIELD_NUMBER: _ClassVar[int]
    role: _common_pb2.Role
    users: _containers.RepeatedScalarFieldContainer[str]
    groups: _containers.RepeatedScalarFieldContainer[str]
    service_principals: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, role: _Optional[_Union[_common_pb2.Role, str]] = ..., users: _Optional[_Iterable[str]] = ..., groups: _Optional[_Iterable[str]] = ..., service_principals: _Optional[_Iterable[str]] = ...) -> None: ...

class ApprovalWorkflow(_message.Message):
    __slots__ = ("id", "gateway", "workspace", "sandbox", "rule", "created_by", "create_time", "update_time", "broken_time", "etag")
    ID_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    BROKEN_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    id: int
    gateway: str
    workspace: str
    sandbox: str
    rule: ApprovalRule
    created_by: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    broken_time: _timestamp_pb2.Timestamp
    etag: str
    def __init__(self, id: _Optional[int] = ..., gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., rule: _Optional[_Union[ApprovalRule, _Mapping]] = ..., created_by: _Optional[str] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., broken_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ...) -> None: ...

class SetWorkflowRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "selector", "rule", "etag", "validate_only", "request_id")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    selector: str
    rule: ApprovalRule
    etag: str
    validate_only: bool
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., selector: _Optional[str] = ..., rule: _Optional[_Union[ApprovalRule, _Mapping]] = ..., etag: _Optional[str] = ..., validate_only: bool = ..., request_id: _Optional[str] = ...) -> None: ...

class SetWorkflowResponse(_message.Message):
    __slots__ = ("approval_workflow", "in_flight", "warnings", "open_approval_ids", "open_approval_count")
    APPROVAL_WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    OPEN_APPROVAL_IDS_FIELD_NUMBER: _ClassVar[int]
    OPEN_APPROVAL_COUNT_FIELD_NUMBER: _ClassVar[int]
    approval_workflow: ApprovalWorkflow
    in_flight: _containers.RepeatedCompositeFieldContainer[_policies_pb2.WriteInFlight]
    warnings: _containers.RepeatedScalarFieldContainer[ApprovalWorkflowWarning]
    open_approval_ids: _containers.RepeatedScalarFieldContainer[int]
    open_approval_count: int
    def __init__(self, approval_workflow: _Optional[_Union[ApprovalWorkflow, _Mapping]] = ..., in_flight: _Optional[_Iterable[_Union[_policies_pb2.WriteInFlight, _Mapping]]] = ..., warnings: _Optional[_Iterable[_Union[ApprovalWorkflowWarning, str]]] = ..., open_approval_ids: _Optional[_Iterable[int]] = ..., open_approval_count: _Optional[int] = ...) -> None: ...

class GetWorkflowRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "selector")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    selector: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., selector: _Optional[str] = ...) -> None: ...

class GetWorkflowResponse(_message.Message):
    __slots__ = ("approval_workflow",)
    APPROVAL_WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    approval_workflow: ApprovalWorkflow
    def __init__(self, approval_workflow: _Optional[_Union[ApprovalWorkflow, _Mapping]] = ...) -> None: ...

class ListWorkflowsRequest(_message.Message):
    __slots__ = ("gateway", "page_size", "page_token")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    page_size: int
    page_token: str
    def __init__(self, gateway: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListWorkflowsResponse(_message.Message):
    __slots__ = ("approval_workflows", "next_page_token")
    APPROVAL_WORKFLOWS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    approval_workflows: _containers.RepeatedCompositeFieldContainer[ApprovalWorkflow]
    next_page_token: str
    def __init__(self, approval_workflows: _Optional[_Iterable[_Union[ApprovalWorkflow, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteWorkflowRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "selector", "etag", "request_id")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    selector: str
    etag: str
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., selector: _Optional[str] = ..., etag: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class DeleteWorkflowResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ExplainWorkflowRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ...) -> None: ...

class ExplainWorkflowResponse(_message.Message):
    __slots__ = ("explained_workflows", "owner")
    EXPLAINED_WORKFLOWS_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    explained_workflows: _containers.RepeatedCompositeFieldContainer[ExplainedWorkflow]
    owner: str
    def __init__(self, explained_workflows: _Optional[_Iterable[_Union[ExplainedWorkflow, _Mapping]]] = ..., owner: _Optional[str] = ...) -> None: ...

class ExplainedWorkflow(_message.Message):
    __slots__ = ("approval_workflow", "groups", "excluded", "can_be_met", "lacking_group", "lacking_group_has")
    APPROVAL_WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_FIELD_NUMBER: _ClassVar[int]
    CAN_BE_MET_FIELD_NUMBER: _ClassVar[int]
    LACKING_GROUP_FIELD_NUMBER: _ClassVar[int]
    LACKING_GROUP_HAS_FIELD_NUMBER: _ClassVar[int]
    approval_workflow: ApprovalWorkflow
    groups: _containers.RepeatedCompositeFieldContainer[ExplainedVoterGroup]
    excluded: _containers.RepeatedCompositeFieldContainer[ExcludedVoter]
    can_be_met: bool
    lacking_group: str
    lacking_group_has: int
    def __init__(self, approval_workflow: _Optional[_Union[ApprovalWorkflow, _Mapping]] = ..., groups: _Optional[_Iterable[_Union[ExplainedVoterGroup, _Mapping]]] = ..., excluded: _Optional[_Iterable[_Union[ExcludedVoter, _Mapping]]] = ..., can_be_met: bool = ..., lacking_group: _Optional[str] = ..., lacking_group_has: _Optional[int] = ...) -> None: ...

class ExplainedVoterGroup(_message.Message):
    __slots__ = ("name", "required", "voters", "voter_count")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    VOTERS_FIELD_NUMBER: _ClassVar[int]
    VOTER_COUNT_FIELD_NUMBER: _ClassVar[int]
    name: str
    required: int
    voters: _containers.RepeatedScalarFieldContainer[str]
    voter_count: int
    def __init__(self, name: _Optional[str] = ..., required: _Optional[int] = ..., voters: _Optional[_Iterable[str]] = ..., voter_count: _Optional[int] = ...) -> None: ...

class ExcludedVoter(_message.Message):
    __slots__ = ("principal", "exclusion")
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    EXCLUSION_FIELD_NUMBER: _ClassVar[int]
    principal: str
    exclusion: VoteExclusion
    def __init__(self, principal: _Optional[str] = ..., exclusion: _Optional[_Union[VoteExclusion, str]] = ...) -> None: ...
