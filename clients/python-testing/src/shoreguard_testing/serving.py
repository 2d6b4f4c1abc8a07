"""`shoreguard serve`, for tests that need users, a configuration of their own, or a restart.

    server = Serving(binary(), folder, {"SHOREGUARD_LIMITS_ADDRESS_BURST": "1000"})
    server.run("admin", "create-user", "ana@example.com", "--password-stdin", text="a password of hers")
    with server:
        print(server.address)

No port is chosen before a server has it: a server listens on port 0, and its log names the port that the system chose.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, Self

from . import START_SECONDS, StartFailed, environment, stop, tail

__all__ = ["ServerProcess", "Serving"]

# Pause before the next look at a server that starts, in seconds.
PAUSE_SECONDS = 0.02
ANSWER_SECONDS = 5.0
# The server is on this host, so no proxy of the environment is used.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ServerProcess:
    """A server that any command starts, for instance after a change of the root.

    Its log must be JSON (`telemetry.log_format`) of the level `info` or a finer one: the addresses are read from it. It
    must have a listener for metrics, which says whether it is ready.
    """

    def __init__(
        self, command: Sequence[str | os.PathLike[str]], log: pathlib.Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """`log` is the file to which its output is appended. By default, `environment` is that of this process."""
        self.environment = dict(os.environ if environment is None else environment)
        self.address = ""
        """Address of the API, without a scheme. Known when the server is ready, and after it has stopped."""
        self.metrics = ""
        """Address of the metrics."""
        self.log = log
        self._command = [os.fspath(part) for part in command]
        self._process: subprocess.Popen[str] | None = None
        self._log_start = 0

    @property
    def process(self) -> subprocess.Popen[str]:
        """The process of the last start."""
        assert self._process is not None, "it was not started"
        return self._process

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

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Serving(ServerProcess):
    """`shoreguard serve` with a folder for its data and its log.

    It listens on ports that the system chooses, unless `settings` name others. The API keeps its port when the server
    is started again. The port is most likely still free: Linux prefers other ports for connections, and chooses those
    of listeners at random.
    """

    def __init__(
        self,
        program: str | os.PathLike[str],
        folder: pathlib.Path,
        settings: Mapping[str, str] | None = None,
        arguments: Sequence[str | os.PathLike[str]] = (),
    ) -> None:
        """`settings` are variables of the environment, and `arguments` those of `serve`."""
        variables = {
            **environment(),
            "SHOREGUARD_SERVER_LISTEN": "127.0.0.1:0",
            "SHOREGUARD_SERVER_DATA_DIR": str(folder / "data"),
            "SHOREGUARD_TELEMETRY_METRICS_LISTEN": "127.0.0.1:0",
            # The addresses are read from the log.
            "SHOREGUARD_TELEMETRY_LOG_FORMAT": "json",
            **(settings or {}),
        }
        super().__init__([program, "serve", *arguments], folder / "serve.log", variables)

    def wait_ready(self) -> None:
        super().wait_ready()
        self.environment["SHOREGUARD_SERVER_LISTEN"] = self.address
        # For `run`. A server with TLS has `https`, which `settings` name.
        self.environment.setdefault("SHOREGUARD_ENDPOINT", f"http://{self.address}")

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
