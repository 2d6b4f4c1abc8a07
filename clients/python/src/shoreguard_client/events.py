"""Watches: streams that resume where they were lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, closing
from typing import Any, Generic, TypeVar

from ._call import AsyncCaller, Caller, Method, Pauses, log, lost
from ._errors import ShoreguardError, Unauthenticated

T = TypeVar("T")
M = TypeVar("M")


class _Position(Generic[T, M]):
    """What both kinds of watch share: where the watch is, and what follows from a lost connection."""

    def __init__(self, method: Method[Any, M], given: Mapping[str, Any], deadline: float | None) -> None:
        self._method, self._given = method, dict(given)
        asked, self._answered = method.position
        self.position: int = self._given.get(asked) or 0
        """Everything up to here was received: a new watch that begins here continues this one."""
        self._asked = asked
        self._end = None if deadline is None else time.monotonic() + deadline
        self._connected = False
        # Whether the server has accepted the credential of the present connection.
        self._accepted = False
        self._pauses = Pauses()

    def _request(self) -> dict[str, Any]:
        return {**self._given, self._asked: self.position}

    def _left(self) -> float | None:
        return None if self._end is None else max(self._end - time.monotonic(), 0.0)

    def _open(self) -> None:
        self._connected = self._accepted = True

    def _received(self, message: M) -> None:
        self._pauses.reset()
        self.position = getattr(message, self._answered) or self.position

    def _pause(self, error: ShoreguardError | None) -> float:
        """Returns how long to wait before the watch resumes, or raises the error."""
        # Before the first position, what happens from now on could be missed in between: that is for the caller.
        # A session token that expires meanwhile is replaced for the next connection, which can fail for another reason.
        expired, self._accepted = self._accepted and isinstance(error, Unauthenticated), False
        if error is not None and (not self._connected or self.position < 0 or not (expired or lost(error))):
            raise error
        pause = self._pauses.next(error)
        log.info("%s resumes after %d in %.2f s", self._method.path, self.position, pause)
        return pause

    def _item(self, message: M) -> T | None:
        name = self._method.items
        if name:
            return getattr(message, name) if message.HasField(name) else None  # type: ignore[attr-defined]
        # Only the position has moved.
        moved = all(field.name == self._answered for field, _ in message.ListFields())  # type: ignore[attr-defined]
        return None if moved else message  # type: ignore[return-value]


class Watch(_Position[T, M]):
    """A watch. Iterating over it yields items until it is closed, and resumes when the connection is lost.

    It never skips: if the position is no longer stored, it raises `CursorExpired`. The first connection is tried as
    often as that of any call.
    """

    def __init__(self, caller: Caller, method: Method[Any, M], given: Mapping[str, Any], deadline: float | None) -> None:
        super().__init__(method, given, deadline)
        self._caller = caller

    def messages(self) -> Iterator[M]:
        """Yields whole messages, also those that only move the position."""
        while True:
            error: ShoreguardError | None = None
            try:
                with closing(self._caller.stream(self._method, self._request(), self._left(), self._open)) as stream:
                    for message in stream:
                        self._received(message)
                        yield message
            except ShoreguardError as failed:
                error = failed
            time.sleep(self._pause(error))

    def __iter__(self) -> Iterator[T]:
        for message in self.messages():
            item = self._item(message)
            if item is not None:
                yield item


class AsyncWatch(_Position[T, M]):
    """As `Watch`, in an event loop."""

    def __init__(
        self, caller: AsyncCaller, method: Method[Any, M], given: Mapping[str, Any], deadline: float | None
    ) -> None:
        super().__init__(method, given, deadline)
        self._caller = caller

    async def messages(self) -> AsyncIterator[M]:
        """Yields whole messages, also those that only move the position."""
        while True:
            error: ShoreguardError | None = None
            try:
                async with aclosing(self._caller.stream(self._method, self._request(), self._left(), self._open)) as stream:
                    async for message in stream:
                        self._received(message)
                        yield message
            except ShoreguardError as failed:
                error = failed
            await asyncio.sleep(self._pause(error))

    async def __aiter__(self) -> AsyncIterator[T]:
        async for message in self.messages():
            item = self._item(message)
            if item is not None:
                yield item
