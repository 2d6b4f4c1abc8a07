from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from . import common_pb2 as _common_pb2
from . import gateways_pb2 as _gateways_pb2
from . import policies_pb2 as _policies_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ApprovalAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    APPROVAL_ACTION_UNSPECIFIED: _ClassVar[ApprovalAction]
    APPROVAL_ACTION_POLICY_APPLY: _ClassVar[ApprovalAction]
    APPROVAL_ACTION_DRAFT_APPROVE: _ClassVar[ApprovalAction]
    APPROVAL_ACTION_DRAFT_UNDO: _ClassVar[ApprovalAction]
    APPROVAL_ACTION_RULE_CHANGE: _ClassVar[ApprovalAction]
    APPROVAL_ACTION_OVERRIDE_REVIEW: _ClassVar[ApprovalAction]

class ApprovalState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    APPROVAL_STATE_UNSPECIFIED: _ClassVar[ApprovalState]
    APPROVAL_STATE_OPEN: _ClassVar[ApprovalState]
    APPROVAL_STATE_APPROVED: _ClassVar[ApprovalState]
    APPROVAL_STATE_SENDING: _ClassVar[ApprovalState]
    APPROVAL_STATE_WRITTEN: _ClassVar[ApprovalState]
    APPROVAL_STATE_APPLIED: _ClassVar[ApprovalState]
    APPROVAL_STATE_REJECTED: _ClassVar[ApprovalState]
    APPROVAL_STATE_WITHDRAWN: _ClassVar[ApprovalState]
    APPROVAL_STATE_EXPIRED: _ClassVar[ApprovalState]
    APPROVAL_STATE_SUPERSEDED: _ClassVar[ApprovalState]
    APPROVAL_STATE_FAILED: _ClassVar[ApprovalState]
    APPROVAL_STATE_ROLLED_BACK: _ClassVar[ApprovalState]

class VoteDecision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VOTE_DECISION_UNSPECIFIED: _ClassVar[VoteDecision]
    VOTE_DECISION_APPROVE: _ClassVar[VoteDecision]
    VOTE_DECISION_REJECT: _ClassVar[VoteDecision]
    VOTE_DECISION_WITHDRAW: _ClassVar[VoteDecision]

class UncountedReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNCOUNTED_REASON_UNSPECIFIED: _ClassVar[UncountedReason]
    UNCOUNTED_REASON_NOT_NAMED: _ClassVar[UncountedReason]
    UNCOUNTED_REASON_JOINED_LATER: _ClassVar[UncountedReason]
    UNCOUNTED_REASON_ROLE_TOO_LOW: _ClassVar[UncountedReason]
    UNCOUNTED_REASON_BESIDE_MAKER: _ClassVar[UncountedReason]
    UNCOUNTED_REASON_MAKER_UNKNOWN: _ClassVar[UncountedReason]
    UNCOUNTED_REASON_MAKER: _ClassVar[UncountedReason]
    UNCOUNTED_REASON_OWNER: _ClassVar[UncountedReason]
    UNCOUNTED_REASON_AUTHOR: _ClassVar[UncountedReason]
    UNCOUNTED_REASON_LEFT: _ClassVar[UncountedReason]
APPROVAL_ACTION_UNSPECIFIED: ApprovalAction
APPROVAL_ACTION_POLICY_APPLY: ApprovalAction
APPROVAL_ACTION_DRAFT_APPROVE: ApprovalAction
APPROVAL_ACTION_DRAFT_UNDO: ApprovalAction
APPROVAL_ACTION_RULE_CHANGE: ApprovalAction
APPROVAL_ACTION_OVERRIDE_REVIEW: ApprovalAction
APPROVAL_STATE_UNSPECIFIED: ApprovalState
APPROVAL_STATE_OPEN: ApprovalState
APPROVAL_STATE_APPROVED: ApprovalState
APPROVAL_STATE_SENDING: ApprovalState
APPROVAL_STATE_WRITTEN: ApprovalState
APPROVAL_STATE_APPLIED: ApprovalState
APPROVAL_STATE_REJECTED: ApprovalState
APPROVAL_STATE_WITHDRAWN: ApprovalState
APPROVAL_STATE_EXPIRED: ApprovalState
APPROVAL_STATE_SUPERSEDED: ApprovalState
APPROVAL_STATE_FAILED: ApprovalState
APPROVAL_STATE_ROLLED_BACK: ApprovalState
VOTE_DECISION_UNSPECIFIED: VoteDecision
VOTE_DECISION_APPROVE: VoteDecision
VOTE_DECISION_REJECT: VoteDecision
VOTE_DECISION_WITHDRAW: VoteDecision
UNCOUNTED_REASON_UNSPECIFIED: UncountedReason
UNCOUNTED_REASON_NOT_NAMED: UncountedReason
UNCOUNTED_REASON_JOINED_LATER: UncountedReason
UNCOUNTED_REASON_ROLE_TOO_LOW: UncountedReason
UNCOUNTED_REASON_BESIDE_MAKER: UncountedReason
UNCOUNTED_REASON_MAKER_UNKNOWN: UncountedReason
UNCOUNTED_REASON_MAKER: UncountedReason
UNCOUNTED_REASON_OWNER: UncountedReason
UNCOUNTED_REASON_AUTHOR: UncountedReason
UNCOUNTED_REASON_LEFT: UncountedReason

class Approval(_message.Message):
    __slots__ = ("id", "action", "state", "gateway", "workspace", "sandbox", "sandbox_id", "digest", "chunk_id", "wire_generation", "base_version", "effective_hash", "grant_minutes", "authors", "owner", "comment", "added", "votes", "needed", "awaits_caller", "create_time", "escalation_time", "expire_time", "decision_time", "apply_deadline_time", "close_time", "close_reason", "operation", "attempts", "written_version", "written_hash", "previous_approval_id", "etag", "removed", "changed", "draft", "removed_version")
    ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_ID_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    WIRE_GENERATION_FIELD_NUMBER: _ClassVar[int]
    BASE_VERSION_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_HASH_FIELD_NUMBER: _ClassVar[int]
    GRANT_MINUTES_FIELD_NUMBER: _ClassVar[int]
    AUTHORS_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    VOTES_FIELD_NUMBER: _ClassVar[int]
    NEEDED_FIELD_NUMBER: _ClassVar[int]
    AWAITS_CALLER_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ESCALATION_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    DECISION_TIME_FIELD_NUMBER: _ClassVar[int]
    APPLY_DEADLINE_TIME_FIELD_NUMBER: _ClassVar[int]
    CLOSE_TIME_FIELD_NUMBER: _ClassVar[int]
    CLOSE_REASON_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_VERSION_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_HASH_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    DRAFT_FIELD_NUMBER: _ClassVar[int]
    REMOVED_VERSION_FIELD_NUMBER: _ClassVar[int]
    id: int
    action: ApprovalAction
    state: ApprovalState
    gateway: str
    workspace: str
    sandbox: str
    sandbox_id: str
    digest: str
    chunk_id: str
    wire_generation: _gateways_pb2.WireGeneration
    base_version: int
    effective_hash: str
    grant_minutes: int
    authors: _containers.RepeatedScalarFieldContainer[str]
    owner: str
    comment: str
    added: int
    votes: int
    needed: int
    awaits_caller: bool
    create_time: _timestamp_pb2.Timestamp
    escalation_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    decision_time: _timestamp_pb2.Timestamp
    apply_deadline_time: _timestamp_pb2.Timestamp
    close_time: _timestamp_pb2.Timestamp
    close_reason: str
    operation: str
    attempts: int
    written_version: int
    written_hash: str
    previous_approval_id: int
    etag: str
    removed: int
    changed: int
    draft: ApprovalDraft
    removed_version: int
    def __init__(self, id: _Optional[int] = ..., action: _Optional[_Union[ApprovalAction, str]] = ..., state: _Optional[_Union[ApprovalState, str]] = ..., gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., sandbox_id: _Optional[str] = ..., digest: _Optional[str] = ..., chunk_id: _Optional[str] = ..., wire_generation: _Optional[_Union[_gateways_pb2.WireGeneration, str]] = ..., base_version: _Optional[int] = ..., effective_hash: _Optional[str] = ..., grant_minutes: _Optional[int] = ..., authors: _Optional[_Iterable[str]] = ..., owner: _Optional[str] = ..., comment: _Optional[str] = ..., added: _Optional[int] = ..., votes: _Optional[int] = ..., needed: _Optional[int] = ..., awaits_caller: bool = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., escalation_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., decision_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., apply_deadline_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., close_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., close_reason: _Optional[str] = ..., operation: _Optional[str] = ..., attempts: _Optional[int] = ..., written_version: _Optional[int] = ..., written_hash: _Optional[str] = ..., previous_approval_id: _Optional[int] = ..., etag: _Optional[str] = ..., removed: _Optional[int] = ..., changed: _Optional[int] = ..., draft: _Optional[_Union[ApprovalDraft, _Mapping]] = ..., removed_version: _Optional[int] = ...) -> None: ...

class ApprovalDraft(_message.Message):
    __slots__ = ("rule_name", "rationale", "stage", "binary", "hits", "first_seen_time", "last_seen_time", "replaced_characters", "truncated")
    RULE_NAME_FIELD_NUMBER: _ClassVar[int]
    RATIONALE_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    BINARY_FIELD_NUMBER: _ClassVar[int]
    HITS_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEEN_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_TIME_FIELD_NUMBER: _ClassVar[int]
    REPLACED_CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    rule_name: str
    rationale: str
    stage: str
    binary: str
    hits: int
    first_seen_time: _timestamp_pb2.Timestamp
    last_seen_time: _timestamp_pb2.Timestamp
    replaced_characters: int
    truncated: bool
    def __init__(self, rule_name: _Optional[str] = ..., rationale: _Optional[str] = ..., stage: _Optional[str] = ..., binary: _Optional[str] = ..., hits: _Optional[int] = ..., first_seen_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., last_seen_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., replaced_characters: _Optional[int] = ..., truncated: bool = ...) -> None: ...

class ApprovalGroupProgress(_message.Message):
    __slots__ = ("name", "needed", "counting", "chosen", "lacks", "could_vote", "could_vote_count")
    NAME_FIELD_NUMBER: _ClassVar[int]
    NEEDED_FIELD_NUMBER: _ClassVar[int]
    COUNTING_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_FIELD_NUMBER: _ClassVar[int]
    LACKS_FIELD_NUMBER: _ClassVar[int]
    COULD_VOTE_FIELD_NUMBER: _ClassVar[int]
    COULD_VOTE_COUNT_FIELD_NUMBER: _ClassVar[int]
    name: str
    needed: int
    counting: _containers.RepeatedScalarFieldContainer[str]
    chosen: bool
    lacks: int
    could_vote: _containers.RepeatedScalarFieldContainer[str]
    could_vote_count: int
    def __init__(self, name: _Optional[str] = ..., needed: _Optional[int] = ..., counting: _Optional[_Iterable[str]] = ..., chosen: bool = ..., lacks: _Optional[int] = ..., could_vote: _Optional[_Iterable[str]] = ..., could_vote_count: _Optional[int] = ...) -> None: ...

class ApprovalRuleProgress(_message.Message):
    __slots__ = ("scope", "met", "groups")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    MET_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    scope: str
    met: bool
    groups: _containers.RepeatedCompositeFieldContainer[ApprovalGroupProgress]
    def __init__(self, scope: _Optional[str] = ..., met: bool = ..., groups: _Optional[_Iterable[_Union[ApprovalGroupProgress, _Mapping]]] = ...) -> None: ...

class UncountedVote(_message.Message):
    __slots__ = ("voter", "reason")
    VOTER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    voter: str
    reason: UncountedReason
    def __init__(self, voter: _Optional[str] = ..., reason: _Optional[_Union[UncountedReason, str]] = ...) -> None: ...

class ApprovalContent(_message.Message):
    __slots__ = ("policy_differences", "omitted", "yaml", "marks", "base_digest", "rule_change_json", "rule_name", "proposed_yaml", "gateway_findings", "present_yaml", "omitted_findings")
    POLICY_DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    OMITTED_FIELD_NUMBER: _ClassVar[int]
    YAML_FIELD_NUMBER: _ClassVar[int]
    MARKS_FIELD_NUMBER: _ClassVar[int]
    BASE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    RULE_CHANGE_JSON_FIELD_NUMBER: _ClassVar[int]
    RULE_NAME_FIELD_NUMBER: _ClassVar[int]
    PROPOSED_YAML_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FINDINGS_FIELD_NUMBER: _ClassVar[int]
    PRESENT_YAML_FIELD_NUMBER: _ClassVar[int]
    OMITTED_FINDINGS_FIELD_NUMBER: _ClassVar[int]
    policy_differences: _containers.RepeatedCompositeFieldContainer[_policies_pb2.PolicyDifference]
    omitted: int
    yaml: str
    marks: _containers.RepeatedScalarFieldContainer[str]
    base_digest: str
    rule_change_json: str
    rule_name: str
    proposed_yaml: str
    gateway_findings: _containers.RepeatedScalarFieldContainer[str]
    present_yaml: str
    omitted_findings: int
    def __init__(self, policy_differences: _Optional[_Iterable[_Union[_policies_pb2.PolicyDifference, _Mapping]]] = ..., omitted: _Optional[int] = ..., yaml: _Optional[str] = ..., marks: _Optional[_Iterable[str]] = ..., base_digest: _Optional[str] = ..., rule_change_json: _Optional[str] = ..., rule_name: _Optional[str] = ..., proposed_yaml: _Optional[str] = ..., gateway_findings: _Optional[_Iterable[str]] = ..., present_yaml: _Optional[str] = ..., omitted_findings: _Optional[int] = ...) -> None: ...

class ApprovalRejection(_message.Message):
    __slots__ = ("approval_id", "voter", "comment", "rejection_time")
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    VOTER_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    REJECTION_TIME_FIELD_NUMBER: _ClassVar[int]
    approval_id: int
    voter: str
    comment: str
    rejection_time: _timestamp_pb2.Timestamp
    def __init__(self, approval_id: _Optional[int] = ..., voter: _Optional[str] = ..., comment: _Optional[str] = ..., rejection_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RefusedConnection(_message.Message):
    __slots__ = ("log_time", "binary", "host", "line")
    LOG_TIME_FIELD_NUMBER: _ClassVar[int]
    BINARY_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    log_time: _timestamp_pb2.Timestamp
    binary: str
    host: str
    line: str
    def __init__(self, log_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., binary: _Optional[str] = ..., host: _Optional[str] = ..., line: _Optional[str] = ...) -> None: ...

class ApprovalDetail(_message.Message):
    __slots__ = ("approval", "content", "rules", "uncounted_votes", "could_vote", "satisfiable", "blockers", "caller_vote", "caller_uncounted", "caller_can_reject", "caller_can_withdraw", "successor_approval_id", "earlier_rejection", "refused_connections", "marks_lost_time")
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    UNCOUNTED_VOTES_FIELD_NUMBER: _ClassVar[int]
    COULD_VOTE_FIELD_NUMBER: _ClassVar[int]
    SATISFIABLE_FIELD_NUMBER: _ClassVar[int]
    BLOCKERS_FIELD_NUMBER: _ClassVar[int]
    CALLER_VOTE_FIELD_NUMBER: _ClassVar[int]
    CALLER_UNCOUNTED_FIELD_NUMBER: _ClassVar[int]
    CALLER_CAN_REJECT_FIELD_NUMBER: _ClassVar[int]
    CALLER_CAN_WITHDRAW_FIELD_NUMBER: _ClassVar[int]
    SUCCESSOR_APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    EARLIER_REJECTION_FIELD_NUMBER: _ClassVar[int]
    REFUSED_CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    MARKS_LOST_TIME_FIELD_NUMBER: _ClassVar[int]
    approval: Approval
    content: ApprovalContent
    rules: _containers.RepeatedCompositeFieldContainer[ApprovalRuleProgress]
    uncounted_votes: _containers.RepeatedCompositeFieldContainer[UncountedVote]
    could_vote: _containers.RepeatedScalarFieldContainer[str]
    satisfiable: bool
    blockers: _containers.RepeatedScalarFieldContainer[str]
    caller_vote: VoteDecision
    caller_uncounted: UncountedReason
    caller_can_reject: bool
    caller_can_withdraw: bool
    successor_approval_id: int
    earlier_rejection: ApprovalRejection
    refused_connections: _containers.RepeatedCompositeFieldContainer[RefusedConnection]
    marks_lost_time: _timestamp_pb2.Timestamp
    def __init__(self, approval: _Optional[_Union[Approval, _Mapping]] = ..., content: _Optional[_Union[ApprovalContent, _Mapping]] = ..., rules: _Optional[_Iterable[_Union[ApprovalRuleProgress, _Mapping]]] = ..., uncounted_votes: _Optional[_Iterable[_Union[UncountedVote, _Mapping]]] = ..., could_vote: _Optional[_Iterable[str]] = ..., satisfiable: bool = ..., blockers: _Optional[_Iterable[str]] = ..., caller_vote: _Optional[_Union[VoteDecision, str]] = ..., caller_uncounted: _Optional[_Union[UncountedReason, str]] = ..., caller_can_reject: bool = ..., caller_can_withdraw: bool = ..., successor_approval_id: _Optional[int] = ..., earlier_rejection: _Optional[_Union[ApprovalRejection, _Mapping]] = ..., refused_connections: _Optional[_Iterable[_Union[RefusedConnection, _Mapping]]] = ..., marks_lost_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ApprovalDecision(_message.Message):
    __slots__ = ("id", "voter", "principal", "role", "decision", "comment", "digest", "create_time", "clear_time")
    ID_FIELD_NUMBER: _ClassVar[int]
    VOTER_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    CLEAR_TIME_FIELD_NUMBER: _ClassVar[int]
    id: int
    voter: str
    principal: str
    role: _common_pb2.Role
    decision: VoteDecision
    comment: str
    digest: str
    create_time: _timestamp_pb2.Timestamp
    clear_time: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[int] = ..., voter: _Optional[str] = ..., principal: _Optional[str] = ..., role: _Optional[_Union[_common_pb2.Role, str]] = ..., decision: _Optional[_Union[VoteDecision, str]] = ..., comment: _Optional[str] = ..., digest: _Optional[str] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., clear_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListApprovalsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "filter")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    filter: ApprovalFilter
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., filter: _Optional[_Union[ApprovalFilter, _Mapping]] = ...) -> None: ...

class ApprovalFilter(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "action", "state", "author", "owner", "overdue", "awaiting_me")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    OVERDUE_FIELD_NUMBER: _ClassVar[int]
    AWAITING_ME_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    action: ApprovalAction
    state: ApprovalState
    author: str
    owner: str
    overdue: bool
    awaiting_me: bool
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., action: _Optional[_Union[ApprovalAction, str]] = ..., state: _Optional[_Union[ApprovalState, str]] = ..., author: _Optional[str] = ..., owner: _Optional[str] = ..., overdue: bool = ..., awaiting_me: bool = ...) -> None: ...

class ListApprovalsResponse(_message.Message):
    __slots__ = ("approvals", "next_page_token", "waiting_drafts")
    APPROVALS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    WAITING_DRAFTS_FIELD_NUMBER: _ClassVar[int]
    approvals: _containers.RepeatedCompositeFieldContainer[Approval]
    next_page_token: str
    waiting_drafts: _containers.RepeatedCompositeFieldContainer[WaitingDrafts]
    def __init__(self, approvals: _Optional[_Iterable[_Union[Approval, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., waiting_drafts: _Optional[_Iterable[_Union[WaitingDrafts, _Mapping]]] = ...) -> None: ...

class WaitingDrafts(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "over_limit", "unreadable", "overflowing")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    OVER_LIMIT_FIELD_NUMBER: _ClassVar[int]
    UNREADABLE_FIELD_NUMBER: _ClassVar[int]
    OVERFLOWING_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    over_limit: int
    unreadable: int
    overflowing: bool
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., over_limit: _Optional[int] = ..., unreadable: _Optional[int] = ..., overflowing: bool = ...) -> None: ...

class WatchApprovalsRequest(_message.Message):
    __slots__ = ("filter", "cursor")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    filter: ApprovalFilter
    cursor: int
    def __init__(self, filter: _Optional[_Union[ApprovalFilter, _Mapping]] = ..., cursor: _Optional[int] = ...) -> None: ...

class WatchApprovalsResponse(_message.Message):
    __slots__ = ("approval", "cursor")
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    approval: Approval
    cursor: int
    def __init__(self, approval: _Optional[_Union[Approval, _Mapping]] = ..., cursor: _Optional[int] = ...) -> None: ...

class GetApprovalRequest(_message.Message):
    __slots__ = ("approval_id",)
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    approval_id: int
    def __init__(self, approval_id: _Optional[int] = ...) -> None: ...

class GetApprovalResponse(_message.Message):
    __slots__ = ("approval_detail",)
    APPROVAL_DETAIL_FIELD_NUMBER: _ClassVar[int]
    approval_detail: ApprovalDetail
    def __init__(self, approval_detail: _Optional[_Union[ApprovalDetail, _Mapping]] = ...) -> None: ...

class ListApprovalDecisionsRequest(_message.Message):
    __slots__ = ("approval_id", "page_size", "page_token")
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    approval_id: int
    page_size: int
    page_token: str
    def __init__(self, approval_id: _Optional[int] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListApprovalDecisionsResponse(_message.Message):
    __slots__ = ("approval_decisions", "next_page_token")
    APPROVAL_DECISIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    approval_decisions: _containers.RepeatedCompositeFieldContainer[ApprovalDecision]
    next_page_token: str
    def __init__(self, approval_decisions: _Optional[_Iterable[_Union[ApprovalDecision, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetApprovalHistoryRequest(_message.Message):
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

class GetApprovalHistoryResponse(_message.Message):
    __slots__ = ("approvals", "next_page_token")
    APPROVALS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    approvals: _containers.RepeatedCompositeFieldContainer[Approval]
    next_page_token: str
    def __init__(self, approvals: _Optional[_Iterable[_Union[Approval, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class Ballot(_message.Message):
    __slots__ = ("approval_id", "digest", "decision", "comment", "grant_duration")
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    GRANT_DURATION_FIELD_NUMBER: _ClassVar[int]
    approval_id: int
    digest: str
    decision: VoteDecision
    comment: str
    grant_duration: _duration_pb2.Duration
    def __init__(self, approval_id: _Optional[int] = ..., digest: _Optional[str] = ..., decision: _Optional[_Union[VoteDecision, str]] = ..., comment: _Optional[str] = ..., grant_duration: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class VoteRequest(_message.Message):
    __slots__ = ("approval_id", "digest", "decision", "comment", "request_id", "grant_duration")
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    GRANT_DURATION_FIELD_NUMBER: _ClassVar[int]
    approval_id: int
    digest: str
    decision: VoteDecision
    comment: str
    request_id: str
    grant_duration: _duration_pb2.Duration
    def __init__(self, approval_id: _Optional[int] = ..., digest: _Optional[str] = ..., decision: _Optional[_Union[VoteDecision, str]] = ..., comment: _Optional[str] = ..., request_id: _Optional[str] = ..., grant_duration: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class VoteResponse(_message.Message):
    __slots__ = ("approval",)
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    approval: Approval
    def __init__(self, approval: _Optional[_Union[Approval, _Mapping]] = ...) -> None: ...

class VoteManyRequest(_message.Message):
    __slots__ = ("gateway", "ballots", "request_id")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    BALLOTS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    ballots: _containers.RepeatedCompositeFieldContainer[Ballot]
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., ballots: _Optional[_Iterable[_Union[Ballot, _Mapping]]] = ..., request_id: _Optional[str] = ...) -> None: ...

class VoteManyResponse(_message.Message):
    __slots__ = ("approvals",)
    APPROVALS_FIELD_NUMBER: _ClassVar[int]
    approvals: _containers.RepeatedCompositeFieldContainer[Approval]
    def __init__(self, approvals: _Optional[_Iterable[_Union[Approval, _Mapping]]] = ...) -> None: ...

class WithdrawProposalRequest(_message.Message):
    __slots__ = ("approval_id", "comment", "request_id")
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    approval_id: int
    comment: str
    request_id: str
    def __init__(self, approval_id: _Optional[int] = ..., comment: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class WithdrawProposalResponse(_message.Message):
    __slots__ = ("approval",)
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    approval: Approval
    def __init__(self, approval: _Optional[_Union[Approval, _Mapping]] = ...) -> None: ...

class EditChunkRequest(_message.Message):
    __slots__ = ("approval_id", "rule", "etag", "request_id")
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    approval_id: int
    rule: str
    etag: str
    request_id: str
    def __init__(self, approval_id: _Optional[int] = ..., rule: _Optional[str] = ..., etag: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class EditChunkResponse(_message.Message):
    __slots__ = ("approval",)
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    approval: Approval
    def __init__(self, approval: _Optional[_Union[Approval, _Mapping]] = ...) -> None: ...

class UndoChunkRequest(_message.Message):
    __slots__ = ("gateway", "workspace", "sandbox", "chunk_id", "comment", "request_id")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    workspace: str
    sandbox: str
    chunk_id: str
    comment: str
    request_id: str
    def __init__(self, gateway: _Optional[str] = ..., workspace: _Optional[str] = ..., sandbox: _Optional[str] = ..., chunk_id: _Optional[str] = ..., comment: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class UndoChunkResponse(_message.Message):
    __slots__ = ("approval", "operation")
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    approval: Approval
    operation: str
    def __init__(self, approval: _Optional[_Union[Approval, _Mapping]] = ..., operation: _Optional[str] = ...) -> None: ...

class ClearChunksRequest(_message.Message):
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

class ClearChunksResponse(_message.Message):
    __slots__ = ("cleared", "superseded")
    CLEARED_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_FIELD_NUMBER: _ClassVar[int]
    cleared: int
    superseded: int
    def __init__(self, cleared: _Optional[int] = ..., superseded: _Optional[int] = ...) -> None: ...
