"""A real Shoreguard server with simulated gateways, for tests.

    with shoreguard_testing.server() as server:
        client = shoreguard_client.Client(server.endpoint, key=server.key)
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sysconfig
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

__all__ = ["Gateway", "Server", "StartFailed", "binary", "server"]

# Time to start, and to stop before the process is killed, in seconds. A server gives its calls 30 seconds to end.
START_SECONDS, STOP_SECONDS = 120.0, 60.0
# Characters of a log that an error shows.
LOG_CHARACTERS = 8_000


class StartFailed(RuntimeError):
    """The server did not start. The text has the end of its log."""


@dataclass(frozen=True)
class Gateway:
    """A simulated gateway."""

    name: str
    endpoint: str
    """Its own address, without Shoreguard."""
    generation: str
    key: str
    """An API key that is valid for this gateway only."""


@dataclass(frozen=True)
class Server:
    """A running server."""

    endpoint: str
    """Its URL: `SHOREGUARD_ENDPOINT`."""
    key: str
    """The API key of an admin: `SHOREGUARD_KEY`."""
    approver_key: str
    """The API key of an operator who is another person: it approves what the admin proposes."""
    gateways: tuple[Gateway, ...]
    metrics: str
    """Address of the metrics."""
    process: subprocess.Popen[str]
    log: pathlib.Path

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables with which clients and the command line find the server."""
        return {"SHOREGUARD_ENDPOINT": self.endpoint, "SHOREGUARD_KEY": self.key}

    def __repr__(self) -> str:
        return f"<Server {self.endpoint}>"


def binary() -> pathlib.Path:
    """Returns the server's binary: `TEST_SHOREGUARD_BIN`, that of this wheel, or that on `PATH`."""
    named = os.environ.get("TEST_SHOREGUARD_BIN")
    installed = pathlib.Path(sysconfig.get_path("scripts")) / "shoreguard"
    found = named or (installed if installed.is_file() else shutil.which("shoreguard"))
    if not found:
        raise StartFailed("there is no `shoreguard` here: install the wheel shoreguard-testing, or set TEST_SHOREGUARD_BIN")
    return pathlib.Path(found)


def environment() -> dict[str, str]:
    """Returns the environment of a server: without settings of other servers and clients."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SHOREGUARD_")}


@contextlib.contextmanager
def server(program: str | os.PathLike[str] | None = None) -> Iterator[Server]:
    """Runs a server on a free port for the duration of the `with` block."""
    with tempfile.TemporaryDirectory(prefix="shoreguard-testing-", ignore_cleanup_errors=True) as folder:
        log = pathlib.Path(folder) / "server.log"
        command = [os.fspath(program or binary()), "dev", "--json", "--data", f"{folder}/data", "--listen", "127.0.0.1:0"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
            )
        try:
            yield _read(process, log)
        finally:
            stop(process)


def _read(process: subprocess.Popen[str], log: pathlib.Path) -> Server:
    # A server without output is killed after this time, which ends the wait for its line.
    silence = threading.Timer(START_SECONDS, process.kill)
    silence.daemon = True
    silence.start()
    assert process.stdout is not None
    line = process.stdout.readline()
    silence.cancel()
    try:
        facts = json.loads(line)
        gateways = tuple(Gateway(**gateway) for gateway in facts["gateways"])
        keys = facts["admin_key"], facts["approver_key"]
        return Server(facts["public_url"], *keys, gateways, facts["metrics"], process, log)
    except (ValueError, KeyError, TypeError):
        process.kill()
        process.wait()
        command = " ".join(map(str, process.args))  # type: ignore[arg-type]
        raise StartFailed(f"`{command}` did not start:\n{tail(log)}") from None


def tail(log: pathlib.Path) -> str:
    """Returns the end of a log."""
    return log.read_text(errors="replace")[-LOG_CHARACTERS:]


def stop(process: subprocess.Popen[str]) -> int:
    """Stops a process that was started here. Returns its exit code, which is negative if it had to be killed."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
    if process.stdout is not None:
        process.stdout.close()
    return process.wait()
