"""Tests the stock OpenShell SDKs, as published on PyPI, through Shoreguard.

Starts `shoreguard dev`, and for each generation runs checks.py in an environment with the SDK of that generation. The
checks get only an address and a key, as any user of the SDK does. Then tokens.py gets its tokens as the stock command
line does: with a key from the same server, and with a device code from a server that has users. drafts.py decides about
drafts as those users.

    python3 tests/stock_client/run.py [--server target/debug/shoreguard]
    python3 tests/stock_client/run.py --install    # only installs the SDKs

The last line of the output is `N passed, M failed`. The exit code is 1 if anything failed.
"""

import argparse
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import venv

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))

# No compiled files beside the sources.
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "clients" / "python-testing" / "src"))

import shoreguard_testing  # noqa: E402
from shoreguard_testing.serving import Serving  # noqa: E402

CACHE = TARGET / "stock-client"
GENERATIONS = ("0.1", "0.0")

INSTALL_SECONDS = 300
CHECK_SECONDS = 180


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


class Office(Serving):
    """Runs `shoreguard serve` with two users who can approve devices and drafts. Its gateway belongs to another server."""

    EMAILS, PASSWORD = ("ana@example.com", "ben@example.com"), "a password of theirs"

    def __init__(self, binary, folder, gateway):
        settings = {
            "SHOREGUARD_TOKEN_SERVICE_DEVICE_FLOW": "true",
            "SHOREGUARD_GATEWAYS_ALLOWED_NETWORKS": "127.0.0.0/8",
        }
        super().__init__(binary, folder, settings)
        self.gateway = gateway
        self.tokens = []
        for email in self.EMAILS:
            self.run("admin", "create-user", email, "--role", "admin", "--password-stdin", text=self.PASSWORD)

    def start(self):
        """Starts the server, logs both users in, and registers the gateway as `office`."""
        # The issuer of its tokens is its URL, which has the port of a first start.
        super().start()
        self.stop()
        self.environment["SHOREGUARD_SERVER_PUBLIC_URL"] = f"http://{self.address}"
        super().start()
        try:
            logins = [{"email": email, "password": self.PASSWORD} for email in self.EMAILS]
            self.tokens = [self.call("Login", login)["session_token"] for login in logins]
            self.environment["SHOREGUARD_KEY"] = self.tokens[0]
            register = {"name": "office", "endpoint": self.gateway.endpoint, "scheme": "GATEWAY_SCHEME_HTTP"}
            self.call("RegisterGateway", register)
        except BaseException:
            self.stop()
            raise

    def call(self, method, request):
        return json.loads(self.run("call", method, json.dumps(request)))


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


def check_gateway(server_binary, python, listen, gateway):
    """Runs all programs of checks about one gateway. Returns how many checks passed and failed in each."""
    key = {"STOCK_CLIENT_KEY": gateway.key}
    runs = [
        run_checks(python, ["checks.py", gateway.generation, listen], key),
        run_checks(python, ["tokens.py", "key", listen, gateway.name], key),
    ]
    temporary = tempfile.TemporaryDirectory(prefix="shoreguard-stock-client-", ignore_cleanup_errors=True)
    with temporary as folder, Office(server_binary, pathlib.Path(folder), gateway) as office:
        approve = f"{server_binary} call ApproveDevice"
        given = {**office.environment, "STOCK_CLIENT_APPROVE": approve}
        runs.append(run_checks(python, ["tokens.py", "device", office.address, "office"], given))
        given = {
            **office.environment,
            "STOCK_CLIENT_CALL": f"{server_binary} call",
            "STOCK_CLIENT_TOKENS": json.dumps(office.tokens),
        }
        runs.append(run_checks(python, ["drafts.py", gateway.generation, office.address], given))
    return runs


def main():
    arguments = argparse.ArgumentParser(description="The stock OpenShell SDKs through Shoreguard.")
    arguments.add_argument("--server", type=pathlib.Path, default=TARGET / "debug" / "shoreguard")
    arguments.add_argument("--install", action="store_true", help="only installs the SDKs")
    given = arguments.parse_args()
    if given.install:
        for generation in GENERATIONS:
            environment(generation)
        return 0
    server_binary = given.server
    if not server_binary.exists():
        sys.exit(f"{server_binary} is missing: run `cargo build` first")
    pythons = {generation: environment(generation) for generation in GENERATIONS}

    passed = failed = 0
    with shoreguard_testing.server(server_binary) as server:
        listen = server.endpoint.removeprefix("http://")
        for generation in GENERATIONS:
            gateways = [gateway for gateway in server.gateways if gateway.generation == generation]
            if not gateways:
                print(f"no gateway of generation {generation} is served")
                failed += 1
            for gateway in gateways[:1]:
                print(f"generation {generation}, gateway {gateway.name}:", flush=True)
                runs = check_gateway(server_binary, pythons[generation], listen, gateway)
                passed += sum(held for held, _ in runs)
                failed += sum(broken for _, broken in runs)
        code = shoreguard_testing.stop(server.process)
        if code == 0:
            passed += 1
            print("ok    the server stops on request")
        else:
            failed += 1
            print(f"FAIL  the server was stopped: exit code {code}")
        if failed:
            print(f"--- the end of the server's log:\n{shoreguard_testing.tail(server.log)}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
