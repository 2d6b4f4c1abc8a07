"""How calls, watches and sessions end: with their client, with their token, and with a folder that cannot be written."""

from __future__ import annotations

import asyncio
import datetime
import fcntl
import os
import pathlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf import timestamp_pb2

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
        with pytest.raises(sg.ConfigurationError, match="credentials.lock cannot be locked: another program"):
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


def test_a_plain_connection_does_not_go_through_a_proxy(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The credential would be sent to it without TLS."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
        for name in ("http_proxy", "grpc_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        with sg.Client(endpoint, key="sg_secret") as client:
            assert next(iter(client.events.watch_events(after_sequence=0))).name == "group.created"
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()


def test_a_secret_is_not_sent_without_tls() -> None:
    client = sg.Client("http://shoreguard.example.com", key="")
    secrets: list[Callable[[], object]] = [
        lambda: client.login("ana@example.com", "secret"),
        lambda: client.auth.login(email="ana@example.com", password="secret"),
        lambda: client.auth.accept_invite(invite_token="secret", password="secret"),
        lambda: client.auth.refresh_session(refresh_token="secret"),
    ]
    for send in secrets:
        with pytest.raises(sg.ConfigurationError, match="without TLS") as raised:
            send()
        assert "secret\"" not in str(raised.value)
    client.close()


def test_files_that_others_can_change_are_not_used(home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They could name another server, or another CA."""
    file = home / "contexts.toml"
    file.write_text('current = "prod"\n[contexts.prod]\nendpoint = "https://prod.example.com"\n')
    for mode in (0o620, 0o602):
        file.chmod(mode)
        with pytest.raises(sg.ConfigurationError, match="can be written by other users"):
            sg.Client()
    file.chmod(0o644)
    sg.Client().close()
    monkeypatch.setattr(contexts.os, "geteuid", lambda: 1000)
    for owner, is_used in ((0, True), (1000, True), (1001, False)):
        about = os.stat_result((0o100600, 0, 0, 1, owner, 0, 0, 0, 0, 0))
        if is_used:
            contexts._check(file, about, *contexts.TRUSTED)
        else:
            with pytest.raises(sg.ConfigurationError, match="belongs to another user"):
                contexts._check(file, about, *contexts.TRUSTED)


def test_a_call_waits_for_a_refresh_within_its_deadline() -> None:
    begun, answered = threading.Event(), threading.Event()

    def refresh(_token: str) -> v1.RefreshSessionResponse:
        begun.set()
        answered.wait(SECONDS)
        later = timestamp_pb2.Timestamp(seconds=int(time.time()) + 900)
        return v1.RefreshSessionResponse(session_token="new", refresh_token="r-new", expire_time=later)

    session = Session("old", PAST, "r-old", refresh=refresh)
    with pytest.raises(sg.DeadlineExceeded, match="was not refreshed in time"):
        session.token(0.01)
    # The refresh continues, and its token is used.
    assert begun.wait(SECONDS)
    answered.set()
    assert session.token(SECONDS) == "new"


def test_a_wait_that_fails_ends_its_call() -> None:
    def state(_number: int) -> v1.WatchOperationResponse:
        return v1.WatchOperationResponse(operation=v1.Operation(id="7", progress_percent=5))

    class _Open(_Turns):
        ended = False

        def stream(self, *_: Any, **__: Any) -> Any:
            try:
                yield state(1)
            finally:
                self.ended = True

    caller: Any = _Open(state)

    def fail(_operation: v1.Operation) -> None:
        raise RuntimeError("of the caller")

    with pytest.raises(RuntimeError) as raised:
        sg.Operation(caller, v1.CreateSandboxResponse()).wait(timeout=SECONDS, progress=fail)
    assert caller.ended, raised


def test_a_channel_to_a_gateway_is_made_once() -> None:
    async def main() -> None:
        async with sg.AsyncClient("http://127.0.0.1:9", key="") as client:
            assert client.openshell("one") is client.openshell("one")
            assert client.openshell("one") is not client.openshell("two")
            async with client.openshell("one") as closed:
                pass
            assert client.openshell("one") is not closed
            assert client.openshell("one").get_state() is not grpc.ChannelConnectivity.SHUTDOWN

    asyncio.run(main())


def test_a_refresh_token_is_used_once_also_if_its_successor_cannot_be_stored(
    home: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Contexts().store("prod", PROD, {"session_token": "old", "expire_time": PAST, "refresh_token": "r-old"})
    used: list[str] = []

    def refresh(token: str) -> v1.RefreshSessionResponse:
        used.append(token)
        later = timestamp_pb2.Timestamp(seconds=int(time.time()) + 900)
        number = len(used)
        return v1.RefreshSessionResponse(session_token=f"s{number}", refresh_token=f"r{number}", expire_time=later)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    session = Session("old", PAST, "r-old", refresh=refresh, stored=(Contexts(), "prod", PROD))
    with monkeypatch.context() as full:
        full.setattr(contexts.os, "replace", refuse)
        with pytest.raises(sg.ConfigurationError, match="cannot be written"):
            session.token()
    assert session.token() == "s1"
    session._expires = PAST
    assert session.token() == "s2" and used == ["r-old", "r1"]
    assert Contexts().credential("prod", PROD)["refresh_token"] == "r2"
