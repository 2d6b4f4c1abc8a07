"""A server behind a proxy that injects faults, for tests of clients in any language.

    python -m shoreguard_testing.bench [--binary target/debug/shoreguard]

It prints one line of JSON and serves until its standard input ends, or SIGTERM:

    endpoint   URL of the proxy, for clients
    direct     URL of the server itself
    key        API key of an admin, which a restart keeps
    user       `email` and `password` of an admin who is a user
    gateways   the simulated gateways: `dev-0-0` and `dev-0-1`
    control    URL of the control, see below

The control speaks HTTP with JSON:

    PUT  /faults   replaces the faults by a list of them, and forgets the counts. Waits for the end of a restart
    GET  /calls    returns how many calls of each method have arrived, by the name of the method
    POST /restart  stops the server and starts it again after `away_seconds` (0.3). Answers when it serves, or at once if
                   `wait` is false.

A fault applies to the next `times` (1) calls of a `method` (its name, such as `GetGateway`):

    {"fault": "fail", "code": "UNAVAILABLE", ...}   The call does not reach the server, and gets this status: `message`,
                                                    `reason`, `metadata`, `fields`, `retry_after_seconds`
    {"fault": "lose"}                               The server carries the call out; the response is lost (UNAVAILABLE)
    {"fault": "cut", "after": N}                    The stream breaks off after N messages (UNAVAILABLE). Applies to a
                                                    stream that the server has accepted
    {"fault": "hang"}                               There is no response
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc

from . import START_SECONDS, STOP_SECONDS, Server, StartFailed, binary, server, stop
from .serving import Serving

EMAIL, PASSWORD = "ana@example.com", "a password of theirs"
FAULTS = ("fail", "lose", "cut", "hang")
# Headers that gRPC writes itself.
OWN = ("user-agent", "grpc-", "content-type", "te", "date")
# Calls that the proxy forwards at once, each with a thread of its own.
CALLS_AT_ONCE = 256
# More seconds than this are no deadline: grpcio's server gives a call without one the greatest time.
NO_DEADLINE = 1e6


class Faults:
    """The faults that are due, and the calls that have arrived."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due: list[dict[str, Any]] = []
        self._calls: Counter[str] = Counter()

    def replace(self, due: list[dict[str, Any]]) -> None:
        for fault in due:
            if fault.get("fault") not in FAULTS or not fault.get("method"):
                raise ValueError(f"a fault needs `method` and `fault`, one of {', '.join(FAULTS)}: {fault}")
        with self._lock:
            self._due = [{"times": 1, **fault} for fault in due]
            self._calls.clear()

    def next(self, method: str) -> dict[str, Any] | None:
        with self._lock:
            self._calls[method] += 1
            for fault in self._due:
                if fault["method"] == method and fault["times"] > 0:
                    fault["times"] -= 1
                    return fault
            return None

    def again(self, fault: dict[str, Any]) -> None:
        """Makes a fault due again: the server has refused the call that it was for."""
        with self._lock:
            fault["times"] += 1

    def calls(self) -> dict[str, int]:
        with self._lock:
            return dict(self._calls)


def _varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes((number & 0x7F | 0x80,))
        number >>= 7
    return out + bytes((number,))


def _field(number: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    value = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def details(code: int, fault: dict[str, Any]) -> bytes:
    """Encodes google.rpc.Status. By hand, since the bench must not depend on a version of protobuf."""
    found: list[tuple[str, bytes]] = []
    if fault.get("reason"):
        facts = fault.get("metadata", {}).items()
        pairs = b"".join(_field(3, _field(1, key) + _field(2, str(value))) for key, value in facts)
        found.append(("ErrorInfo", _field(1, fault["reason"]) + _field(2, "shoreguard") + pairs))
    if "retry_after_seconds" in fault:
        seconds, rest = divmod(float(fault["retry_after_seconds"]), 1)
        found.append(("RetryInfo", _field(1, _field(1, int(seconds)) + _field(2, int(rest * 1e9)))))
    if fault.get("fields"):
        bad = b"".join(_field(1, _field(1, name) + _field(2, why)) for name, why in fault["fields"].items())
        found.append(("BadRequest", bad))
    anys = (_field(1, f"type.googleapis.com/google.rpc.{name}") + _field(2, value) for name, value in found)
    return _field(1, code) + _field(2, fault.get("message", "")) + b"".join(_field(3, a) for a in anys)


class Proxy(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Forwards every call as bytes, or lets it fail.

    With threads: the asyncio client of grpcio loses the status of a call that the server refuses before its request is
    sent.
    """

    def __init__(self, target: str, faults: Faults) -> None:
        options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 100)]
        options += [("grpc.enable_retries", 0), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(target, options=options)
        self._faults = faults

    def service(self, handler_call_details: Any) -> Any:
        path = handler_call_details.method

        def forward(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            fault = self._faults.next(path.rsplit("/", 1)[-1])
            kind = fault["fault"] if fault else ""
            if fault and kind == "fail":
                code = grpc.StatusCode[fault.get("code", "UNAVAILABLE")]
                encoded = details(code.value[0], fault)
                context.set_trailing_metadata((("grpc-status-details-bin", encoded), ("x-request-id", "of-the-bench")))
                context.abort(code, fault.get("message", ""))
            if kind == "hang":
                ended = threading.Event()
                if context.add_callback(ended.set):
                    ended.wait()
                return
            given = [(k, v) for k, v in context.invocation_metadata() if not k.startswith(OWN)]
            seconds = context.time_remaining()
            timeout = seconds if seconds is not None and seconds < NO_DEADLINE else None
            call = self._channel.stream_stream(path)(requests, timeout=timeout, metadata=given)
            if not context.add_callback(call.cancel):
                call.cancel()
            after, count = fault["after"] if fault and kind == "cut" else None, 0
            try:
                # A refusal has no headers of its own, only trailers.
                first = call.initial_metadata()
                if first and kind != "lose":
                    context.send_initial_metadata([(k, v) for k, v in first if not k.startswith(OWN)])
                if fault and after is not None and not first:
                    self._faults.again(fault)
                    after = None
                if after == 0:
                    context.abort(grpc.StatusCode.UNAVAILABLE, "the bench has cut the stream")
                for message in call:
                    if kind == "lose":
                        continue
                    yield message
                    count += 1
                    if count == after:
                        context.abort(grpc.StatusCode.UNAVAILABLE, "the bench has cut the stream")
                if kind == "lose":
                    context.abort(grpc.StatusCode.UNAVAILABLE, "the bench has lost the response")
                context.set_trailing_metadata(_own(call.trailing_metadata()))
            except grpc.RpcError as failed:
                error: Any = failed
                context.set_trailing_metadata(_own(error.trailing_metadata()))
                context.abort(error.code(), error.details() or "")
            finally:
                call.cancel()

        return grpc.stream_stream_rpc_method_handler(forward)


def _own(metadata: Any) -> tuple[tuple[str, str | bytes], ...]:
    keep = ("grpc-status-details-bin", "x-request-id")
    return tuple((key, value) for key, value in (metadata or ()) if key in keep)


class Restartable:
    """A server whose keys, data and address outlive a restart, in front of the simulated gateways of another one."""

    def __init__(self, program: pathlib.Path, folder: pathlib.Path, simulated: Server) -> None:
        settings = {
            # A busy machine makes calls slower and does not let them fail.
            "SHOREGUARD_DATABASE_ACQUIRE_TIMEOUT_SECONDS": "60",
            "SHOREGUARD_DATABASE_BUSY_TIMEOUT_MILLISECONDS": "60000",
            "SHOREGUARD_GATEWAYS_ALLOWED_NETWORKS": "127.0.0.0/8",
        }
        self._serving = Serving(program, folder, settings)
        self._serving.run("admin", "create-user", EMAIL, "--role", "admin", "--password-stdin", text=PASSWORD)
        made = self._serving.run("admin", "create-service-principal", "bench", "--role", "admin")
        self.key = next(word for word in made.split() if word.startswith("sg_"))
        self._serving.environment["SHOREGUARD_KEY"] = self.key
        self.restarting = threading.Lock()
        self._serving.start()
        # A restart keeps it.
        self.listen = self._serving.address
        try:
            for gateway in simulated.gateways:
                request = {"name": gateway.name, "endpoint": gateway.endpoint, "scheme": "GATEWAY_SCHEME_HTTP"}
                self._serving.run("call", "RegisterGateway", json.dumps(request | {"labels": {"env": "dev"}}))
        except BaseException:
            self.stop()
            raise

    def restart(self, away_seconds: float) -> threading.Thread:
        """Restarts the server in a thread, which it returns, after the end of an earlier restart."""

        def act() -> None:
            try:
                self._serving.stop()
                time.sleep(away_seconds)
                self._serving.start()
            finally:
                self.restarting.release()

        self.restarting.acquire()
        thread = threading.Thread(target=act)
        thread.start()
        return thread

    def stop(self) -> None:
        # A restart would start a server after this.
        with self.restarting:
            self._serving.stop()


def _control(faults: Faults, serve: Restartable) -> ThreadingHTTPServer:
    class Control(BaseHTTPRequestHandler):
        def answer(self, status: int, body: Any) -> None:
            encoded = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        def body(self) -> Any:
            return json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")

        def do_GET(self) -> None:
            self.answer(200, faults.calls()) if self.path == "/calls" else self.answer(404, {})

        def do_PUT(self) -> None:
            try:
                due = self.body()
                with serve.restarting:
                    faults.replace(due)
            except (ValueError, AttributeError) as wrong:
                return self.answer(400, {"error": str(wrong)})
            self.answer(200, {})

        def do_POST(self) -> None:
            asked = self.body()
            restart = serve.restart(float(asked.get("away_seconds", 0.3)))
            if asked.get("wait", True):
                restart.join()
            self.answer(200, {})

        def log_message(self, *_: Any) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Control)


class Bench:
    """A running bench."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts
        self.endpoint: str = facts["endpoint"]
        self.direct: str = facts["direct"]
        self.key: str = facts["key"]

    def __repr__(self) -> str:
        return f"<Bench {self.endpoint}>"

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            self.facts["control"] + path, method=method, data=None if body is None else json.dumps(body).encode()
        )
        with urllib.request.urlopen(request, timeout=START_SECONDS + STOP_SECONDS) as answer:
            return json.loads(answer.read())

    def faults(self, *due: dict[str, Any]) -> None:
        """Replaces the faults, and forgets the counts."""
        self._ask("PUT", "/faults", list(due))

    def calls(self, method: str) -> int:
        """Returns how many calls of a method have arrived since the faults were set."""
        return int(self._ask("GET", "/calls").get(method, 0))

    def restart(self, away_seconds: float = 0.3, wait: bool = True) -> None:
        """Restarts the server."""
        self._ask("POST", "/restart", {"away_seconds": away_seconds, "wait": wait})


@contextlib.contextmanager
def bench(program: pathlib.Path | None = None) -> Iterator[Bench]:
    """Runs a bench in a process of its own for the duration of the `with` block."""
    command = [sys.executable, "-m", "shoreguard_testing.bench", *(("--binary", str(program)) if program else ())]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdin is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise StartFailed("the bench did not start")
        yield Bench(json.loads(line))
    finally:
        # The end of its input stops it. A signal could interrupt it while it stops its servers.
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(3 * STOP_SECONDS)
        stop(process)


def _serve(target: str, faults: Faults, ready: Callable[[str], None], ends: queue.SimpleQueue[None]) -> None:
    # Clients send keepalives, which grpcio's server takes for abuse by default.
    options = [("grpc.max_receive_message_length", -1), ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000)]
    proxy = grpc.server(ThreadPoolExecutor(CALLS_AT_ONCE), handlers=(Proxy(target, faults),), options=options)
    port = proxy.add_insecure_port("127.0.0.1:0")
    proxy.start()
    ready(f"http://127.0.0.1:{port}")
    ends.get()
    proxy.stop(0).wait(STOP_SECONDS)


def main() -> None:
    arguments = argparse.ArgumentParser(prog="shoreguard_testing.bench", description="A server behind faults.")
    arguments.add_argument("--binary", type=pathlib.Path, help="the server's binary")
    program = arguments.parse_args().binary or binary()
    # Until the proxy serves, a signal ends the block like an error, which stops what has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with contextlib.ExitStack() as stack:
        simulated = stack.enter_context(server(program))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="shoreguard-bench-", ignore_cleanup_errors=True))
        serve = Restartable(program, pathlib.Path(folder), simulated)
        stack.callback(serve.stop)
        faults = Faults()
        control = _control(faults, serve)
        threading.Thread(target=control.serve_forever, daemon=True).start()

        def ready(endpoint: str) -> None:
            facts = {
                "endpoint": endpoint,
                "direct": f"http://{serve.listen}",
                "key": serve.key,
                "user": {"email": EMAIL, "password": PASSWORD},
                "gateways": [vars(g) for g in simulated.gateways],
                "control": f"http://127.0.0.1:{control.server_port}",
            }
            print(json.dumps(facts), flush=True)

        ends: queue.SimpleQueue[None] = queue.SimpleQueue()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ends.put(None))

        def wait_for_end() -> None:
            sys.stdin.read()
            ends.put(None)

        threading.Thread(target=wait_for_end, daemon=True).start()
        _serve(serve.listen, faults, ready, ends)
        # What follows stops the servers, and must not be interrupted.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    main()
