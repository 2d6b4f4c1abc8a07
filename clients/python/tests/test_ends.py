"""How calls, watches and sessions end: with their client, with their token, and with a folder that cannot be written."""

from __future__ import annotations

import asyncio
import datetime
import fcntl
import pathlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

import shoreguard_client as sg
from shoreguard_client import _errors, _methods, contexts, operations, v1
from shoreguard_client.contexts import Contexts, Session
from shoreguard_client.events import AsyncWatch, Watch

PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
PROD = "https://prod.example.com"
# Only what hangs takes so long.
SECONDS = 60


class _Events(grpc.GenericRpcHandler):  # type: ignore[misc]
    """A server whose watches send one event and then wait."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def service(self, details: Any) -> Any:
        if not details.method.endswith("/WatchEvents"):
            return None

        def watch(_request: Any, _context: Any) -> Iterator[v1.WatchEventsResponse]:
            yield v1.WatchEventsResponse(sequence=7, event=v1.Event(sequence=7, name="group.created"))
            self.ended.wait(SECONDS)

        return grpc.unary_stream_rpc_method_handler(
            watch,
            request_deserializer=v1.WatchEventsRequest.FromString,
            response_serializer=v1.WatchEventsResponse.SerializeToString,
        )


@pytest.fixture
def endpoint() -> Iterator[str]:
    events = _Events()
    server = grpc.server(ThreadPoolExecutor(4), handlers=[events])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}"
    events.ended.set()
    server.stop(None)


def test_a_closed_client_makes_no_calls() -> None:
    client = sg.Client("http://127.0.0.1:9", key="")
    client.close()
    with pytest.raises(sg.Cancelled, match="closed"):
        client.gateways.get_gateway(gateway="dev-0-1")
    with pytest.raises(sg.Cancelled, match="closed"):
        list(client.events.watch_events(after_sequence=0))

    async def main() -> None:
        asynchronous = sg.AsyncClient("http://127.0.0.1:9", key="")
        await asynchronous.close()
        with pytest.raises(sg.Cancelled, match="closed"):
            await asynchronous.gateways.get_gateway(gateway="dev-0-1")

    asyncio.run(main())


def test_a_watch_ends_with_its_client(endpoint: str) -> None:
    client = sg.Client(endpoint, key="")
    begun, seen = threading.Event(), []

    def read() -> None:
        try:
            for event in client.events.watch_events(after_sequence=0):
                seen.append(event.name)
                begun.set()
        except sg.ShoreguardError as ended:
            seen.append(type(ended).__name__)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert begun.wait(SECONDS)
    client.close()
    reader.join(SECONDS)
    assert not reader.is_alive() and seen[0] == "group.created"
    assert issubclass(getattr(_errors, seen[-1]), sg.Cancelled)

    async def main() -> None:
        asynchronous = sg.AsyncClient(endpoint, key="")
        begun = asyncio.Event()

        async def read() -> None:
            async for _event in asynchronous.events.watch_events(after_sequence=0):
                begun.set()

        reader = asyncio.create_task(read())
        await begun.wait()
        await asynchronous.close()
        with pytest.raises(sg.Cancelled, match="closed"):
            await reader
        canceled = asyncio.create_task(sg.AsyncClient(endpoint, key="").gateways.get_gateway(gateway="dev-0-1"))
        await asyncio.sleep(0)
        canceled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await canceled

    asyncio.run(main())


class _Turns:
    """A caller whose streams yield messages and then fail, in turns. The token of a stream expires while it is open."""

    def __init__(self, make: Callable[[int], Any], *turns: tuple[int, grpc.StatusCode]) -> None:
        self.make, self.turns, self.asked = make, list(turns), []  # type: ignore[var-annotated]

    def _next(self, given: Any, opened: Any) -> tuple[Any, sg.ShoreguardError]:
        self.asked.append(given)
        number, code = self.turns.pop(0)
        if number and opened is not None:
            opened()
        return [self.make(number)] if number else [], _errors.error(code, "no longer valid", b"")

    def stream(self, _method: Any, given: Any, _deadline: Any, opened: Any = None) -> Any:
        messages, error = self._next(given, opened)
        yield from messages
        raise error


class _AsyncTurns(_Turns):
    async def stream(self, _method: Any, given: Any, _deadline: Any, opened: Any = None) -> Any:
        messages, error = self._next(given, opened)
        for message in messages:
            yield message
        raise error


def _event(number: int) -> v1.WatchEventsResponse:
    return v1.WatchEventsResponse(sequence=number, event=v1.Event(sequence=number))


EXPIRED = grpc.StatusCode.UNAUTHENTICATED


def test_a_watch_resumes_when_the_token_of_its_session_expires() -> None:
    caller: Any = _Turns(_event, (7, EXPIRED), (8, EXPIRED), (0, EXPIRED))
    watch: Any = Watch(caller, _methods.EventService_WatchEvents, {"after_sequence": 0}, None)
    seen = []
    with pytest.raises(sg.Unauthenticated):
        for event in watch:
            seen.append(event.sequence)
    # The last attempt is refused at once: the session has ended.
    assert seen == [7, 8] and [asked["after_sequence"] for asked in caller.asked] == [0, 7, 8]

    async def main() -> None:
        caller: Any = _AsyncTurns(_event, (7, EXPIRED), (0, EXPIRED))
        watch: Any = AsyncWatch(caller, _methods.EventService_WatchEvents, {"after_sequence": 0}, None)
        with pytest.raises(sg.Unauthenticated):
            assert [event.sequence async for event in watch] == [7]
        assert [asked["after_sequence"] for asked in caller.asked] == [0, 7]

    asyncio.run(main())


def test_a_watch_that_is_refused_at_once_does_not_resume() -> None:
    caller: Any = _Turns(_event, (0, EXPIRED))
    with pytest.raises(sg.Unauthenticated):
        list(Watch(caller, _methods.EventService_WatchEvents, {"after_sequence": 0}, None))
    assert len(caller.asked) == 1


def test_a_wait_continues_when_the_token_of_its_session_expires() -> None:
    def state(number: int) -> v1.WatchOperationResponse:
        status = v1.OPERATION_STATUS_SUCCEEDED if number == 2 else v1.OPERATION_STATUS_RUNNING
        return v1.WatchOperationResponse(operation=v1.Operation(id="7", status=status))

    caller: Any = _Turns(state, (1, EXPIRED), (2, EXPIRED))
    assert sg.Operation(caller, v1.CreateSandboxResponse()).wait(timeout=SECONDS).id == "7"
    asynchronous: Any = _AsyncTurns(state, (1, EXPIRED), (2, EXPIRED))
    waited = sg.AsyncOperation(asynchronous, v1.CreateSandboxResponse()).wait(timeout=SECONDS)
    assert asyncio.run(waited).id == "7"
    refused: Any = _Turns(state, (0, EXPIRED))
    with pytest.raises(sg.Unauthenticated):
        sg.Operation(refused, v1.CreateSandboxResponse()).wait(timeout=SECONDS)


def test_an_operation_fails_with_a_code_of_a_later_release() -> None:
    failed = sg.OperationFailed(v1.Operation(id="7", error_code=999, error_message="it is so"))  # type: ignore[arg-type]
    assert failed.reason == "999" and "[999]" in str(failed)
    assert operations._name(v1.OperationStatus, 999) == "999"


def _unused(_token: str) -> v1.RefreshSessionResponse:
    raise AssertionError("the refresh token was used, although its successor cannot be stored")


def test_a_refresh_token_is_kept_if_its_successor_cannot_be_stored(
    home: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Contexts().store("prod", PROD, {"session_token": "old", "expire_time": PAST, "refresh_token": "r-old"})

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(contexts.tempfile, "mkstemp", refuse)
    session = Session("old", PAST, "r-old", refresh=_unused, stored=(Contexts(), "prod", PROD))
    with pytest.raises(sg.ConfigurationError, match="credentials.toml cannot be written"):
        session.token()


def test_a_lock_that_is_not_released_is_an_error(home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Contexts().store("prod", PROD, {"session_token": "old", "expire_time": PAST, "refresh_token": "r-old"})
    monkeypatch.setattr(contexts, "LOCK_MAX", 0.1)
    session = Session("old", PAST, "r-old", refresh=_unused, stored=(Contexts(), "prod", PROD))
    with open(home / "credentials.lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(sg.ConfigurationError, match="credentials.lock cannot be locked"):
            session.token()


def test_no_home_folder_is_needed(home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME")

    def no_home() -> pathlib.Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(pathlib.Path, "home", no_home)
    sg.Client("http://127.0.0.1:9", key="sg_x").close()
    with sg.Client() as client:
        assert client._target.address == "127.0.0.1:8443"
    with pytest.raises(sg.ConfigurationError, match="`prod` does not exist"):
        sg.Client(context="prod")


def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as that of a file with a line break at its end."""
    for key in ("sg_secret\n", "sg_secret sg_secret", "sg_sécret"):
        with pytest.raises(sg.ConfigurationError, match="the credential has") as raised:
            sg.Client("http://127.0.0.1:9", key=key)
        assert key.strip() not in str(raised.value)
    monkeypatch.setenv("SHOREGUARD_KEY", "sg_secret\t")
    with pytest.raises(sg.ConfigurationError, match="the credential has"):
        sg.Client("http://127.0.0.1:9")


@pytest.mark.parametrize("url", ["http://[::1", "https://:secret@h", "https://u:secret@h:bad"])
def test_a_password_in_an_endpoint_is_not_shown(url: str) -> None:
    with pytest.raises(sg.ConfigurationError, match="endpoint") as raised:
        sg.Client(url, key="")
    assert "secret" not in str(raised.value)
