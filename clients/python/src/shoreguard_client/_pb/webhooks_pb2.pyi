from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WebhookChannel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WEBHOOK_CHANNEL_UNSPECIFIED: _ClassVar[WebhookChannel]
    WEBHOOK_CHANNEL_GENERIC: _ClassVar[WebhookChannel]
    WEBHOOK_CHANNEL_SLACK: _ClassVar[WebhookChannel]
    WEBHOOK_CHANNEL_DISCORD: _ClassVar[WebhookChannel]
    WEBHOOK_CHANNEL_EMAIL: _ClassVar[WebhookChannel]

class SmtpTlsMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SMTP_TLS_MODE_UNSPECIFIED: _ClassVar[SmtpTlsMode]
    SMTP_TLS_MODE_STARTTLS: _ClassVar[SmtpTlsMode]
    SMTP_TLS_MODE_IMPLICIT: _ClassVar[SmtpTlsMode]

class WebhookDeliveryStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WEBHOOK_DELIVERY_STATUS_UNSPECIFIED: _ClassVar[WebhookDeliveryStatus]
    WEBHOOK_DELIVERY_STATUS_PENDING: _ClassVar[WebhookDeliveryStatus]
    WEBHOOK_DELIVERY_STATUS_SUCCESS: _ClassVar[WebhookDeliveryStatus]
    WEBHOOK_DELIVERY_STATUS_FAILED: _ClassVar[WebhookDeliveryStatus]
WEBHOOK_CHANNEL_UNSPECIFIED: WebhookChannel
WEBHOOK_CHANNEL_GENERIC: WebhookChannel
WEBHOOK_CHANNEL_SLACK: WebhookChannel
WEBHOOK_CHANNEL_DISCORD: WebhookChannel
WEBHOOK_CHANNEL_EMAIL: WebhookChannel
SMTP_TLS_MODE_UNSPECIFIED: SmtpTlsMode
SMTP_TLS_MODE_STARTTLS: SmtpTlsMode
SMTP_TLS_MODE_IMPLICIT: SmtpTlsMode
WEBHOOK_DELIVERY_STATUS_UNSPECIFIED: WebhookDeliveryStatus
WEBHOOK_DELIVERY_STATUS_PENDING: WebhookDeliveryStatus
WEBHOOK_DELIVERY_STATUS_SUCCESS: WebhookDeliveryStatus
WEBHOOK_DELIVERY_STATUS_FAILED: WebhookDeliveryStatus

class Webhook(_message.Message):
    __slots__ = ("id", "url", "channel", "description", "event_types", "gateways", "active", "email", "max_in_flight", "rate_per_second", "created_by", "create_time", "update_time", "failing_since_time", "failures", "disable_time", "disabled_reason", "stopped_sequence", "previous_secret_expire_time", "etag", "unreadable")
    ID_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPES_FIELD_NUMBER: _ClassVar[int]
    GATEWAYS_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    EMAIL_FIELD_NUMBER: _ClassVar[int]
    MAX_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    RATE_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    FAILING_SINCE_TIME_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    DISABLE_TIME_FIELD_NUMBER: _ClassVar[int]
    DISABLED_REASON_FIELD_NUMBER: _ClassVar[int]
    STOPPED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_SECRET_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    UNREADABLE_FIELD_NUMBER: _ClassVar[int]
    id: int
    url: str
    channel: WebhookChannel
    description: str
    event_types: _containers.RepeatedScalarFieldContainer[str]
    gateways: _containers.RepeatedScalarFieldContainer[str]
    active: bool
    email: WebhookEmail
    max_in_flight: int
    rate_per_second: int
    created_by: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    failing_since_time: _timestamp_pb2.Timestamp
    failures: int
    disable_time: _timestamp_pb2.Timestamp
    disabled_reason: str
    stopped_sequence: int
    previous_secret_expire_time: _timestamp_pb2.Timestamp
    etag: str
    unreadable: bool
    def __init__(self, id: _Optional[int] = ..., url: _Optional[str] = ..., channel: _Optional[_Union[WebhookChannel, str]] = ..., description: _Optional[str] = ..., event_types: _Optional[_Iterable[str]] = ..., gateways: _Optional[_Iterable[str]] = ..., active: bool = ..., email: _Optional[_Union[WebhookEmail, _Mapping]] = ..., max_in_flight: _Optional[int] = ..., rate_per_second: _Optional[int] = ..., created_by: _Optional[str] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., failing_since_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., failures: _Optional[int] = ..., disable_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., disabled_reason: _Optional[str] = ..., stopped_sequence: _Optional[int] = ..., previous_secret_expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ..., unreadable: bool = ...) -> None: ...

class WebhookEmail(_message.Message):
    __slots__ = ("smtp_host", "smtp_port", "tls", "smtp_user", "from_addr", "to_addrs")
    SMTP_HOST_FIELD_NUMBER: _ClassVar[int]
    SMTP_PORT_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    SMTP_USER_FIELD_NUMBER: _ClassVar[int]
    FROM_ADDR_FIELD_NUMBER: _ClassVar[int]
    TO_ADDRS_FIELD_NUMBER: _ClassVar[int]
    smtp_host: str
    smtp_port: int
    tls: SmtpTlsMode
    smtp_user: str
    from_addr: str
    to_addrs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, smtp_host: _Optional[str] = ..., smtp_port: _Optional[int] = ..., tls: _Optional[_Union[SmtpTlsMode, str]] = ..., smtp_user: _Optional[str] = ..., from_addr: _Optional[str] = ..., to_addrs: _Optional[_Iterable[str]] = ...) -> None: ...

class WebhookEmailSettings(_message.Message):
    __slots__ = ("smtp_host", "smtp_port", "tls", "smtp_user", "smtp_pass", "from_addr", "to_addrs")
    SMTP_HOST_FIELD_NUMBER: _ClassVar[int]
    SMTP_PORT_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    SMTP_USER_FIELD_NUMBER: _ClassVar[int]
    SMTP_PASS_FIELD_NUMBER: _ClassVar[int]
    FROM_ADDR_FIELD_NUMBER: _ClassVar[int]
    TO_ADDRS_FIELD_NUMBER: _ClassVar[int]
    smtp_host: str
    smtp_port: int
    tls: SmtpTlsMode
    smtp_user: str
    smtp_pass: str
    from_addr: str
    to_addrs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, smtp_host: _Optional[str] = ..., smtp_port: _Optional[int] = ..., tls: _Optional[_Union[SmtpTlsMode, str]] = ..., smtp_user: _Optional[str] = ..., smtp_pass: _Optional[str] = ..., from_addr: _Optional[str] = ..., to_addrs: _Optional[_Iterable[str]] = ...) -> None: ...

class CreateWebhookRequest(_message.Message):
    __slots__ = ("url", "channel", "description", "event_types", "gateways", "active", "email", "max_in_flight", "rate_per_second", "request_id")
    URL_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPES_FIELD_NUMBER: _ClassVar[int]
    GATEWAYS_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    EMAIL_FIELD_NUMBER: _ClassVar[int]
    MAX_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    RATE_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    url: str
    channel: WebhookChannel
    description: str
    event_types: _containers.RepeatedScalarFieldContainer[str]
    gateways: _containers.RepeatedScalarFieldContainer[str]
    active: bool
    email: WebhookEmailSettings
    max_in_flight: int
    rate_per_second: int
    request_id: str
    def __init__(self, url: _Optional[str] = ..., channel: _Optional[_Union[WebhookChannel, str]] = ..., description: _Optional[str] = ..., event_types: _Optional[_Iterable[str]] = ..., gateways: _Optional[_Iterable[str]] = ..., active: bool = ..., email: _Optional[_Union[WebhookEmailSettings, _Mapping]] = ..., max_in_flight: _Optional[int] = ..., rate_per_second: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreateWebhookResponse(_message.Message):
    __slots__ = ("webhook", "secret", "legacy_secret")
    WEBHOOK_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    LEGACY_SECRET_FIELD_NUMBER: _ClassVar[int]
    webhook: Webhook
    secret: str
    legacy_secret: str
    def __init__(self, webhook: _Optional[_Union[Webhook, _Mapping]] = ..., secret: _Optional[str] = ..., legacy_secret: _Optional[str] = ...) -> None: ...

class GetWebhookRequest(_message.Message):
    __slots__ = ("webhook_id",)
    WEBHOOK_ID_FIELD_NUMBER: _ClassVar[int]
    webhook_id: int
    def __init__(self, webhook_id: _Optional[int] = ...) -> None: ...

class GetWebhookResponse(_message.Message):
    __slots__ = ("webhook",)
    WEBHOOK_FIELD_NUMBER: _ClassVar[int]
    webhook: Webhook
    def __init__(self, webhook: _Optional[_Union[Webhook, _Mapping]] = ...) -> None: ...

class ListWebhooksRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListWebhooksResponse(_message.Message):
    __slots__ = ("webhooks", "next_page_token")
    WEBHOOKS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    webhooks: _containers.RepeatedCompositeFieldContainer[Webhook]
    next_page_token: str
    def __init__(self, webhooks: _Optional[_Iterable[_Union[Webhook, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateWebhookRequest(_message.Message):
    __slots__ = ("webhook_id", "update_mask", "url", "channel", "description", "event_types", "gateways", "active", "email", "max_in_flight", "rate_per_second", "etag", "request_id")
    WEBHOOK_ID_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPES_FIELD_NUMBER: _ClassVar[int]
    GATEWAYS_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    EMAIL_FIELD_NUMBER: _ClassVar[int]
    MAX_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    RATE_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    webhook_id: int
    update_mask: _field_mask_pb2.FieldMask
    url: str
    channel: WebhookChannel
    description: str
    event_types: _containers.RepeatedScalarFieldContainer[str]
    gateways: _containers.RepeatedScalarFieldContainer[str]
    active: bool
    email: WebhookEmailSettings
    max_in_flight: int
    rate_per_second: int
    etag: str
    request_id: str
    def __init__(self, webhook_id: _Optional[int] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., url: _Optional[str] = ..., channel: _Optional[_Union[WebhookChannel, str]] = ..., description: _Optional[str] = ..., event_types: _Optional[_Iterable[str]] = ..., gateways: _Optional[_Iterable[str]] = ..., active: bool = ..., email: _Optional[_Union[WebhookEmailSettings, _Mapping]] = ..., max_in_flight: _Optional[int] = ..., rate_per_second: _Optional[int] = ..., etag: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class UpdateWebhookResponse(_message.Message):
    __slots__ = ("webhook", "secret", "legacy_secret")
    WEBHOOK_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    LEGACY_SECRET_FIELD_NUMBER: _ClassVar[int]
    webhook: Webhook
    secret: str
    legacy_secret: str
    def __init__(self, webhook: _Optional[_Union[Webhook, _Mapping]] = ..., secret: _Optional[str] = ..., legacy_secret: _Optional[str] = ...) -> None: ...

class DeleteWebhookRequest(_message.Message):
    __slots__ = ("webhook_id", "etag", "request_id")
    WEBHOOK_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    webhook_id: int
    etag: str
    request_id: str
    def __init__(self, webhook_id: _Optional[int] = ..., etag: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class DeleteWebhookResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RotateWebhookSecretRequest(_message.Message):
    __slots__ = ("webhook_id", "overlap", "etag", "request_id")
    WEBHOOK_ID_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    webhook_id: int
    overlap: _duration_pb2.Duration
    etag: str
    request_id: str
    def __init__(self, webhook_id: _Optional[int] = ..., overlap: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., etag: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class RotateWebhookSecretResponse(_message.Message):
    __slots__ = ("webhook", "secret", "legacy_secret")
    WEBHOOK_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    LEGACY_SECRET_FIELD_NUMBER: _ClassVar[int]
    webhook: Webhook
    secret: str
    legacy_secret: str
    def __init__(self, webhook: _Optional[_Union[Webhook, _Mapping]] = ..., secret: _Optional[str] = ..., legacy_secret: _Optional[str] = ...) -> None: ...

class TestWebhookRequest(_message.Message):
    __slots__ = ("webhook_id", "request_id")
    WEBHOOK_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    webhook_id: int
    request_id: str
    def __init__(self, webhook_id: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class TestWebhookResponse(_message.Message):
    __slots__ = ("attempt", "delivered")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    attempt: WebhookAttempt
    delivered: bool
    def __init__(self, attempt: _Optional[_Union[WebhookAttempt, _Mapping]] = ..., delivered: bool = ...) -> None: ...

class WebhookAttempt(_message.Message):
    __slots__ = ("start_time", "duration", "response_code", "error", "response_snippet")
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_CODE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_SNIPPET_FIELD_NUMBER: _ClassVar[int]
    start_time: _timestamp_pb2.Timestamp
    duration: _duration_pb2.Duration
    response_code: int
    error: str
    response_snippet: str
    def __init__(self, start_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., duration: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., response_code: _Optional[int] = ..., error: _Optional[str] = ..., response_snippet: _Optional[str] = ...) -> None: ...

class RedeliverWebhookRequest(_message.Message):
    __slots__ = ("webhook_id", "delivery_ids", "start_time", "end_time", "only_failed", "request_id", "after_delivery_id", "max_deliveries")
    WEBHOOK_ID_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_IDS_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    ONLY_FAILED_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_DELIVERY_ID_FIELD_NUMBER: _ClassVar[int]
    MAX_DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    webhook_id: int
    delivery_ids: _containers.RepeatedScalarFieldContainer[int]
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    only_failed: bool
    request_id: str
    after_delivery_id: int
    max_deliveries: int
    def __init__(self, webhook_id: _Optional[int] = ..., delivery_ids: _Optional[_Iterable[int]] = ..., start_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., only_failed: bool = ..., request_id: _Optional[str] = ..., after_delivery_id: _Optional[int] = ..., max_deliveries: _Optional[int] = ...) -> None: ...

class RedeliverWebhookResponse(_message.Message):
    __slots__ = ("redelivered", "more", "next_after_delivery_id")
    REDELIVERED_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_DELIVERY_ID_FIELD_NUMBER: _ClassVar[int]
    redelivered: int
    more: bool
    next_after_delivery_id: int
    def __init__(self, redelivered: _Optional[int] = ..., more: bool = ..., next_after_delivery_id: _Optional[int] = ...) -> None: ...

class ListWebhookDeliveriesRequest(_message.Message):
    __slots__ = ("webhook_id", "page_size", "page_token", "status")
    WEBHOOK_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    webhook_id: int
    page_size: int
    page_token: str
    status: WebhookDeliveryStatus
    def __init__(self, webhook_id: _Optional[int] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., status: _Optional[_Union[WebhookDeliveryStatus, str]] = ...) -> None: ...

class ListWebhookDeliveriesResponse(_message.Message):
    __slots__ = ("webhook_deliveries", "next_page_token")
    WEBHOOK_DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    webhook_deliveries: _containers.RepeatedCompositeFieldContainer[WebhookDelivery]
    next_page_token: str
    def __init__(self, webhook_deliveries: _Optional[_Iterable[_Union[WebhookDelivery, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WebhookDelivery(_message.Message):
    __slots__ = ("id", "webhook_id", "message_id", "event_type", "event_sequence", "status", "attempt", "create_time", "next_attempt_time", "delivered_time", "last_attempt", "earlier_attempts")
    ID_FIELD_NUMBER: _ClassVar[int]
    WEBHOOK_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    EVENT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    NEXT_ATTEMPT_TIME_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    EARLIER_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    id: int
    webhook_id: int
    message_id: str
    event_type: str
    event_sequence: int
    status: WebhookDeliveryStatus
    attempt: int
    create_time: _timestamp_pb2.Timestamp
    next_attempt_time: _timestamp_pb2.Timestamp
    delivered_time: _timestamp_pb2.Timestamp
    last_attempt: WebhookAttempt
    earlier_attempts: _containers.RepeatedCompositeFieldContainer[WebhookAttempt]
    def __init__(self, id: _Optional[int] = ..., webhook_id: _Optional[int] = ..., message_id: _Optional[str] = ..., event_type: _Optional[str] = ..., event_sequence: _Optional[int] = ..., status: _Optional[_Union[WebhookDeliveryStatus, str]] = ..., attempt: _Optional[int] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., next_attempt_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., delivered_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., last_attempt: _Optional[_Union[WebhookAttempt, _Mapping]] = ..., earlier_attempts: _Optional[_Iterable[_Union[WebhookAttempt, _Mapping]]] = ...) -> None: ...
