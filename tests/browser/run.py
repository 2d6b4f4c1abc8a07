"""Tests gRPC-Web from pages in Chromium: calls, errors, a watch, and what pages of other origins and hosts get.

Starts `shoreguard serve` with a user, serves page.html from another origin, and opens it in a headless Chromium. The
page runs checks.js, which has a client of its own, and sends the results back.

    python3 tests/browser/run.py [--server target/debug/shoreguard]

The last line of the output is `N passed, M failed`. The exit code is 1 if anything failed. Without Chromium, the tests
are skipped, unless `REQUIRE_TOOLS` is `true`.
"""

import argparse
import http.server
import json
import os
import pathlib
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target"))

START_SECONDS = 60
PAGE_SECONDS = 90
STOP_SECONDS = 40

EMAIL, PASSWORD = "ana@example.com", "a password of hers"
# Chromium resolves this name to loopback, as an attacker's DNS server would.
REBOUND = "rebound.test"
FILES = {"/": "text/html", "/checks.js": "text/javascript", "/grpc_web.js": "text/javascript"}
CANCELED = 'shoreguard_rpc_requests_total{method="/shoreguard.v1.EventService/WatchEvents",code="CANCELLED"}'


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server:
    """Runs `shoreguard serve` with one user for the duration of the `with` block."""

    def __init__(self, binary, origin):
        self.binary = binary
        self.folder = tempfile.TemporaryDirectory(prefix="shoreguard-browser-")
        self.port, self.metrics = free_port(), f"127.0.0.1:{free_port()}"
        self.log_path = pathlib.Path(self.folder.name) / "server.log"
        self.settings = {
            **os.environ,
            "SHOREGUARD_SERVER_LISTEN": f"127.0.0.1:{self.port}",
            "SHOREGUARD_SERVER_DATA_DIR": str(pathlib.Path(self.folder.name) / "data"),
            "SHOREGUARD_SERVER_BROWSER_ORIGINS": origin,
            "SHOREGUARD_TELEMETRY_METRICS_LISTEN": self.metrics,
        }

    def __enter__(self):
        create = [self.binary, "admin", "create-user", EMAIL, "--role", "admin", "--password-stdin"]
        given = {"input": PASSWORD, "text": True, "env": self.settings, "timeout": START_SECONDS}
        subprocess.run(create, check=True, stdout=subprocess.DEVNULL, **given)
        with self.log_path.open("wb") as log:
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            self.process = subprocess.Popen([self.binary, "serve"], env=self.settings, **streams)
        if not self.wait(self.is_ready, START_SECONDS):
            print(self.log_path.read_text(errors="replace")[-8000:])
            sys.exit("`shoreguard serve` did not get ready")
        return self

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.metrics}{path}", timeout=5) as response:
            return response.read().decode()

    def is_ready(self):
        try:
            self.get("/readyz")
        except OSError:
            return False
        return True

    def saw_cancel(self):
        """Returns whether the server has seen that the page canceled its watch."""
        return any(line.startswith(CANCELED) for line in self.get("/metrics").splitlines())

    @staticmethod
    def wait(condition, seconds):
        until = time.monotonic() + seconds
        while not (held := condition()) and time.monotonic() < until:
            time.sleep(0.2)
        return held

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()


class Pages(http.server.ThreadingHTTPServer):
    """Serves the page and its settings, and receives its results."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), PageHandler)
        self.port = self.server_address[1]
        self.settings = {}
        self.results = queue.Queue()
        threading.Thread(target=self.serve_forever, daemon=True).start()


class PageHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/settings.json":
            # The page of another origin has the name `localhost`, which the server does not allow.
            stranger = self.headers["host"].startswith("localhost:")
            self.reply("application/json", json.dumps({**self.server.settings, "stranger": stranger}).encode())
        elif self.path in FILES:
            name = "page.html" if self.path == "/" else self.path[1:]
            self.reply(FILES[self.path], (HERE / name).read_bytes())
        else:
            self.send_error(404)

    def do_POST(self):
        results = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.reply("text/plain", b"")
        self.server.results.put(results)

    def reply(self, content_type, body):
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def open_page(chromium, url, pages):
    """Opens a page until its results arrive. Returns them, as pairs of a name and the cause of a failure."""
    with tempfile.TemporaryDirectory(prefix="shoreguard-chromium-", ignore_cleanup_errors=True) as profile:
        command = [
            chromium,
            "--headless",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--no-proxy-server",
            f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1",
            f"--user-data-dir={profile}",
            "--remote-debugging-port=0",
        ]
        # Chromium's own sandbox does not run as root.
        if os.geteuid() == 0:
            command.append("--no-sandbox")
        log_path = pathlib.Path(profile) / "chromium.log"
        with log_path.open("wb") as log:
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            process = subprocess.Popen([*command, url], start_new_session=True, **streams)
        try:
            results = pages.results.get(timeout=PAGE_SECONDS)
            return [(result["name"], result.get("why")) for result in results]
        except queue.Empty:
            print(log_path.read_text(errors="replace")[-4000:])
            return [(f"{url} sends its results", f"nothing within {PAGE_SECONDS} s")]
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                # Its helpers end with its group.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def main():
    arguments = argparse.ArgumentParser(description="gRPC-Web from pages in Chromium.")
    arguments.add_argument("--server", type=pathlib.Path, default=TARGET / "debug" / "shoreguard")
    binary = arguments.parse_args().server
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        how = "install Debian's package `chromium`: `apt-get install chromium`"
        if os.environ.get("REQUIRE_TOOLS") == "true":
            sys.exit(f"Chromium is missing: {how}")
        print(f"SKIPPED: the tests of gRPC-Web in a browser, since there is no Chromium here; {how}")
        return 0
    if not binary.exists():
        sys.exit(f"{binary} is missing: run `cargo build` first")

    pages = Pages()
    with Server(binary, f"http://127.0.0.1:{pages.port}") as server:
        pages.settings = {
            "api": f"http://127.0.0.1:{server.port}",
            "rebound": f"http://{REBOUND}:{server.port}",
            "email": EMAIL,
            "password": PASSWORD,
        }
        results = open_page(chromium, f"http://127.0.0.1:{pages.port}/", pages)
        seen = server.wait(server.saw_cancel, 30)
        results.append(("the server ends a watch that a page cancels", None if seen else "it still runs"))
        results += open_page(chromium, f"http://localhost:{pages.port}/", pages)
    for name, why in results:
        print(f"FAIL  {name}: {why}" if why else f"ok    {name}")
    failed = sum(why is not None for _, why in results)
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
