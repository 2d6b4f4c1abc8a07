"""Lists: items over all pages."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Generic, TypeVar

from ._call import AsyncCaller, Caller, Method

T = TypeVar("T")
P = TypeVar("P")


class PartialResult(UserWarning):
    """A list is not complete: gateways did not answer. `Pager.unreachable` has them.

    `warnings.simplefilter("error", PartialResult)` makes it an error.
    """


class _Pages(Generic[T, P]):
    """What both kinds of pager share."""

    def __init__(self, method: Method[Any, P], given: Mapping[str, Any]) -> None:
        self._method = method
        self._given = dict(given)
        self.unreachable: list[Any] = []
        """The gateways that did not answer, as far as the list was read."""

    def _begin(self) -> None:
        self.unreachable = []

    def _next(self, page: P, asked: dict[str, Any]) -> bool:
        """Notes what a page says of missing gateways. Returns whether there is another page, which `asked` names."""
        found = list(getattr(page, "unreachable", ()))
        if getattr(page, "gateway_unreachable", False):
            found.append(getattr(page, "gateway_error", "") or self._given.get("gateway") or "the gateway")
        for gateway in found:
            if gateway not in self.unreachable:
                self.unreachable.append(gateway)
        request, response = self._method.page_token
        token = getattr(page, response)
        # A position of events names the last one; whether there are more is a field of its own.
        more = page.more if hasattr(page, "more") else bool(token)
        asked[request] = token
        return bool(more)

    def _items(self, page: P) -> list[T]:
        return list(getattr(page, self._method.items))

    def _end(self) -> None:
        if self.unreachable:
            names = ", ".join(str(getattr(g, "gateway", g)) for g in self.unreachable)
            message = f"{len(self.unreachable)} gateway(s) did not answer: {names}"
            warnings.warn(message, PartialResult, stacklevel=3)


class Pager(_Pages[T, P]):
    """A list. Iterating over it yields all items and gets pages as needed. Each iteration begins again."""

    def __init__(self, caller: Caller, method: Method[Any, P], given: Mapping[str, Any], deadline: float | None) -> None:
        super().__init__(method, given)
        self._caller, self._deadline = caller, deadline

    def pages(self) -> Iterator[P]:
        """Yields whole responses, with their tokens and further fields."""
        self._begin()
        asked = dict(self._given)
        while True:
            page = self._caller.unary(self._method, asked, self._deadline)
            more = self._next(page, asked)
            yield page
            if not more:
                return self._end()

    def __iter__(self) -> Iterator[T]:
        for page in self.pages():
            yield from self._items(page)


class AsyncPager(_Pages[T, P]):
    """A list. Iterating over it yields all items and gets pages as needed. Each iteration begins again."""

    def __init__(
        self, caller: AsyncCaller, method: Method[Any, P], given: Mapping[str, Any], deadline: float | None
    ) -> None:
        super().__init__(method, given)
        self._caller, self._deadline = caller, deadline

    async def pages(self) -> AsyncIterator[P]:
        """Yields whole responses, with their tokens and further fields."""
        self._begin()
        asked = dict(self._given)
        while True:
            page = await self._caller.unary(self._method, asked, self._deadline)
            more = self._next(page, asked)
            yield page
            if not more:
                self._end()
                return

    async def __aiter__(self) -> AsyncIterator[T]:
        async for page in self.pages():
            for item in self._items(page):
                yield item
