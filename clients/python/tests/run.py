"""Tests the Python SDK as users install it, on each Python that is on PATH, with each major version of protobuf.

`scripts/tools` has installed what this needs. All tests run on the first Python with the newest protobuf, and smoke.py on
each Python with each protobuf. The wheel shoreguard-testing is built and used.

    python3 clients/python/tests/run.py --server target/debug/shoreguard --tools target/tools

The last line of the output is `N passed, M failed`. The exit code is 1 if anything failed.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).resolve().parent
SDK = HERE.parent
TESTING = SDK.parent / "python-testing"
PYTHONS = ("3.11", "3.12", "3.13")
PROTOBUFS = ("4", "5", "6", "7")
# Only what hangs takes so long, also on a busy machine.
SECONDS = 900
# The wheel with all that is generated, in bytes.
WHEEL_MAX = 200_000
# From `pip install` to the answer of the first call, in seconds. It depends on the machine, so it is printed only.
INSTALL_TARGET = 15
FIRST_CALL = """
import shoreguard_client as sg
with sg.Client() as client:
    print(next(iter(client.gateways.list_gateways())).name)
"""
NEEDS_NOTHING = "import importlib.util; assert not importlib.util.find_spec('grpc')"


def run(command, **more):
    """Runs a program. Returns whether it succeeded, and what it printed."""
    more = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "timeout": SECONDS, **more}
    done = subprocess.run(list(map(str, command)), **more)
    return done.returncode == 0, done.stdout


def must(command, **more):
    succeeded, output = run(command, **more)
    if not succeeded:
        sys.exit(f"`{' '.join(map(str, command))}` failed:\n{output}")


def environment(tool, folder):
    """Creates an environment that sees the packages of a tool's environment, and returns its Python."""
    must([tool, "-m", "venv", "--without-pip", folder])
    python = folder / "bin" / "python"
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    there, here = (run([p, "-c", script])[1].strip() for p in (tool, python))
    pathlib.Path(here, "tools.pth").write_text(f"{there}\n")
    return python


def pip(tool, python, *arguments, **more):
    quiet = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
    must([tool, "-m", "pip", "--python", python, "install", *quiet, *arguments], **more)


def testing_wheel(tool, server, work):
    """Builds the wheel shoreguard-testing. Returns the Python of an environment that has nothing else."""
    stripped = work / "shoreguard"
    if not shutil.which("strip") or not run(["strip", "-o", stripped, server])[0]:
        shutil.copy(server, stripped)
    given = {**os.environ, "TEST_SHOREGUARD_BIN": str(stripped)}
    quiet = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--wheel-dir", work]
    must([tool, "-m", "pip", "wheel", *quiet, TESTING], env=given)
    must([tool, "-m", "venv", "--without-pip", work / "testing"])
    python = work / "testing" / "bin" / "python"
    pip(tool, python, *work.glob("shoreguard_testing-*.whl"))
    return python


@contextlib.contextmanager
def bench(python, env):
    """Runs a bench. Yields the variables with which clients find its server, without the proxy."""
    command = list(map(str, [python, "-m", "shoreguard_testing.bench"]))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
        line = process.stdout.readline()
        if not line:
            sys.exit("the bench did not start")
        facts = json.loads(line)
        try:
            yield {"SHOREGUARD_ENDPOINT": facts["direct"], "SHOREGUARD_KEY": facts["key"]}
        finally:
            process.stdin.close()


def main():
    arguments = argparse.ArgumentParser(description="The Python SDK.")
    arguments.add_argument("--server", type=pathlib.Path, required=True)
    arguments.add_argument("--tools", type=pathlib.Path, required=True)
    given = arguments.parse_args()
    server, tools = given.server.resolve(), given.tools.absolute()
    if not server.exists():
        sys.exit(f"{server} is missing: run `cargo build` first")
    # The servers of the tests are reached directly. Nothing is downloaded here.
    os.environ |= {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
    found = {}
    for version in PYTHONS:
        tool = tools / f"sdk_python_{version}" / "bin" / "python"
        if tool.exists():
            found[version] = tool
        else:
            print(f"SKIPPED: Python {version} is not on PATH; install it and run scripts/tools")
    # A machine that checks changes must not leave out versions silently.
    if not found or (len(found) < len(PYTHONS) and os.environ.get("REQUIRE_TOOLS") == "true"):
        sys.exit("Python 3.11, 3.12 and 3.13 are needed" if found else "no Python of 3.11 to 3.13 is on PATH")

    passed = failed = 0

    def note(name, succeeded, output):
        nonlocal passed, failed
        passed, failed = passed + succeeded, failed + (not succeeded)
        print(f"{'ok   ' if succeeded else 'FAIL '} {name}" + ("" if succeeded else f"\n{output}"), flush=True)

    with tempfile.TemporaryDirectory(prefix="shoreguard-sdk-python-") as temporary, contextlib.ExitStack() as beside:
        work = pathlib.Path(temporary)
        # A copy, since a build leaves files beside the sources.
        sources = work / "sources"
        shutil.copytree(SDK, sources, ignore=shutil.ignore_patterns("__pycache__", "*_cache", "dist"))

        # Alone, since so many servers at once leave no time for others.
        main_version = next(iter(found))
        testing = testing_wheel(found[main_version], server, work)
        note("the wheel shoreguard-testing needs nothing but Python", *run([testing, "-c", NEEDS_NOTHING], cwd=work))
        succeeded, output = run([testing, HERE / "many.py"], cwd=work)
        note(f"the wheel shoreguard-testing: {output.strip().splitlines()[-1] if output else ''}", succeeded, output)

        def path(protobuf):
            return str(tools / f"sdk_protobuf_{protobuf}")

        base = {k: v for k, v in os.environ.items() if not k.startswith("SHOREGUARD_")}
        base |= {"TEST_SHOREGUARD_BIN": str(server), "PYTHONDONTWRITEBYTECODE": "1"}
        newest = os.pathsep.join((path(PROTOBUFS[-1]), str(TESTING / "src")))
        env = {**base, "PYTHONPATH": newest, "OPENSHELL_SDK": str(tools / "sdk_openshell")}
        address = beside.enter_context(bench(found[main_version], env))

        def install(version):
            python = environment(found[version], work / version)
            began = time.monotonic()
            pip(found[version], python, sources)
            must([python, "-c", FIRST_CALL], env={**env, **address}, cwd=work)
            print(
                f"Python {version}: `pip install ./clients/python` to the first call in {time.monotonic() - began:.1f} s, "
                f"without its dependencies (target: under {INSTALL_TARGET} s with them)",
                flush=True,
            )
            return python

        # Before the tests begin, which would make the figures worse.
        pythons = {version: install(version) for version in found}

        # They wait most of their time, so they run beside everything else.
        pytest = [pythons[main_version], "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", "-W", "error"]
        cases = HERE / "test_cases.py"
        halves = [[*pytest, cases], [*pytest, HERE, f"--ignore={cases}"]]
        pool = beside.enter_context(ThreadPoolExecutor(len(halves)))
        tests = [pool.submit(run, half, env=env, cwd=work) for half in halves]

        quiet = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--wheel-dir", work]
        must([found[main_version], "-m", "pip", "wheel", *quiet, sources])
        wheel = next(work.glob("shoreguard_client-*.whl"))
        size = wheel.stat().st_size
        note(f"the wheel has {size:,} bytes, at most {WHEEL_MAX:,}", size <= WHEEL_MAX, "generated code has grown")
        note("nothing is compiled at the installation", wheel.name.endswith("-py3-none-any.whl"), wheel.name)

        def smoke(pair):
            version, protobuf = pair
            env = {**base, **address, "PYTHONPATH": path(protobuf)}
            return run([pythons[version], HERE / "smoke.py"], env=env, cwd=work)

        pairs = [(version, protobuf) for version in pythons for protobuf in PROTOBUFS]
        with ThreadPoolExecutor(2) as smoking:
            for (version, protobuf), (succeeded, output) in zip(pairs, smoking.map(smoke, pairs)):
                note(f"smoke: Python {version}, protobuf {protobuf}", succeeded, output)

        config = SDK / "pyproject.toml"
        env = {**base, "MYPYPATH": str(TESTING / "src")}
        mypy = [pythons[main_version], "-m", "mypy", f"--config-file={config}", f"--cache-dir={work / 'mypy'}"]
        note("mypy strict on the SDK", *run([*mypy, SDK / "src"], env=env, cwd=work))
        note("mypy strict on shoreguard-testing", *run([*mypy, TESTING / "src"], env=env, cwd=work))

        for half in tests:
            succeeded, output = half.result()
            print(output, flush=True)
            counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|error|skipped)", output[-400:])}
            # A test that is skipped here is not run at all.
            bad = sum(counts.get(word, 0) for word in ("failed", "error", "skipped"))
            passed, failed = passed + counts.get("passed", 0), failed + (bad or not succeeded)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
