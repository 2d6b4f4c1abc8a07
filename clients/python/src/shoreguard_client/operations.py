"""Operations: work that continues after the call that began it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing, closing
from typing import Any, Generic, TypeVar

import grpc

from . import _methods, v1
from ._call import AsyncCaller, Caller, Pauses, log, lost
from ._errors import DeadlineExceeded, ShoreguardError, Unauthenticated

R = TypeVar("R")
Progress = Callable[[v1.Operation], object]
WATCH = _methods.OperationService_WatchOperation
ENDED = (v1.OPERATION_STATUS_SUCCEEDED, v1.OPERATION_STATUS_FAILED)


def _name(kind: Any, number: int) -> str:
    """Returns the name of a value of an enum, or its number if it is of a later release."""
    return str(kind.Name(number)) if number in kind.values() else str(number)


class OperationFailed(ShoreguardError):
    """An operation ended without success. `reason` is its error code, without the prefix."""

    def __init__(self, operation: v1.Operation) -> None:
        word = _name(v1.OperationErrorCode, operation.error_code).removeprefix("OPERATION_ERROR_CODE_")
        super().__init__(grpc.StatusCode.UNKNOWN, operation.error_message or "the operation failed")
        self.args = (f"operation {operation.id} failed: {self.message} [{word}]",)
        self.reason = word
        self.operation = operation
        """The operation, with the results of the steps that were done."""


class _Handle(Generic[R]):
    """What both kinds of handle share."""

    def __init__(self, response: R) -> None:
        self.response = response
        """The response of the call that returned the handle."""
        self.state: v1.Operation = response.operation  # type: ignore[attr-defined]
        """The last known state."""
        # Not every response has the result of the operation, so a wait always asks once.
        self._complete = False

    @property
    def id(self) -> str:
        """The id: a UUID."""
        return self.state.id

    @property
    def done(self) -> bool:
        """Whether the last known state is final."""
        return self.state.status in ENDED

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {_name(v1.OperationStatus, self.state.status)}>"

    def _update(self, state: v1.Operation, progress: Progress | None) -> None:
        before, self.state = self.state, state
        moved = (before.progress_percent, before.progress_message) != (state.progress_percent, state.progress_message)
        if progress is not None and moved:
            progress(state)

    def _result(self) -> v1.Operation:
        if self.state.status == v1.OPERATION_STATUS_FAILED:
            raise OperationFailed(self.state)
        return self.state

    def _late(self, timeout: float | None) -> DeadlineExceeded:
        message = f"operation {self.id} has not ended within {timeout} s; it continues"
        return DeadlineExceeded(grpc.StatusCode.DEADLINE_EXCEEDED, message)


class _Wait:
    """The time and the pauses of one wait."""

    def __init__(self, timeout: float | None) -> None:
        self.end = None if timeout is None else time.monotonic() + timeout
        self.pauses = Pauses()
        # Whether the server has accepted the credential of the present connection.
        self.accepted = False

    def accept(self) -> None:
        self.pauses.reset()
        self.accepted = True

    def left(self) -> float | None:
        return None if self.end is None else self.end - time.monotonic()

    def late(self) -> bool:
        return self.end is not None and time.monotonic() >= self.end

    def pause(self, error: ShoreguardError | None) -> float:
        """Returns how long to wait before the operation is watched again, or raises the error."""
        # A session token that expires meanwhile is replaced for the next connection.
        expired, self.accepted = self.accepted and isinstance(error, Unauthenticated), False
        if error is not None and not (expired or lost(error)):
            raise error
        pause = self.pauses.next(error)
        log.info("an operation is watched again in %.2f s: %s", pause, error or "the stream ended")
        left = self.left()
        return pause if left is None else max(min(pause, left), 0.0)


class Operation(_Handle[R]):
    """A handle of an operation."""

    def __init__(self, caller: Caller, response: R) -> None:
        super().__init__(response)
        self._caller = caller

    def wait(self, timeout: float | None = None, progress: Progress | None = None) -> v1.Operation:
        """Waits for the end and returns the operation with its result.

        `progress` is called when percent or message have changed. A lost connection is taken up again.

        Raises `OperationFailed` if the operation failed, and `DeadlineExceeded` (a `TimeoutError`) after `timeout`
        seconds; the operation continues then.
        """
        wait = _Wait(timeout)
        while not self.done or not self._complete:
            if wait.late():
                raise self._late(timeout)
            error: ShoreguardError | None = None
            try:
                # An error of `progress` ends the call, too.
                with closing(self._caller.stream(WATCH, {"operation": self.id}, wait.left())) as messages:
                    for message in messages:
                        wait.accept()
                        self._complete = True
                        self._update(message.operation, progress)
            except DeadlineExceeded:
                pass  # Ours, which the loop reports, or one of the server.
            except ShoreguardError as failed:
                error = failed
            if error is not None or not self.done:
                time.sleep(wait.pause(error))
        return self._result()

    def refresh(self) -> v1.Operation:
        """Gets and returns the current state."""
        found = self._caller.unary(_methods.OperationService_GetOperation, {"operation": self.id}, None)
        self._update(found.operation, None)
        return self.state

    def cancel(self) -> v1.Operation:
        """Requests cancellation. `wait` raises `OperationFailed` if it was canceled; it can still succeed."""
        found = self._caller.unary(_methods.OperationService_CancelOperation, {"operation": self.id}, None)
        self._update(found.operation, None)
        return self.state


class AsyncOperation(_Handle[R]):
    """A handle of an operation."""

    def __init__(self, caller: AsyncCaller, response: R) -> None:
        super().__init__(response)
        self._caller = caller

    async def wait(self, timeout: float | None = None, progress: Progress | None = None) -> v1.Operation:
        """As `Operation.wait`."""
        wait = _Wait(timeout)
        while not self.done or not self._complete:
            if wait.late():
                raise self._late(timeout)
            error: ShoreguardError | None = None
            try:
                async with aclosing(self._caller.stream(WATCH, {"operation": self.id}, wait.left())) as messages:
                    async for message in messages:
                        wait.accept()
                        self._complete = True
                        self._update(message.operation, progress)
            except DeadlineExceeded:
                pass  # Ours, which the loop reports, or one of the server.
            except ShoreguardError as failed:
                error = failed
            if error is not None or not self.done:
                await asyncio.sleep(wait.pause(error))
        return self._result()

    async def refresh(self) -> v1.Operation:
        """Gets and returns the current state."""
        found = await self._caller.unary(_methods.OperationService_GetOperation, {"operation": self.id}, None)
        self._update(found.operation, None)
        return self.state

    async def cancel(self) -> v1.Operation:
        """Requests cancellation. `wait` raises `OperationFailed` if it was canceled; it can still succeed."""
        found = await self._caller.unary(_methods.OperationService_CancelOperation, {"operation": self.id}, None)
        self._update(found.operation, None)
        return self.state
