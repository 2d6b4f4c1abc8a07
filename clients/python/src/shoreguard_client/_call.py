"""What every generated method goes through: request, credential, deadline, retries, errors."""

from __future__ import annotations

import asyncio
import datetime
import logging
import random
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import grpc
from google.protobuf import duration_pb2, field_mask_pb2, struct_pb2, timestamp_pb2

from . import _errors
from ._errors import ShoreguardError, Unavailable
from ._reasons import Reason

# Values that callers give for well-known types.
Time = datetime.datetime | timestamp_pb2.Timestamp
Span = datetime.timedelta | duration_pb2.Duration
Mask = Iterable[str] | field_mask_pb2.FieldMask
Json = Mapping[str, Any] | struct_pb2.Struct

Q = TypeVar("Q")
R = TypeVar("R")

log = logging.getLogger("shoreguard_client")

# A call that fails with UNAVAILABLE is tried this many times.
ATTEMPTS = 5
# The first pause between attempts, and the longest, in seconds.
PAUSE, PAUSE_MAX = 0.25, 3.0
# What `WaitOperation` waits without `timeout`, and what its answer may take in addition, in seconds.
WAIT, WAIT_MARGIN = 25.0, 10.0

# Methods without a credential that have no secret either. All others of that kind take or return one.
PLAIN = ("/shoreguard.v1.AuthService/GetServerInfo", "/shoreguard.v1.AuthService/ListOidcProviders")


@dataclass(frozen=True)
class Method(Generic[Q, R]):
    """A method, with what its shape and its policy mean for callers."""

    path: str
    request: type[Q]
    response: type[R]
    public: bool = False
    """It is called without a credential."""
    write: bool = False
    """It changes state. It is repeated only under a `request_id`."""
    fills_request_id: bool = False
    """Its `request_id` is set before the first attempt."""
    waits: bool = False
    """It waits for the `timeout` of its request, so that its deadline is later."""
    sends_stream: bool = False
    returns_stream: bool = False
    items: str = ""
    """The field with the items of a page, or the item of a watch."""
    page_token: tuple[str, str] = ("", "")
    """Where a page begins: the field of the request, and that of the response."""
    position: tuple[str, str] = ("", "")
    """Where a watch resumes: the field of the request, and that of the response."""

    @property
    def repeatable(self) -> bool:
        return self.fills_request_id or not (self.write or self.sends_stream)

    def make(self, given: Mapping[str, Any]) -> Q:
        """Returns the request. A value that does not fit is an error with its field."""
        request = self.request()
        for name, value in given.items():
            if value is None:
                continue
            try:
                request.MergeFrom(self.request(**{name: _known(request, name, value)}))  # type: ignore[attr-defined]
            except (TypeError, ValueError, AttributeError, OverflowError) as wrong:
                kind = _kind(request, name)
                why = f"must be {kind}, got {type(value).__name__}: {wrong}"
                raise _errors.InvalidArgument(
                    grpc.StatusCode.INVALID_ARGUMENT, f"`{name}`: {why}", Reason.INVALID_FIELD, fields={name: why}
                ) from None
        if self.fills_request_id and not given.get("request_id"):
            request.request_id = str(uuid.uuid4())  # type: ignore[attr-defined]
        return request

    def deadline(self, request: Q, deadline: float | None, default: float) -> float:
        if deadline is not None:
            return deadline
        if not self.waits:
            return default
        timeout = request.timeout  # type: ignore[attr-defined]
        seconds = float(timeout.seconds + timeout.nanos / 1e9)
        return (seconds or WAIT) + WAIT_MARGIN


def _kind(request: Any, name: str) -> str:
    """Returns what a field holds, for people."""
    field = request.DESCRIPTOR.fields_by_name[name]
    made = field.message_type or field.enum_type
    words = {1: "float", 2: "float", 8: "bool", 9: "str", 12: "bytes"}
    kind = str(made.full_name) if made is not None else words.get(field.type, "int")
    return f"a list of {kind}" if hasattr(getattr(request, name), "extend") else kind


def _known(request: Any, name: str, value: Any) -> Any:
    """Converts a value of Python to the well-known type of its field."""
    field = request.DESCRIPTOR.fields_by_name[name]
    # Otherwise protobuf would make a list of the letters.
    if isinstance(value, (str, bytes)) and hasattr(getattr(request, name), "extend"):
        raise TypeError("put it into a list")
    kind = field.message_type
    kind = kind.full_name if kind is not None else ""
    if kind == "google.protobuf.Timestamp" and isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            raise ValueError("a time needs a time zone, such as datetime.now(timezone.utc)")
        stamp = timestamp_pb2.Timestamp()
        stamp.FromDatetime(value.astimezone(datetime.timezone.utc).replace(tzinfo=None))
        return stamp
    if kind == "google.protobuf.Duration" and isinstance(value, datetime.timedelta):
        span = duration_pb2.Duration()
        span.FromTimedelta(value)
        return span
    if kind == "google.protobuf.FieldMask" and not isinstance(value, field_mask_pb2.FieldMask):
        if isinstance(value, str):
            raise TypeError("a mask is a list of paths")
        return field_mask_pb2.FieldMask(paths=value)
    if kind == "google.protobuf.Struct" and isinstance(value, Mapping):
        struct = struct_pb2.Struct()
        struct.update(value)
        return struct
    return value


class Credential(Protocol):
    """Gives the bearer token of a call."""

    def token(self, timeout: float | None = None) -> str:
        """Returns the token, empty for none. Can refresh a session first, for at most `timeout` seconds."""

    def ready(self) -> bool:
        """Returns whether `token` returns at once."""


class Pauses:
    """The pauses between attempts: longer each time, with jitter, or as long as the server asked."""

    def __init__(self) -> None:
        self.failed = 0

    def reset(self) -> None:
        self.failed = 0

    def next(self, error: ShoreguardError | None = None) -> float:
        pause = min(PAUSE * 2.0**self.failed, PAUSE_MAX) * random.uniform(0.8, 1.2)
        self.failed = min(self.failed + 1, 10)
        if error is not None and error.retry_after is not None:
            return error.retry_after
        return pause


class Attempts:
    """Decides whether a failed call is tried again."""

    def __init__(self, path: str, repeatable: bool, deadline: float | None) -> None:
        self.path, self.repeatable = path, repeatable
        self.end = None if deadline is None else time.monotonic() + deadline
        self.pauses = Pauses()

    def left(self) -> float | None:
        """Returns the seconds that are left."""
        return None if self.end is None else max(self.end - time.monotonic(), 0.0)

    def pause(self, error: ShoreguardError) -> float:
        """Returns the pause before the next attempt, or raises the error."""
        if not (self.repeatable and isinstance(error, Unavailable)) or self.pauses.failed + 1 >= ATTEMPTS:
            raise error from None
        pause = self.pauses.next(error)
        left = self.left()
        if left is not None and pause >= left:
            raise error from None
        log.info("%s failed with %s %s, repeated in %.2f s", self.path, error.code.name, error.reason, pause)
        return pause


def lost(error: ShoreguardError) -> bool:
    """Returns whether a stream broke off although the server did not end it: it can be taken up again."""
    if isinstance(error, Unavailable):
        return True
    if isinstance(error, _errors.Closed):
        return False
    return not error.reason and error.code in (
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    )


class _Base:
    """What both callers share."""

    def __init__(self, channel: Any, credential: Credential, deadline: float, plain: bool = False) -> None:
        self.channel, self.credential, self._deadline = channel, credential, deadline
        # Whether what is sent can be read on the network.
        self.plain = plain
        self.closed = False
        self._callables: dict[str, Any] = {}

    def callable(self, method: Method[Any, Any]) -> Any:
        """Returns grpcio's callable of a method. After the end of the client, that would be an error of grpcio."""
        if self.closed:
            raise _errors.Closed
        if self.plain and method.public and method.path not in PLAIN:
            raise _errors.ConfigurationError(
                f"`{method.path}` has secrets, which are sent without TLS to loopback addresses only: use https"
            )
        found = self._callables.get(method.path)
        if found is None:
            kind = f"{'stream' if method.sends_stream else 'unary'}_{'stream' if method.returns_stream else 'unary'}"
            found = getattr(self.channel, kind)(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
            self._callables[method.path] = found
        return found


class Caller(_Base):
    """Makes calls and blocks until they have ended."""

    def _metadata(self, method: Method[Any, Any], left: float | None) -> tuple[tuple[str, str], ...]:
        """Returns the credential. A refresh of the session is waited for as long as the call may take."""
        self.callable(method)
        return bearer("" if method.public else self.credential.token(left))

    def unary(self, method: Method[Q, R], given: Mapping[str, Any], deadline: float | None) -> R:
        request = method.make(given)
        attempts = Attempts(method.path, method.repeatable, method.deadline(request, deadline, self._deadline))
        while True:
            metadata = self._metadata(method, attempts.left())
            try:
                return self.callable(method)(  # type: ignore[no-any-return]
                    request, timeout=attempts.left(), metadata=metadata
                )
            except grpc.RpcError as failed:
                time.sleep(attempts.pause(_errors.translate(failed)))

    def stream(
        self,
        method: Method[Q, R],
        given: Mapping[str, Any],
        deadline: float | None,
        opened: Callable[[], None] | None = None,
    ) -> Generator[R, None, None]:
        """Makes a call that returns a stream. Calls `opened` when the server has accepted it, which ends repeats."""
        request = method.make(given)
        return self._stream(method, request, Attempts(method.path, method.repeatable, deadline), opened)

    def duplex(self, method: Method[Q, R], requests: Iterable[Q], deadline: float | None) -> Iterator[R]:
        return self._stream(method, iter(requests), Attempts(method.path, False, deadline))

    def _stream(
        self,
        method: Method[Q, R],
        request: Any,
        attempts: Attempts,
        opened: Callable[[], None] | None = None,
    ) -> Generator[R, None, None]:
        while True:
            metadata = self._metadata(method, attempts.left())
            call = self.callable(method)(request, timeout=attempts.left(), metadata=metadata)
            try:
                # A refusal has no headers of its own, only trailers.
                if opened is not None and call.initial_metadata():
                    attempts.repeatable = False
                    opened()
                for message in call:
                    attempts.repeatable = False
                    yield message
                return
            except grpc.RpcError as failed:
                pause = attempts.pause(_errors.translate(failed))
            finally:
                call.cancel()
            time.sleep(pause)

    def upload(self, method: Method[Q, R], requests: Iterable[Q], deadline: float | None) -> R:
        attempts = Attempts(method.path, False, deadline)
        metadata = self._metadata(method, attempts.left())
        try:
            return self.callable(method)(  # type: ignore[no-any-return]
                iter(requests), timeout=attempts.left(), metadata=metadata
            )
        except grpc.RpcError as failed:
            raise _errors.translate(failed) from None


class AsyncCaller(_Base):
    """Makes calls in an event loop."""

    async def _metadata(self, method: Method[Any, Any], left: float | None) -> tuple[tuple[str, str], ...]:
        """As `Caller._metadata`."""
        self.callable(method)
        if method.public:
            return ()
        if self.credential.ready():
            return bearer(self.credential.token())
        return bearer(await asyncio.to_thread(self.credential.token, left))

    def _check_closed(self) -> None:
        """Raises `Closed` if the end of the client has ended a call: to grpcio, that is as if its task was canceled."""
        task = asyncio.current_task()
        if self.closed and not (task is not None and task.cancelling()):
            raise _errors.Closed from None

    async def unary(self, method: Method[Q, R], given: Mapping[str, Any], deadline: float | None) -> R:
        request = method.make(given)
        attempts = Attempts(method.path, method.repeatable, method.deadline(request, deadline, self._deadline))
        while True:
            metadata = await self._metadata(method, attempts.left())
            try:
                return await self.callable(method)(  # type: ignore[no-any-return]
                    request, timeout=attempts.left(), metadata=metadata
                )
            except asyncio.CancelledError:
                self._check_closed()
                raise
            except grpc.RpcError as failed:
                pause = attempts.pause(_errors.translate(failed))
            await asyncio.sleep(pause)

    def stream(
        self,
        method: Method[Q, R],
        given: Mapping[str, Any],
        deadline: float | None,
        opened: Callable[[], None] | None = None,
    ) -> AsyncGenerator[R, None]:
        """As `Caller.stream`."""
        request = method.make(given)
        return self._stream(method, request, Attempts(method.path, method.repeatable, deadline), opened)

    def duplex(
        self, method: Method[Q, R], requests: AsyncIterable[Q] | Iterable[Q], deadline: float | None
    ) -> AsyncIterator[R]:
        return self._stream(method, requests, Attempts(method.path, False, deadline))

    async def _stream(
        self,
        method: Method[Q, R],
        request: Any,
        attempts: Attempts,
        opened: Callable[[], None] | None = None,
    ) -> AsyncGenerator[R, None]:
        while True:
            metadata = await self._metadata(method, attempts.left())
            call = self.callable(method)(request, timeout=attempts.left(), metadata=metadata)
            try:
                if opened is not None and await call.initial_metadata():
                    attempts.repeatable = False
                    opened()
                async for message in call:
                    attempts.repeatable = False
                    yield message
                return
            except asyncio.CancelledError:
                self._check_closed()
                raise
            except grpc.RpcError as failed:
                pause = attempts.pause(_errors.translate(failed))
            finally:
                call.cancel()
            await asyncio.sleep(pause)

    async def upload(
        self, method: Method[Q, R], requests: AsyncIterable[Q] | Iterable[Q], deadline: float | None
    ) -> R:
        attempts = Attempts(method.path, False, deadline)
        metadata = await self._metadata(method, attempts.left())
        try:
            return await self.callable(method)(  # type: ignore[no-any-return]
                requests, timeout=attempts.left(), metadata=metadata
            )
        except asyncio.CancelledError:
            self._check_closed()
            raise
        except grpc.RpcError as failed:
            raise _errors.translate(failed) from None


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Returns the metadata of a credential."""
    return (("authorization", f"Bearer {token}"),) if token else ()
