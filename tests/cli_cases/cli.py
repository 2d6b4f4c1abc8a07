"""The bench, and what a user sees of a command."""

import contextlib
import fcntl
import json
import os
import pathlib
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# Only what hangs takes so long, also on a busy machine.
SECONDS = 90

# Exit codes that docs/cli.md lists. All other refusals are 1.
EXITS = {"UNAUTHENTICATED": 4, "UNAVAILABLE": 5, "RESOURCE_EXHAUSTED": 5, "DEADLINE_EXCEEDED": 5}
PARTIAL, INTERRUPTED = 6, 130


class Bench:
    """The bench, a server behind a proxy that injects faults, for the duration of the `with` block."""

    def __init__(self, server):
        env = {**os.environ, "TEST_SHOREGUARD_BIN": str(server)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([ROOT / "clients" / "bench"], env=env, **pipes)
        line = self.process.stdout.readline()
        if not line:
            sys.exit("the bench did not start")
        self.facts = json.loads(line)
        self.endpoint, self.direct, self.key = (self.facts[name] for name in ("endpoint", "direct", "key"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # The end of its input stops it.
        self.process.stdin.close()
        self.process.wait(2 * SECONDS)

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.facts["control"] + path, method=method, data=data)
        # The control is on this host.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=2 * SECONDS) as answer:
            return json.loads(answer.read())

    def faults(self, due):
        self.ask("PUT", "/faults", due)

    def calls(self, method):
        return self.ask("GET", "/calls").get(method, 0)

    def restart(self):
        self.ask("POST", "/restart", {"wait": False})


class Failure(Exception):
    """What is not as it must be."""


def must(holds, what):
    if not holds:
        raise Failure(what)


class Shown:
    """What the user sees of one command: its exit code, its output, and the parts of its error."""

    def __init__(self, code, output, errors):
        self.code, self.output, self.errors = code, output, errors
        lines = errors.splitlines()
        # A command can say more before its error.
        at = next((at for at, line in enumerate(lines) if re.match(r"[A-Z_]+: ", line)), len(lines))
        self.status, _, self.message = (lines[at] if at < len(lines) else "").partition(": ")
        details = lines[at + 1 :]
        pairs = (line.strip().partition(": ")[::2] for line in details)
        self.details = dict(pairs)
        fields = (line.removeprefix("  field: `") for line in details if line.startswith("  field: `"))
        self.fields = dict(field.partition("` ")[::2] for field in fields)

    def json(self):
        try:
            return json.loads(self.output)
        except ValueError as wrong:
            raise Failure(f"the output is not JSON: {wrong}: {self.output[:400]!r}") from wrong

    def __str__(self):
        return f"exit code {self.code}, output {self.output[-600:]!r}, errors {self.errors[-1000:]!r}"


class Cli:
    """The command line, with a home and an environment of its own."""

    def __init__(self, program, home, endpoint, key):
        self.program, self.endpoint = program, endpoint
        self.env = {"PATH": os.defpath, "HOME": str(home), "XDG_CONFIG_HOME": str(home), "NO_PROXY": "127.0.0.1"}
        self.env |= {"SHOREGUARD_ENDPOINT": endpoint, "SHOREGUARD_KEY": key}

    def run(self, *arguments, text="", **env):
        """Runs a command to its end. Variables with the value `None` are unset."""
        full = {name: value for name, value in {**self.env, **env}.items() if value is not None}
        command = list(map(str, [self.program, *arguments]))
        try:
            done = subprocess.run(command, env=full, input=text, capture_output=True, text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired as late:
            raise Failure(f"`{' '.join(command[1:])}` did not end: {late.stderr}") from late
        return Shown(done.returncode, done.stdout, done.stderr)

    def call(self, step, *more):
        return self.run("call", step["call"], json.dumps(step["request"]), *more)

    def step(self, step):
        """Makes a call that prepares or accompanies a case, however long the server is away."""
        until = time.monotonic() + SECONDS
        while True:
            shown = self.call(step)
            if shown.code == 0 or shown.status == "ALREADY_EXISTS":
                return
            must(shown.code == 5 and time.monotonic() < until, f"{step['call']}: {shown}")

    def watch(self, *arguments, take, note):
        """Reads lines of a watch, then interrupts it. Returns what was seen if it ended by itself."""
        command = list(map(str, [self.program, *arguments]))
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True}
        with subprocess.Popen(command, env=self.env, **pipes) as process:
            late = threading.Timer(SECONDS, process.kill)
            late.start()
            try:
                lines = []
                while len(lines) < take and (line := process.stdout.readline()):
                    lines.append(line)
                    note(len(lines))
                if len(lines) == take:
                    process.send_signal(signal.SIGINT)
                output, errors = process.communicate()
            finally:
                late.cancel()
                process.kill()
            must(process.returncode != -signal.SIGKILL, f"the watch did not end, after {lines}")
            return lines, Shown(process.returncode, "".join(lines) + output, errors)


@contextlib.contextmanager
def terminal():
    """Yields the end of a terminal for a program, and a list to which what the program writes is added."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    written = []

    def read():
        # A terminal without a program is an error in place of an end.
        with contextlib.suppress(OSError):
            while data := os.read(ours, 4096):
                written.append(data.decode(errors="replace"))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield theirs, written
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)


def check_error(shown, expected):
    must(shown.status == expected["code"], f"the code is not {expected['code']}: {shown}")
    must(shown.code == EXITS.get(expected["code"], 1), f"the exit code is wrong: {shown}")
    must(expected.get("message", "") in shown.message, f"the message is wrong: {shown}")
    details = dict(expected.get("metadata", {}))
    if "reason" in expected:
        details["reason"] = f"{expected['reason']} ("
    if "resource" in expected:
        details["resource"] = f"{expected['resource']['type']} `{expected['resource']['name']}`"
    if "retry_after_seconds" in expected:
        details["try again in"] = f"{expected['retry_after_seconds']:.1f} s"
    for name, part in details.items():
        must(shown.details.get(name, "").startswith(part), f"`{name}` is not `{part}`: {shown}")
    for name, part in expected.get("fields", {}).items():
        # A detail that the message says itself is not repeated.
        said = f"`{name}`" in shown.message and part in shown.message
        must(said or part in shown.fields.get(name, ""), f"the field `{name}` is not shown: {shown}")
    must(not expected.get("request_id") or shown.details.get("request id"), f"the request id is missing: {shown}")
    oldest = expected.get("oldest")
    must(oldest is None or re.search(rf"\b{oldest}\b", shown.message), f"the oldest position is missing: {shown}")
