"""Starts servers of the wheel shoreguard-testing, one after another and then twenty at once, and calls each of them.

The call is a governed one: a command in a sandbox, through the proxy of the server. Each server has its own address,
records the call and stops cleanly. The figures depend on the machine and the build, so they are printed beside their
target and not checked. For the figure of a release:

    TEST_SHOREGUARD_BIN=target/dist/shoreguard PYTHONPATH=clients/python-testing/src \\
        python3 clients/python/tests/many.py --alone 100
"""

import argparse
import math
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import shoreguard_testing

AT_ONCE = 20
# From the start of an installed `dev` to the answer of its first governed call, in seconds, for 99 of 100 starts.
TARGET = 1
COMMAND = ["--gateway", "dev-0-1", "OpenShell/ExecSandbox", '{"sandbox": "coder", "command": ["echo", "hi"]}']
RECORDED = ["ListAuditEntries", '{"action": "sandbox.exec"}']


def call(server: shoreguard_testing.Server, arguments: list[str]) -> str:
    command = [shoreguard_testing.binary(), "call", *arguments]
    done = subprocess.run(command, env=dict(server.environment), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def use(_: int) -> tuple[float, str]:
    """Returns the seconds until the first call was answered, and the address."""
    began = time.monotonic()
    with shoreguard_testing.server() as server:
        answer = call(server, COMMAND)
        seconds = time.monotonic() - began
        assert '"exit_code":0' in answer, answer
        assert '"sandbox.exec"' in call(server, RECORDED), "the call is not in the audit log"
        assert server.process.poll() is None
    assert server.process.returncode == 0, server.process.returncode
    return seconds, server.endpoint


def at(share: float, times: list[float]) -> float:
    """Returns the time in which this share of all starts was answered. The times are sorted."""
    return times[math.ceil(share * len(times)) - 1]


arguments = argparse.ArgumentParser(description="The time to the first governed call.")
arguments.add_argument("--alone", type=int, default=5, help="servers that are started one after another")
given = arguments.parse_args()
alone = sorted(seconds for seconds, _ in map(use, range(given.alone)))
with ThreadPoolExecutor(AT_ONCE) as pool:
    found = list(pool.map(use, range(AT_ONCE)))
assert len({endpoint for _, endpoint in found}) == AT_ONCE
together = sorted(seconds for seconds, _ in found)
print(
    f"`dev` to its first governed call: {given.alone} alone, median {at(0.5, alone):.2f} s, p99 {at(0.99, alone):.2f} s "
    f"(target: p99 under {TARGET} s); {AT_ONCE} at once, {together[0]:.2f} to {together[-1]:.2f} s",
    file=sys.stderr,
)
