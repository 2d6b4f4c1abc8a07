"""Errors: one base class, one subclass for each gRPC code, and the reason that programs branch on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from ._reasons import Reason

DETAILS = "grpc-status-details-bin"
REQUEST_ID = "x-request-id"


@dataclass(frozen=True)
class Resource:
    """The object that an error is about."""

    type: str
    name: str


class ShoreguardError(Exception):
    """A call was refused or failed. Its text has code, message, reason and request id."""

    code: grpc.StatusCode
    """The gRPC code."""
    message: str
    """A sentence for people."""
    reason: Reason | str
    """The value of `ErrorReason`, as text if this version does not know it; empty if the server sent none."""
    request_id: str
    """The id under which the server's log has the call; empty if the server was not reached."""
    retry_after: float | None
    """Seconds after which a repeat can succeed, if the server said so."""
    fields: dict[str, str]
    """The invalid fields of the request, with what is wrong about them."""
    resource: Resource | None
    """The object that the error is about, if the server named one."""
    metadata: dict[str, str]
    """Further facts; `ErrorReason` says which a reason has."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        reason: str = "",
        *,
        request_id: str = "",
        retry_after: float | None = None,
        fields: dict[str, str] | None = None,
        resource: Resource | None = None,
        metadata: dict[str, str] | None = None,
    ) -> None:
        text = f"{code.name}: {message}"
        if reason:
            text += f" [{reason}]"
        if request_id:
            text += f" (request {request_id})"
        super().__init__(text)
        self.code, self.message, self.request_id, self.retry_after = code, message, request_id, retry_after
        self.reason = Reason(reason) if reason in Reason.__members__ else reason
        self.fields, self.resource, self.metadata = fields or {}, resource, metadata or {}


class ConfigurationError(ShoreguardError, ValueError):
    """The client cannot be created: an endpoint, a context or a file is not usable. No call was made."""

    def __init__(self, message: str) -> None:
        super().__init__(grpc.StatusCode.INVALID_ARGUMENT, message)


class Cancelled(ShoreguardError):
    """The call was canceled."""


class Closed(Cancelled):
    """The client was closed before the call, or while a watch or a wait was between two attempts."""

    def __init__(self) -> None:
        super().__init__(grpc.StatusCode.CANCELLED, "the client is closed")


class Unknown(ShoreguardError):
    """The call failed without a known cause."""


class InvalidArgument(ShoreguardError):
    """The request is invalid; `fields` says where."""


class DeadlineExceeded(ShoreguardError, TimeoutError):
    """The deadline has passed. A write may have been done."""


class NotFound(ShoreguardError):
    """The object does not exist, or the caller may not see it."""


class AlreadyExists(ShoreguardError):
    """The name is in use."""


class PermissionDenied(ShoreguardError):
    """The caller may not do this; `reason` says why."""


class ResourceExhausted(ShoreguardError):
    """A limit is reached. `retry_after` says when to repeat, if a repeat can help."""


class FailedPrecondition(ShoreguardError):
    """The state does not allow the call; `reason` says why."""


class Aborted(ShoreguardError):
    """The object has changed since it was read, or another call on it is in progress."""


class OutOfRange(ShoreguardError):
    """A position is out of range."""


class CursorExpired(OutOfRange):
    """The events after the position of a watch or list are no longer stored."""

    @property
    def oldest(self) -> int | None:
        """The oldest sequence that is stored, or `None` if the server did not say."""
        found = self.metadata.get("oldest") or next(iter(re.findall(r"sequence (\d+)", self.message)), "")
        return int(found) if found.isdigit() else None


class Unimplemented(ShoreguardError):
    """The server or the gateway does not have this method."""


class Internal(ShoreguardError):
    """A fault of the server. Its log has the cause under `request_id`."""


class Unavailable(ShoreguardError):
    """The server or the gateway could not be reached, or is shutting down. It was tried several times if that is safe."""


class DataLoss(ShoreguardError):
    """Data was lost or is corrupt."""


class Unauthenticated(ShoreguardError):
    """There is no credential, or it is not valid."""


_CLASSES: dict[grpc.StatusCode, type[ShoreguardError]] = {
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.UNKNOWN: Unknown,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.ABORTED: Aborted,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRange,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
    grpc.StatusCode.INTERNAL: Internal,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DATA_LOSS: DataLoss,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
}


def error(code: grpc.StatusCode, message: str, details: bytes, request_id: str = "") -> ShoreguardError:
    """Returns the error for a status and its encoded details."""
    reason, retry_after, resource = "", None, None
    fields: dict[str, str] = {}
    metadata: dict[str, str] = {}
    for detail in _details(details):
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
            retry_after = delay.seconds + delay.nanos / 1e9
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest.FromString(detail.value)
            fields = {v.field: v.description for v in bad.field_violations}
        elif detail.Is(error_details_pb2.ResourceInfo.DESCRIPTOR):
            named = error_details_pb2.ResourceInfo.FromString(detail.value)
            resource = Resource(named.resource_type, named.resource_name)
    kind = CursorExpired if reason == Reason.CURSOR_EXPIRED else _CLASSES.get(code, ShoreguardError)
    return kind(
        code,
        message,
        reason,
        request_id=request_id,
        retry_after=retry_after,
        fields=fields,
        resource=resource,
        metadata=metadata,
    )


def _details(encoded: bytes) -> Iterable[Any]:
    try:
        return list(status_pb2.Status.FromString(encoded).details)
    except Exception:  # A proxy has changed them: the code is still worth more than a stack trace.
        return []


def translate(failed: grpc.RpcError) -> ShoreguardError:
    """Returns the error for what grpcio raised."""
    sent = _pairs(failed, "initial_metadata") | _pairs(failed, "trailing_metadata")
    details = sent.get(DETAILS, b"")
    request_id = sent.get(REQUEST_ID, "")
    encoded = details if isinstance(details, bytes) else b""
    code, message = failed.code(), failed.details() or ""
    # grpc.aio says this of a connection that is lost while a call begins.
    if code is grpc.StatusCode.INTERNAL and message == "Internal error from Core":
        code, message = grpc.StatusCode.UNAVAILABLE, "the connection was lost"
    return error(code, message, encoded, str(request_id))


def _pairs(failed: Any, name: str) -> dict[str, str | bytes]:
    return {key: value for key, value in (getattr(failed, name)() or ())}
