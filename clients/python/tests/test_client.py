"""What the table of cases cannot say: errors of every reason, contexts, sessions, the proxied API."""

from __future__ import annotations

import asyncio
import datetime
import logging
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import grpc
import pytest

import shoreguard_client as sg
from shoreguard_client import _errors, v1
from shoreguard_client.contexts import Contexts, Key, Session

NOW = datetime.datetime.now(datetime.timezone.utc)
PROD = "https://prod.example.com"
REASONS = [name.removeprefix("ERROR_REASON_") for name in v1.ErrorReason.keys() if not name.endswith("_UNSPECIFIED")]


def test_every_reason_is_typed(bench: Any) -> None:
    with sg.Client(bench.endpoint, key=bench.key) as client:
        for reason in REASONS:
            bench.faults({"method": "GetGateway", "fault": "fail", "code": "FAILED_PRECONDITION", "reason": reason})
            with pytest.raises(sg.ShoreguardError) as raised:
                client.gateways.get_gateway(gateway="dev-0-1")
            assert raised.value.reason is sg.Reason[reason]
            assert f"[{reason}]" in str(raised.value)
    assert [str(reason) for reason in sg.Reason] == REASONS


def test_every_code_has_a_class() -> None:
    for code in grpc.StatusCode:
        if code is not grpc.StatusCode.OK:
            assert type(_errors.error(code, "", b"")).__name__ == code.name.title().replace("_", "")
    assert type(_errors.error(grpc.StatusCode.INTERNAL, "cut", b"\xff\xff")) is sg.Internal


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("name", {"name": 3}),
        ("labels", {"labels": "env=dev"}),
        ("labels", {"labels": {"env": 3}}),
        ("auth_mode", {"auth_mode": "NO_SUCH_MODE"}),
        ("name", {"name": "\ud800"}),
    ],
)
def test_a_value_that_does_not_fit_names_its_field(field: str, given: dict[str, Any]) -> None:
    with sg.Client("http://127.0.0.1:9", key="") as client, pytest.raises(sg.InvalidArgument) as raised:
        client.gateways.register_gateway(**given)
    assert list(raised.value.fields) == [field] and raised.value.reason is sg.Reason.INVALID_FIELD


def test_a_time_without_a_zone_is_refused() -> None:
    with sg.Client("http://127.0.0.1:9", key="") as client, pytest.raises(sg.InvalidArgument, match="time zone"):
        list(client.audit.list_audit_entries(since_time=datetime.datetime(2026, 1, 1)))


def test_times_spans_and_filters_are_those_of_python(bench: Any) -> None:
    bench.faults()
    with sg.Client(bench.endpoint, key=bench.key) as client:
        operation = client.sandboxes.create_sandbox(gateway="dev-0-0", name=f"times-{os.urandom(4).hex()}")
        waited = client.operations.wait_operation(operation=operation.id, timeout=datetime.timedelta(seconds=20))
        assert waited.done and waited.wait().sandbox == operation.wait().sandbox
        entries = list(client.audit.list_audit_entries(since_time=NOW, action="sandbox.create", page_size=1))
        assert entries and all(entry.action == "sandbox.create" for entry in entries)


@pytest.mark.parametrize(
    "url", ["ftp://x", "example.com:443", "http://", "http://h:99999", "https://h/path", "https://u:secret@h"]
)
def test_an_unusable_endpoint_is_a_clear_error(url: str) -> None:
    with pytest.raises(sg.ConfigurationError) as raised:
        sg.Client(url, key="")
    assert "endpoint" in str(raised.value) and "secret" not in str(raised.value)


def test_a_credential_is_not_sent_without_tls(home: pathlib.Path) -> None:
    with pytest.raises(sg.ConfigurationError, match="TLS"):
        sg.Client("http://shoreguard.example.com", key="sg_x")
    with sg.Client("http://shoreguard.example.com") as client, pytest.raises(sg.ConfigurationError, match="TLS"):
        client.login("ana@example.com", "a password of theirs")
    for endpoint in ("http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1", "https://shoreguard.example.com"):
        sg.Client(endpoint, key="sg_x").close()


def test_the_server_is_found_by_argument_variable_context_and_default(
    home: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(*given: Any, **more: Any) -> tuple[str, str]:
        with sg.Client(*given, **more) as client:
            return client._target.address, client._caller.credential.token()

    assert found() == ("127.0.0.1:8443", "")
    (home / "contexts.toml").write_text(
        'current = "prod"\n[contexts.prod]\nendpoint = "https://prod.example.com"\ngateway = "eu"\n'
        '[contexts.test]\nendpoint = "http://127.0.0.1:7"\n'
    )
    (home / "credentials.toml").write_text('[contexts.prod]\nkey = "sg_prod"\n[contexts.test]\nkey = "sg_test"\n')
    (home / "credentials.toml").chmod(0o600)
    assert found() == ("prod.example.com:443", "sg_prod")
    with sg.Client() as client:
        assert client.gateway == "eu" and "sg_prod" not in repr(client) + repr(client._caller.credential)
    assert found(context="test") == ("127.0.0.1:7", "sg_test")
    # The credential of a context is not sent to another server.
    assert found("https://elsewhere.example.com") == ("elsewhere.example.com:443", "")
    # An endpoint that is given is that of the current context.
    assert found("https://prod.example.com/") == ("prod.example.com:443", "sg_prod")
    assert found("http://127.0.0.1:7") == ("127.0.0.1:7", "")
    monkeypatch.setenv("SHOREGUARD_ENDPOINT", PROD)
    assert found() == ("prod.example.com:443", "sg_prod")
    monkeypatch.delenv("SHOREGUARD_ENDPOINT")
    monkeypatch.setenv("SHOREGUARD_KEY", "sg_variable")
    assert found() == ("prod.example.com:443", "sg_variable")
    assert found(context="test") == ("127.0.0.1:7", "sg_test")
    monkeypatch.setenv("SHOREGUARD_ENDPOINT", "http://127.0.0.1:8")
    assert found() == ("127.0.0.1:8", "sg_variable")
    assert found("http://127.0.0.1:9", key="sg_argument") == ("127.0.0.1:9", "sg_argument")
    monkeypatch.setenv("SHOREGUARD_KEY", "")
    assert found() == ("127.0.0.1:8", "")
    with pytest.raises(sg.ConfigurationError, match="`nope` does not exist"):
        sg.Client(context="nope")
    (home / "credentials.toml").chmod(0o644)
    with pytest.raises(sg.ConfigurationError, match="chmod 600"):
        sg.Client(context="test")
    (home / "contexts.toml").write_text("current = [")
    assert found("http://127.0.0.1:9") == ("127.0.0.1:9", "")
    with pytest.raises(sg.ConfigurationError, match="contexts.toml"):
        sg.Client(context="test")


def answer(token: str, seconds: int) -> v1.RefreshSessionResponse:
    made = v1.RefreshSessionResponse(session_token=token, refresh_token=f"r-{token}")
    made.expire_time.FromDatetime(NOW.replace(tzinfo=None) + datetime.timedelta(seconds=seconds))
    return made


def test_a_session_refreshes_a_minute_before_it_ends() -> None:
    used: list[str] = []

    def refresh(token: str) -> v1.RefreshSessionResponse:
        used.append(token)
        return answer("second", 900)

    now = datetime.datetime.now(datetime.timezone.utc)
    fresh = Session("first", now + datetime.timedelta(seconds=90), "r-first", refresh=refresh)
    assert fresh.token() == "first" and not used
    late = Session("first", now + datetime.timedelta(seconds=50), "r-first", refresh=refresh)
    assert [late.token(), late.token()] == ["second", "second"] and used == ["r-first"]


def test_many_programs_refresh_a_stored_session_once(home: pathlib.Path) -> None:
    Contexts().store("prod", PROD, {"session_token": "old", "expire_time": NOW, "refresh_token": "r-old"})
    used: list[str] = []

    def refresh(token: str) -> v1.RefreshSessionResponse:
        used.append(token)
        time.sleep(0.2)  # Without the lock, others would refresh in this time.
        return answer("new", 900)

    # Each has a lock of its own, as a program has: only the file keeps them apart.
    sessions = [Session("old", NOW, "r-old", refresh=refresh, stored=(Contexts(), "prod", PROD)) for _ in range(20)]
    tokens: list[str] = []
    threads = [threading.Thread(target=lambda s=s: tokens.append(s.token())) for s in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tokens == ["new"] * 20 and used == ["r-old"]
    assert (home / "credentials.toml").stat().st_mode & 0o777 == 0o600
    stored = Contexts().credential("prod", PROD)
    assert stored["refresh_token"] == "r-new" and stored["session_token"] == "new" and stored["endpoint"] == PROD
    assert [path.name for path in home.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("has_endpoint", [True, False])
def test_a_session_of_another_server_is_not_used(home: pathlib.Path, has_endpoint: bool) -> None:
    """The name of a context is given to another server while a program runs."""
    used: list[str] = []

    def refresh(token: str) -> v1.RefreshSessionResponse:
        used.append(token)
        return answer("old-2", -900)

    def write(endpoint: str, token: str) -> None:
        (home / "contexts.toml").write_text(f'current = "prod"\n[contexts.prod]\nendpoint = "{endpoint}"\n')
        written = f'endpoint = "{endpoint}"\n' if has_endpoint else ""
        (home / "credentials.toml").write_text(
            f'[contexts.prod]\nsession_token = "{token}"\nexpire_time = 2020-01-01T00:00:00Z\n'
            f'refresh_token = "r-{token}"\n{written}'
        )
        (home / "credentials.toml").chmod(0o600)

    write(PROD, "old")
    with sg.Client() as client:
        session = client._caller.credential
        assert isinstance(session, Session)
        session._refresh = refresh
        assert session.token() == "old-2" and used == ["r-old"]
        assert Contexts().credential("prod", PROD)["endpoint"] == PROD
        write("https://new.example.com", "new")
        with pytest.raises(sg.ConfigurationError, match="has ended"):
            session.token()
        assert used == ["r-old"] and 'session_token = "new"' in (home / "credentials.toml").read_text()
    # A credential that was stored for another server is not used from the start either.
    (home / "contexts.toml").write_text(f'current = "prod"\n[contexts.prod]\nendpoint = "{PROD}"\n')
    with sg.Client() as client:
        assert isinstance(client._caller.credential, Key if has_endpoint else Session)


def test_a_user_logs_in_and_the_session_is_renewed_at_the_server(bench: Any) -> None:
    bench.faults()
    user = bench.facts["user"]
    with sg.Client(bench.endpoint, key="") as client:
        first = client.login(user["email"], user["password"]).refresh_token
        assert client.auth.get_current_identity().actor == user["email"]
        session = client._caller.credential
        assert isinstance(session, Session)
        session._expires = NOW
        assert client.auth.get_current_identity().actor == user["email"]
        assert session.ready() and session._refresh_token != first

    async def main() -> None:
        async with sg.AsyncClient(bench.endpoint, key="") as client:
            await client.login(user["email"], user["password"])
            client._caller.credential._expires = NOW  # type: ignore[attr-defined]
            assert (await client.auth.get_current_identity()).actor == user["email"]

    asyncio.run(main())


def test_nothing_secret_is_logged_or_shown(bench: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bench.faults({"method": "GetGateway", "fault": "fail", "code": "UNAVAILABLE", "times": 2})
    with sg.Client(bench.endpoint, key=bench.key) as client:
        client.gateways.get_gateway(gateway="dev-0-1")
        shown = repr(client) + repr(vars(client)) + repr(Key(bench.key))
    assert "GetGateway failed with UNAVAILABLE" in caplog.text
    assert bench.key not in caplog.text + shown


def test_a_partial_list_can_be_an_error(bench: Any) -> None:
    bench.faults()
    with sg.Client(bench.endpoint, key=bench.key) as client:
        gone = f"gone-{os.urandom(4).hex()}"
        client.gateways.register_gateway(name=gone, endpoint="127.0.0.1:9", scheme=v1.GATEWAY_SCHEME_HTTP)
        with pytest.warns(sg.PartialResult, match=gone):
            list(client.sandboxes.list_sandboxes())
        client.gateways.unregister_gateway(gateway=gone)


def test_pages_show_tokens_and_a_list_begins_again(bench: Any) -> None:
    bench.faults()
    with sg.Client(bench.endpoint, key=bench.key) as client:
        pager = client.gateways.list_gateways(page_size=1, label_selector="env=dev")
        pages = list(pager.pages())
        assert [len(page.gateways) for page in pages] == [1, 1] and pages[0].next_page_token
        assert [g.name for g in pager] == [g.name for g in pager] == ["dev-0-0", "dev-0-1"]
        events = [e.sequence for e in client.events.list_events(page_size=2)]
        assert events == list(range(1, len(events) + 1)) and len(events) > 2


@pytest.mark.parametrize("kind", [sg.Operation, sg.AsyncOperation])
def test_progress_is_reported_when_percent_or_message_change(kind: Any) -> None:
    """A stream repeats a state after it was lost."""
    seen: list[tuple[int, str]] = []
    handle = kind(None, v1.CreateSandboxResponse())
    for percent, message in [(0, ""), (10, "a"), (10, "a"), (10, "b"), (50, "b"), (50, "b")]:
        state = v1.Operation(progress_percent=percent, progress_message=message)
        handle._update(state, lambda o: seen.append((o.progress_percent, o.progress_message)))
    assert seen == [(10, "a"), (10, "b"), (50, "b")]


def test_an_operation_is_canceled_on_request(bench: Any) -> None:
    bench.faults()
    with sg.Client(bench.endpoint, key=bench.key) as client:
        operation = client.sandboxes.start_exec_sandbox(gateway="dev-0-1", sandbox="coder", command=["sleep", "60"])
        operation.cancel()
        with pytest.raises(sg.OperationFailed) as raised:
            operation.wait(timeout=30)
        assert raised.value.reason == "CANCELLED" and raised.value.operation.id == operation.id


def test_a_command_runs_and_an_sbom_is_uploaded(bench: Any) -> None:
    bench.faults()
    with sg.Client(bench.endpoint, key=bench.key) as client:
        start = v1.ExecSandboxRequest(gateway="dev-0-1", sandbox="coder", command=["echo", "hello"])
        answers = list(client.sandboxes.exec_sandbox([start]))
        assert b"".join(a.stdout for a in answers) == b"hello\n" and answers[-1].exit_code == 0
        document = b'{"bomFormat": "CycloneDX", "specVersion": "1.5", "components": []}'
        head = v1.UploadSbomRequest(gateway="dev-0-1", sandbox="coder")
        done = client.sboms.upload_sbom([head, v1.UploadSbomRequest(chunk=document)])
        assert done.sbom.sandbox == "coder"
        chunks = client.sboms.download_sbom(gateway="dev-0-1", sandbox="coder")
        assert b"".join(c.chunk for c in chunks) == document


def test_many_calls_at_once(bench: Any) -> None:
    bench.faults()

    async def main() -> list[str]:
        async with sg.AsyncClient(bench.endpoint, key=bench.key) as client:
            found = await asyncio.gather(*(client.gateways.get_gateway(gateway="dev-0-1") for _ in range(50)))
            return [answer.gateway.name for answer in found]

    assert asyncio.run(main()) == ["dev-0-1"] * 50


def test_the_proxied_api_is_reached_through_a_channel(bench: Any) -> None:
    stock = os.environ.get("OPENSHELL_SDK")
    if not stock:
        pytest.skip("the stock SDK runs with the newest protobuf only")
    bench.faults()
    sys.path.append(stock)
    from openshell._proto import openshell_pb2, openshell_pb2_grpc  # type: ignore[import-not-found]
    from openshell.sandbox import SandboxTemplateClient  # type: ignore[import-not-found]

    with sg.Client(bench.endpoint, key=bench.key) as client:
        channel = client.openshell("dev-0-1")
        stub = openshell_pb2_grpc.OpenShellStub(channel)
        assert stub.GetSandbox(openshell_pb2.GetSandboxRequest(name="coder")).sandbox
        SandboxTemplateClient(channel)
        # Without a name the server selects the only gateway that the caller sees, and there are two.
        with pytest.raises(grpc.RpcError) as raised:
            openshell_pb2_grpc.OpenShellStub(client.openshell()).GetSandbox(openshell_pb2.GetSandboxRequest(name="coder"))
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    async def main() -> None:
        async with sg.AsyncClient(bench.endpoint, key=bench.key) as client:
            stub = openshell_pb2_grpc.OpenShellStub(client.openshell("dev-0-1"))
            request = openshell_pb2.GetSandboxRequest(name="coder")
            assert (await stub.GetSandbox(request)).sandbox

    asyncio.run(main())


def test_closed_input_and_interrupts_do_not_hang(bench: Any) -> None:
    """A watch in a program ends with the program."""
    bench.faults()
    code = (
        "import signal, shoreguard_client as sg\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # Programs of a background job ignore it.\n"
        "with sg.Client() as c:\n    [None for _ in c.events.watch_events(after_sequence=-1)]\n"
    )
    given = {**os.environ, "SHOREGUARD_ENDPOINT": bench.endpoint, "SHOREGUARD_KEY": bench.key}
    program = subprocess.Popen([sys.executable, "-c", code], env=given, stderr=subprocess.PIPE, text=True)
    try:
        while bench.calls("WatchEvents") == 0:
            assert program.poll() is None, program.communicate()
            time.sleep(0.05)
        program.send_signal(signal.SIGINT)
        _, shown = program.communicate(timeout=60)
    finally:
        program.kill()
    assert "KeyboardInterrupt" in shown
