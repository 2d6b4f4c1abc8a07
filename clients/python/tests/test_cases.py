"""Runs `clients/cases.json`, the table that all SDKs share, with the blocking and the asynchronous client."""

from __future__ import annotations

import asyncio
import json
import pathlib
import threading
import time
import uuid
import warnings
from typing import Any

import pytest
from google.protobuf import json_format

import shoreguard_client as sg
from shoreguard_client import _methods
from shoreguard_client._call import Method

TABLE = pathlib.Path(__file__).resolve().parents[2] / "cases.json"
CASES = json.loads(TABLE.read_text())["cases"]
METHODS = {
    m.path.removeprefix("/shoreguard.v1."): m for m in vars(_methods).values() if isinstance(m, Method)
}


def attribute(client: Any, call: str) -> Any:
    """Returns the method of the client for `Service/Method`."""
    service, name = call.split("/")
    found = next(s for s in vars(client).values() if type(s).__name__.removeprefix("Async") == service)
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
    return getattr(found, snake)


def arguments(call: str, request: dict[str, Any]) -> dict[str, Any]:
    """Returns the keyword arguments for a request in JSON."""
    message = json_format.ParseDict(request, METHODS[call].request())
    return {name: getattr(message, name) for name in request}


class Outcome:
    """What the user of an SDK has seen."""

    def __init__(self) -> None:
        self.response: Any = None
        self.items: list[Any] = []
        self.unreachable: list[str] = []
        self.progress: list[tuple[int, str]] = []
        self.error: sg.ShoreguardError | None = None
        self.seconds = 0.0
        self.warned = False


def run(client: sg.Client, case: dict[str, Any], request: dict[str, Any], disturb: Any) -> Outcome:
    """Runs a case with the blocking client."""
    out, began = Outcome(), time.monotonic()
    call, kind = case["call"], case.get("kind", "unary")
    function = attribute(client, call)
    given = arguments(call, request)
    try:
        if kind == "unary":
            out.response = function(**given, deadline=case.get("deadline_seconds"))
        elif kind == "pages":
            pager = function(**given)
            for item in pager:
                out.items.append(item)
            out.unreachable = [g.gateway for g in pager.unreachable]
        elif kind == "operation":
            operation = function(**given)
            note = lambda o: out.progress.append((o.progress_percent, o.progress_message))  # noqa: E731
            out.response = operation.wait(timeout=case.get("wait_seconds", 60), progress=note)
        else:
            for item in function(**given, deadline=60):
                out.items.append(item)
                disturb(len(out.items))
                if len(out.items) == case["take"]:
                    break
    except sg.ShoreguardError as error:
        out.error = error
    out.seconds = time.monotonic() - began
    return out


async def run_async(client: sg.AsyncClient, case: dict[str, Any], request: dict[str, Any], disturb: Any) -> Outcome:
    """Runs a case with the asynchronous client."""
    out, began = Outcome(), time.monotonic()
    call, kind = case["call"], case.get("kind", "unary")
    function = attribute(client, call)
    given = arguments(call, request)
    try:
        if kind == "unary":
            out.response = await function(**given, deadline=case.get("deadline_seconds"))
        elif kind == "pages":
            pager = function(**given)
            async for item in pager:
                out.items.append(item)
            out.unreachable = [g.gateway for g in pager.unreachable]
        elif kind == "operation":
            operation = await function(**given)
            note = lambda o: out.progress.append((o.progress_percent, o.progress_message))  # noqa: E731
            out.response = await operation.wait(timeout=case.get("wait_seconds", 60), progress=note)
        else:
            async for item in function(**given, deadline=60):
                out.items.append(item)
                await asyncio.to_thread(disturb, len(out.items))
                if len(out.items) == case["take"]:
                    break
    except sg.ShoreguardError as error:
        out.error = error
    out.seconds = time.monotonic() - began
    return out


def check_error(error: sg.ShoreguardError | None, expected: dict[str, Any]) -> None:
    assert error is not None, "it succeeded"
    assert error.code.name == expected["code"], error
    assert str(error.reason) == expected.get("reason", str(error.reason)), error
    assert expected.get("message", "") in error.message
    assert error.code.name in str(error) and error.message in str(error)
    if expected.get("reason"):
        assert expected["reason"] in str(error)
    for name in ("fields", "metadata"):
        for key, part in expected.get(name, {}).items():
            assert part in getattr(error, name)[key]
    if "resource" in expected:
        assert error.resource is not None and vars(error.resource) == expected["resource"]
    if "retry_after_seconds" in expected:
        assert error.retry_after == expected["retry_after_seconds"]
    if expected.get("request_id"):
        assert error.request_id and error.request_id in str(error)
    if "oldest" in expected:
        assert isinstance(error, sg.CursorExpired) and error.oldest == expected["oldest"]


def check(out: Outcome, expected: dict[str, Any], attempts: int) -> None:
    if "error" in expected:
        check_error(out.error, expected["error"])
    elif "operation_error" not in expected:
        assert out.error is None, out.error
    if "operation_error" in expected:
        assert isinstance(out.error, sg.OperationFailed) and out.error.reason == expected["operation_error"]["code"]
        assert expected["operation_error"]["message"] in str(out.error) and out.error.operation.id in str(out.error)
    if "response" in expected:
        shown = json_format.MessageToDict(out.response, preserving_proto_field_name=True)
        assert contains(shown, expected["response"]), shown
    if "attempts" in expected:
        # A busy server can answer UNAVAILABLE by itself, which adds attempts.
        assert attempts == expected["attempts"] or ("error" not in expected and attempts > expected["attempts"])
    if "seconds" in expected:
        least, most = expected["seconds"]
        assert least <= out.seconds <= most
    names = [getattr(item, "name", "") for item in out.items]
    if "items" in expected:
        assert names == expected["items"]
    for name in expected.get("items_contain", ()):
        assert name in names
    if "unreachable" in expected:
        assert set(expected["unreachable"]) <= set(out.unreachable) and out.warned
    if "operation" in expected:
        assert sg.v1.OperationStatus.Name(out.response.status) == expected["operation"]
    if expected.get("progress"):
        assert out.progress and all(a != b for a, b in zip(out.progress, out.progress[1:]))
    if expected.get("gapless"):
        first = out.items[0].sequence
        assert [item.sequence for item in out.items] == list(range(first, first + len(out.items)))


def contains(shown: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return all(key in shown and contains(shown[key], value) for key, value in part.items())
    return bool(shown == part)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("case", CASES, ids=[c["name"] for c in CASES])
def test_case(bench: Any, case: dict[str, Any], kind: str) -> None:
    unique = uuid.uuid4().hex[:8]
    filled = json.loads(json.dumps(case).replace("$UNIQUE", unique))
    bench.faults()
    with sg.Client(bench.endpoint, key=bench.key) as helper:
        setup = list(filled.get("setup", ()))
        request = dict(filled["request"])
        if filled.get("restart_after"):
            # Only the events of this case, so that the restart is in the middle of them.
            for number in range(filled["restart_after"]):
                made = {"name": f"s{number}-{unique}", "role": "ROLE_VIEWER"}
                setup.append({"call": "GroupService/CreateGroup", "request": made})
            newest = list(helper.events.list_events())[-1].sequence
            request["after_sequence"] = newest
        for step in setup:
            with_existing(helper, step)
        writers: list[threading.Thread] = []

        def disturb(count: int) -> None:
            if count != filled.get("restart_after"):
                return
            writers.append(threading.Thread(target=bench.restart))
            writers.append(threading.Thread(target=lambda: [with_existing(helper, step) for step in filled["then"]]))
            for act in writers:
                act.start()

        bench.faults(*filled.get("faults", ()))
        key = filled.get("key", bench.key)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            if kind == "sync":
                with sg.Client(bench.endpoint, key=key) as client:
                    out = run(client, filled, request, disturb)
            else:

                async def main() -> Outcome:
                    async with sg.AsyncClient(bench.endpoint, key=key) as client:
                        return await run_async(client, filled, request, disturb)

                out = asyncio.run(main())
        out.warned = any(issubclass(w.category, sg.PartialResult) for w in warned)
        for act in writers:
            act.join()
    check(out, filled["expect"], bench.calls(filled["call"].split("/")[1]))


def with_existing(client: sg.Client, step: dict[str, Any]) -> None:
    """Makes a call of a table, even while the server is restarted, however long that takes."""
    function = attribute(client, step["call"])
    until = time.monotonic() + 60
    while True:
        try:
            function(**arguments(step["call"], step["request"]))
        except sg.AlreadyExists:
            pass
        except sg.Unavailable:
            if time.monotonic() < until:
                continue
            raise
        return
