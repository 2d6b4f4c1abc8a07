"""Tests gRPC-Web from pages in Chromium: calls, errors, a watch, and what pages of other origins and hosts get.

Starts `shoreguard serve` with a user and a key, serves page.html from another origin, and opens it in a headless
Chromium. The page runs checks.js, which has a client of its own, then sdk_checks.js with the bundle of the SDK for
TypeScript, and sends the results back. A bundle that is missing or older than the SDK is made, which needs Node.js 20.

    python3 tests/browser/run.py [--server target/debug/shoreguard]

The last line of the output is `N passed, M failed`. The exit code is 1 if anything failed. Without Chromium, the tests
are skipped, and those of the SDK without Node.js, unless `REQUIRE_TOOLS` is `true`.
"""

import argparse
import http.server
import json
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SDK = ROOT / "clients" / "typescript"
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))

# No compiled files beside the sources.
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "clients" / "python-testing" / "src"))

from shoreguard_testing.serving import Serving  # noqa: E402

PAGE_SECONDS = 90
CANCEL_SECONDS = 30
NODE_MIN = 20

EMAIL, PASSWORD = "ana@example.com", "a password of hers"
# Chromium resolves this name to loopback, as an attacker's DNS server would.
REBOUND = "rebound.test"
BUNDLE = SDK / "dist" / "bundle" / "web.js"
FILES = {
    "/": HERE / "page.html",
    **{f"/{name}": HERE / name for name in ("checks.js", "expect.js", "grpc_web.js", "sdk_checks.js")},
    "/sdk.js": BUNDLE,
}
TYPES = {".html": "text/html", ".js": "text/javascript"}
CANCELED = 'shoreguard_rpc_requests_total{method="/shoreguard.v1.EventService/WatchEvents",code="CANCELLED"}'


class Server(Serving):
    """Runs `shoreguard serve` with a user and a service principal for the duration of the `with` block."""

    def __init__(self, binary, folder, origin):
        super().__init__(binary, folder, {"SHOREGUARD_SERVER_BROWSER_ORIGINS": origin})
        self.run("admin", "create-user", EMAIL, "--role", "admin", "--password-stdin", text=PASSWORD)
        made = self.run("admin", "create-service-principal", "page", "--role", "admin")
        self.key = next(word for word in made.split() if word.startswith("sg_"))

    def saw_cancels(self, count):
        """Waits until the server has seen that pages canceled so many watches. Returns whether it has."""
        until = time.monotonic() + CANCEL_SECONDS
        while self.cancels() < count:
            if time.monotonic() > until:
                return False
            time.sleep(0.2)
        return True

    def cancels(self):
        """Returns the number of watches that were canceled."""
        lines = self.get("/metrics").splitlines()
        return sum(float(line.split()[1]) for line in lines if line.startswith(CANCELED))


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
            file = FILES[self.path]
            self.reply(TYPES[file.suffix], file.read_bytes())
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


def skip(what):
    """Reports tests that cannot run here, or fails if everything must run."""
    if os.environ.get("REQUIRE_TOOLS") == "true":
        sys.exit(f"not tested: {what}")
    print(f"SKIPPED: {what}")


def has_sdk():
    """Returns whether the bundle of the SDK can be served. Makes it, unless it is newer than what it is made of."""
    sources = [path for path in SDK.iterdir() if path.is_file()]
    sources += [path for folder in ("src", "gen") for path in (SDK / folder).rglob("*.ts")]
    if BUNDLE.exists() and all(path.stat().st_mtime <= BUNDLE.stat().st_mtime for path in sources):
        return True
    node = shutil.which("node")
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout if node else ""
    if not version or int(version.lstrip("v").partition(".")[0]) < NODE_MIN:
        skip(f"the SDK for TypeScript in a browser: install Node.js {NODE_MIN} or later")
        return False
    if subprocess.run([SDK / "bundle"]).returncode != 0:
        sys.exit(f"`{SDK / 'bundle'}` failed")
    return True


def main():
    arguments = argparse.ArgumentParser(description="gRPC-Web from pages in Chromium.")
    arguments.add_argument("--server", type=pathlib.Path, default=TARGET / "debug" / "shoreguard")
    binary = arguments.parse_args().server
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        skip("gRPC-Web in a browser, since Chromium is missing: install Debian's package `chromium`")
        return 0
    if not binary.exists():
        sys.exit(f"{binary} is missing: run `cargo build` first")
    sdk = has_sdk()

    pages = Pages()
    with tempfile.TemporaryDirectory(prefix="shoreguard-browser-", ignore_cleanup_errors=True) as folder:
        with Server(binary, pathlib.Path(folder), f"http://127.0.0.1:{pages.port}") as server:
            pages.settings = {
                "api": f"http://{server.address}",
                "rebound": f"http://{REBOUND}:{server.address.rpartition(':')[2]}",
                "email": EMAIL,
                "password": PASSWORD,
                "key": server.key,
                "sdk": sdk,
            }
            results = open_page(chromium, f"http://127.0.0.1:{pages.port}/", pages)
            # One watch of checks.js, and one of sdk_checks.js.
            why = None if server.saw_cancels(2 if sdk else 1) else "it still runs"
            results.append(("the server ends each watch that a page cancels", why))
            results += open_page(chromium, f"http://localhost:{pages.port}/", pages)
    for name, why in results:
        print(f"FAIL  {name}: {why}" if why else f"ok    {name}")
    failed = sum(why is not None for _, why in results)
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
