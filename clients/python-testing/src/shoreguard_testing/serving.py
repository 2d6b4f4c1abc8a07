"""`shoreguard serve`, for tests that need users, a configuration of their own, or a restart.

    server = Serving(binary(), folder, {"SHOREGUARD_LIMITS_ADDRESS_BURST": "1000"})
    server.run("admin", "create-user", "ana@example.com", "--password-stdin", text="a password of hers")
    with server:
        print(server.address)
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import socket
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from . import START_SECONDS, StartFailed, environment, stop, tail

__all__ = ["Serving", "fixed_port"]

# Pause before the next look at a server that starts, in seconds.
PAUSE_SECONDS = 0.02
ANSWER_SECONDS = 5.0
# The server is on this host, so no proxy of the environment is used.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fixed_port() -> int:
    """Returns a port for a server whose configuration names it, such as in its public URL, or that is restarted.

    It is outside of the ports that the system chooses, so that it stays free until the server listens.
    """
    for attempt in range(100):
        port = 20_000 + (os.getpid() + 997 * attempt) % 10_000
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise StartFailed("no port is free")


class Serving:
    """A server with a folder for its data and its log. It listens on free ports unless `settings` name others."""

    def __init__(
        self,
        program: str | os.PathLike[str],
        folder: pathlib.Path,
        settings: Mapping[str, str] | None = None,
        arguments: Sequence[str | os.PathLike[str]] = (),
    ) -> None:
        """`settings` are variables of the environment, and `arguments` those of `serve`."""
        self.environment = {
            **environment(),
            "SHOREGUARD_SERVER_LISTEN": "127.0.0.1:0",
            "SHOREGUARD_SERVER_DATA_DIR": str(folder / "data"),
            "SHOREGUARD_TELEMETRY_METRICS_LISTEN": "127.0.0.1:0",
            # The addresses are read from the log.
            "SHOREGUARD_TELEMETRY_LOG_FORMAT": "json",
            **(settings or {}),
        }
        self.address = ""
        """Address of the API, without a scheme. Known when the server is ready."""
        self.metrics = ""
        """Address of the metrics."""
        self.log = folder / "serve.log"
        self._command = [os.fspath(program), "serve", *(os.fspath(argument) for argument in arguments)]
        self._process: subprocess.Popen[str] | None = None
        self._log_start = 0

    @property
    def process(self) -> subprocess.Popen[str]:
        """The process of the last start."""
        assert self._process is not None, "it was not started"
        return self._process

    def run(self, *arguments: str, text: str = "") -> str:
        """Runs another command of the program with the same settings. Returns what it prints."""
        done = subprocess.run(
            [self._command[0], *arguments],
            env=self.environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
        )
        if done.returncode != 0:
            raise StartFailed(f"`{' '.join(arguments[:2])}` failed: {done.stdout}{done.stderr}")
        return done.stdout

    def launch(self) -> None:
        """Starts the process."""
        self.address = self.metrics = ""
        with self.log.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(
                self._command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                text=True,
            )

    def wait_ready(self) -> None:
        """Waits until the server accepts calls. A server that does not is stopped."""
        until = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if self.process.poll() is not None or time.monotonic() > until:
                stop(self.process)
                raise StartFailed(f"`{' '.join(self._command)}` did not start:\n{tail(self.log)}")
            time.sleep(PAUSE_SECONDS)

    def start(self) -> None:
        """Starts the server, and waits until it accepts calls."""
        self.launch()
        self.wait_ready()

    def stop(self) -> int:
        """Stops the server. Returns its exit code."""
        return stop(self.process)

    def get(self, path: str) -> str:
        """Returns what the listener of the metrics answers: `/metrics`, `/readyz` or `/healthz`."""
        with DIRECT.open(f"http://{self.metrics}{path}", timeout=ANSWER_SECONDS) as answer:
            text: str = answer.read().decode()
        return text

    def _is_ready(self) -> bool:
        if not (self.address and self.metrics):
            self._read_addresses()
        if not (self.address and self.metrics):
            return False
        # An answer other than 200 is an OSError, too.
        with contextlib.suppress(OSError, http.client.HTTPException):
            self.get("/readyz")
            return True
        return False

    def _read_addresses(self) -> None:
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            for line in log:
                entry: Any = None
                # The last line may not be complete yet, and the setup token is printed as text.
                with contextlib.suppress(ValueError):
                    entry = json.loads(line)
                message = entry.get("message") if isinstance(entry, dict) else None
                if message == "serving":
                    self.address = entry["address"]
                elif message == "serving metrics":
                    self.metrics = entry["address"]

    def __enter__(self) -> Serving:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
