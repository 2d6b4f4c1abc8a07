"""Twenty servers of the wheel shoreguard-testing start at once, each with its own address, and answer."""

import importlib.util
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import shoreguard_testing

AT_ONCE = 20


def use(number: int) -> tuple[float, str]:
    began = time.monotonic()
    with shoreguard_testing.server() as server:
        ready = time.monotonic() - began
        call = [shoreguard_testing.binary(), "call", "ListGateways"]
        done = subprocess.run(call, env=dict(server.environment), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and "dev-0-1" in done.stdout, done.stderr
        assert server.process.poll() is None
    assert server.process.returncode == 0, server.process.returncode
    return ready, server.endpoint


assert importlib.util.find_spec("grpc") is None, "the wheel needs nothing but Python"
alone = use(0)[0]
with ThreadPoolExecutor(AT_ONCE) as pool:
    found = list(pool.map(use, range(AT_ONCE)))
times = sorted(seconds for seconds, _ in found)
assert len({endpoint for _, endpoint in found}) == AT_ONCE
print(f"ready in {alone:.2f} s; {AT_ONCE} at once in {times[0]:.2f} to {times[-1]:.2f} s", file=sys.stderr)
