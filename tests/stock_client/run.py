"""Tests the stock OpenShell SDKs, as published on PyPI, through Shoreguard.

Starts `shoreguard dev`, and for each generation runs checks.py in an environment with the SDK of that generation. The
checks get only an address and a key, as any user of the SDK does. Then tokens.py gets its tokens as the stock command
line does: with a key from the same server, and with a device code from a server that has users. drafts.py decides about
drafts as those users.

    python3 tests/stock_client/run.py [--server target/debug/shoreguard]

The last line of the output is `N passed, M failed`. The exit code is 1 if anything failed.
"""

import argparse
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import venv

HERE = pathlib.Path(__file__).resolve().parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target"))
CACHE = TARGET / "stock-client"
GENERATIONS = ("0.1", "0.0")

INSTALL_SECONDS = 300
START_SECONDS = 60
CHECK_SECONDS = 180
STOP_SECONDS = 40


def environment(generation):
    """Returns the Python of an environment with the generation's SDK. It is created once for each set of pins."""
    pins = HERE / f"requirements-{generation}.txt"
    digest = hashlib.sha256(pins.read_bytes()).hexdigest()[:12]
    folder = CACHE / f"{generation}-{digest}"
    python = folder / "bin" / "python"
    done = folder / "complete"
    if not done.exists():
        print(f"installing the SDK of generation {generation} into {folder}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r", pins]
        subprocess.run(pip, check=True, timeout=INSTALL_SECONDS)
        done.touch()
    return python


class Server:
    """Runs `shoreguard dev` with its own data folder for the duration of the `with` block."""

    def __init__(self, binary):
        self.binary = binary
        self.folder = tempfile.TemporaryDirectory(prefix="shoreguard-stock-client-")
        self.log_path = pathlib.Path(self.folder.name) / "server.log"

    def __enter__(self):
        data = pathlib.Path(self.folder.name) / "data"
        command = [self.binary, "dev", "--json", "--data", data, "--listen", "127.0.0.1:0"]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
            )
        # A server without output is killed after this time, which ends the wait for its line.
        silence = threading.Timer(START_SECONDS, self.process.kill)
        silence.start()
        line = self.process.stdout.readline()
        silence.cancel()
        try:
            self.facts = json.loads(line)
        except ValueError:
            self.process.kill()
            self.show_log()
            sys.exit(f"`{' '.join(map(str, command))}` did not say where it serves: {line!r}")
        return self

    def stop(self):
        """Sends SIGTERM. Returns the exit code, or `None` if the process did not exit in time."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return None

    def show_log(self):
        print("--- the end of the server's log:")
        print(self.log_path.read_text(errors="replace")[-8000:])

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.folder.cleanup()


class Office:
    """Runs `shoreguard serve` with two users who can approve devices and drafts. Its gateway belongs to another server."""

    EMAILS, PASSWORD = ("ana@example.com", "ben@example.com"), "a password of theirs"

    def __init__(self, binary, gateway):
        self.binary = binary
        self.gateway = gateway
        self.folder = tempfile.TemporaryDirectory(prefix="shoreguard-stock-client-")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.listen = f"127.0.0.1:{free.getsockname()[1]}"
        self.settings = {
            **os.environ,
            "SHOREGUARD_ENDPOINT": f"http://{self.listen}",
            "SHOREGUARD_SERVER_LISTEN": self.listen,
            "SHOREGUARD_SERVER_PUBLIC_URL": f"http://{self.listen}",
            "SHOREGUARD_SERVER_DATA_DIR": str(pathlib.Path(self.folder.name) / "data"),
            "SHOREGUARD_TELEMETRY_METRICS_LISTEN": "",
            "SHOREGUARD_TOKEN_SERVICE_DEVICE_FLOW": "true",
            "SHOREGUARD_GATEWAYS_ALLOWED_NETWORKS": "127.0.0.0/8",
        }

    def __enter__(self):
        given = {"input": self.PASSWORD, "text": True, "env": self.settings, "timeout": START_SECONDS}
        for email in self.EMAILS:
            create = [self.binary, "admin", "create-user", email, "--role", "admin", "--password-stdin"]
            subprocess.run(create, check=True, stdout=subprocess.DEVNULL, **given)
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([self.binary, "serve"], env=self.settings, **quiet)
        until = time.monotonic() + START_SECONDS
        self.tokens = []
        for email in self.EMAILS:
            login = {"email": email, "password": self.PASSWORD}
            while (session := self.call("Login", login)) is None and time.monotonic() < until:
                time.sleep(0.2)
            if session is None:
                sys.exit("`shoreguard serve` did not let its users in")
            self.tokens.append(session["session_token"])
        self.settings["SHOREGUARD_KEY"] = self.tokens[0]
        register = {"name": "office", "endpoint": self.gateway["endpoint"], "scheme": "GATEWAY_SCHEME_HTTP"}
        if self.call("RegisterGateway", register) is None:
            sys.exit("the gateway was not registered")
        return self

    def call(self, method, request):
        """Makes a call. Returns its response, or `None` if the call failed."""
        command = [self.binary, "call", method, json.dumps(request)]
        done = subprocess.run(command, env=self.settings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()


def run_checks(python, arguments, environment):
    """Runs one program of checks. Returns how many passed and how many failed."""
    command = [python, *(HERE / argument if argument.endswith(".py") else argument for argument in arguments)]
    # Keys are passed in the environment, so that they are not visible in the list of processes.
    given = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
    try:
        done = subprocess.run(command, env=given, stdout=subprocess.PIPE, text=True, timeout=CHECK_SECONDS)
        output = done.stdout
    except subprocess.TimeoutExpired as late:
        output = (late.stdout or b"").decode(errors="replace")
        print(f"`{' '.join(arguments)}` took longer than {CHECK_SECONDS} s")
    print(output, end="", flush=True)
    counted = re.search(r"^(\d+) of (\d+) checks hold$", output, re.MULTILINE)
    if not counted:
        return 0, 1
    held, every = map(int, counted.groups())
    return held, every - held


def main():
    arguments = argparse.ArgumentParser(description="The stock OpenShell SDKs through Shoreguard.")
    arguments.add_argument("--server", type=pathlib.Path, default=TARGET / "debug" / "shoreguard")
    server_binary = arguments.parse_args().server
    if not server_binary.exists():
        sys.exit(f"{server_binary} is missing: run `cargo build` first")
    pythons = {generation: environment(generation) for generation in GENERATIONS}

    passed = failed = 0
    with Server(server_binary) as server:
        for generation in GENERATIONS:
            gateways = [g for g in server.facts["gateways"] if g["generation"] == generation]
            if not gateways:
                print(f"no gateway of generation {generation} is served")
                failed += 1
            for gateway in gateways[:1]:
                print(f"generation {generation}, gateway {gateway['name']}:", flush=True)
                python, listen, key = pythons[generation], server.facts["listen"], gateway["key"]
                runs = [
                    run_checks(python, ["checks.py", generation, listen], {"STOCK_CLIENT_KEY": key}),
                    run_checks(python, ["tokens.py", "key", listen, gateway["name"]], {"STOCK_CLIENT_KEY": key}),
                ]
                with Office(server_binary, gateway) as office:
                    approve = f"{server_binary} call ApproveDevice"
                    given = {**office.settings, "STOCK_CLIENT_APPROVE": approve}
                    runs.append(run_checks(python, ["tokens.py", "device", office.listen, "office"], given))
                    given = {
                        **office.settings,
                        "STOCK_CLIENT_CALL": f"{server_binary} call",
                        "STOCK_CLIENT_TOKENS": json.dumps(office.tokens),
                    }
                    runs.append(run_checks(python, ["drafts.py", generation, office.listen], given))
                passed += sum(held for held, _ in runs)
                failed += sum(broken for _, broken in runs)
        code = server.stop()
        if code == 0:
            passed += 1
            print("ok    the server stops when it is told to")
        else:
            failed += 1
            print(f"FAIL  the server was told to stop: exit code {code}")
        if failed:
            server.show_log()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
