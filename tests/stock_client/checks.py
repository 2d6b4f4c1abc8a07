"""Checks of the stock OpenShell SDK with a gateway. run.py runs them once for each generation.

Each check is a function whose name says what must hold. The other checks run even if one fails. The SDKs differ in a
few signatures, which the methods of `Gateway` hide. Almost nothing else depends on the generation.
"""

import os
import signal
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import grpc
from openshell import sandbox as sdk

CALL_SECONDS = 15
PHASE_SECONDS = 30
ALL_SECONDS = 150

WORKSPACE = "default"
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


class Gateway:
    """The SDK's client of one generation."""

    def __init__(self, generation, address, key):
        self.generation = generation
        self.address = address
        self.client = sdk.SandboxClient(address, bearer_token=key, timeout=CALL_SECONDS)
        # Created by the first check that needs it, and deleted by the last check.
        self.sandbox = None

    def stranger(self, token):
        """Returns a client with another token, or without one."""
        return sdk.SandboxClient(self.address, bearer_token=token, timeout=CALL_SECONDS)

    def names(self, page=100):
        """Returns the names of all sandboxes, listed in pages of this size."""
        if self.generation == "0.1":
            return [s.name for s in self.client.list_all(workspace=WORKSPACE, page_size=page)]
        names = []
        while True:
            found = self.client.list(workspace=WORKSPACE, limit=page, offset=len(names))
            names += [s.name for s in found]
            if len(found) < page:
                return names

    def labelled(self, selector):
        """Returns the names of the sandboxes that match a label selector."""
        if self.generation == "0.1":
            found = self.client.list_all(workspace=WORKSPACE, label_selector=selector)
        else:
            found = self.client.list(workspace=WORKSPACE, label_selector=selector)
        return [s.name for s in found]

    def exec(self, command, **more):
        """Runs a command. Generation 0.1 uses the name of the sandbox, 0.0 its ID."""
        if self.generation == "0.1":
            return self.client.exec(self.sandbox.name, command, workspace=WORKSPACE, **more)
        return self.client.exec(self.sandbox.id, command, **more)

    def exec_stream(self, command, client=None):
        client = client or self.client
        if self.generation == "0.1":
            return client.exec_stream(self.sandbox.name, command, workspace=WORKSPACE)
        return client.exec_stream(self.sandbox.id, command)


def refused(call, *codes):
    """Checks that a call is refused with one of these codes. Returns its error."""
    try:
        answer = call()
    except grpc.RpcError as error:
        assert error.code() in codes, f"{error.code()}: {error.details()}"
        return error
    raise AssertionError(f"was answered: {answer}")


def equal(found, expected):
    assert found == expected, f"found {found!r}, expected {expected!r}"


@check
def health_tells_the_version(gateway):
    health = gateway.client.health()
    assert health.version.startswith(f"{gateway.generation}."), health


@check
def a_sandbox_is_created_and_becomes_ready(gateway):
    made = gateway.client.create(workspace=WORKSPACE, name="stock", labels={"made-by": "stock-client"})
    equal((made.name, made.workspace), ("stock", WORKSPACE))
    gateway.sandbox = gateway.client.wait_ready("stock", workspace=WORKSPACE, timeout_seconds=PHASE_SECONDS)
    equal(gateway.sandbox.id, made.id)


@check
def a_second_one_of_that_name_is_refused(gateway):
    refused(
        lambda: gateway.client.create(workspace=WORKSPACE, name="stock"), grpc.StatusCode.ALREADY_EXISTS
    )


@check
def it_is_found_by_name(gateway):
    found = gateway.client.get("stock", workspace=WORKSPACE)
    equal((found.id, dict(found.labels)), (gateway.sandbox.id, {"made-by": "stock-client"}))


@check
def it_is_in_the_list_page_by_page(gateway):
    names = gateway.names()
    assert "stock" in names, names
    equal(sorted(gateway.names(page=1)), sorted(names))


@check
def it_is_found_by_label(gateway):
    equal(gateway.labelled("made-by=stock-client"), ["stock"])


@check
def a_command_gives_its_output(gateway):
    result = gateway.exec(["echo", "hello"])
    equal((result.exit_code, result.stdout, result.stderr), (0, "hello\n", ""))


@check
def a_command_gives_its_exit_code_and_errors(gateway):
    result = gateway.exec(["sh", "-c", "echo out; echo err >&2; exit 3"])
    equal((result.exit_code, result.stdout, result.stderr), (3, "out\n", "err\n"))


@check
def a_command_gets_input_environment_and_folder(gateway):
    equal(gateway.exec(["cat"], stdin=b"abc").stdout, "abc")
    assert "GREETING=hi\n" in gateway.exec(["env"], env={"GREETING": "hi"}).stdout
    equal(gateway.exec(["pwd"], workdir="/tmp").stdout, "/tmp\n")


@check
def a_long_output_comes_whole_and_in_order(gateway):
    expected = "".join(f"{n}\n" for n in range(1, 200_001))
    assert gateway.exec(["seq", "200000"]).stdout == expected


@check
def output_comes_while_the_command_runs(gateway):
    began = time.monotonic()
    stream = gateway.exec_stream(["sh", "-c", "echo first; sleep 2; echo last"])
    first = next(stream)
    after = time.monotonic() - began
    rest = list(stream)
    equal((first.data, rest[-1].stdout), (b"first\n", "first\nlast\n"))
    assert after < 1.5, f"the first line came after {after:.1f} s"


@check
def many_commands_run_at_once(gateway):
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda n: gateway.exec(["echo", str(n)]), range(64)))
    equal([r.stdout for r in results], [f"{n}\n" for n in range(64)])


@check
def a_stream_that_is_given_up_harms_no_other(gateway):
    for _ in range(20):
        with gateway.stranger(os.environ["STOCK_CLIENT_KEY"]) as other, ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(next, gateway.exec_stream(["sleep", "60"], client=other))
            time.sleep(0.02)
            equal(gateway.exec(["echo", "alive"]).stdout, "alive\n")
            other.close()
            assert waiting.exception(CALL_SECONDS) is not None


@check
def it_stops_and_starts(gateway):
    gateway.client.stop("stock", workspace=WORKSPACE)
    gateway.client.wait_stopped("stock", workspace=WORKSPACE, timeout_seconds=PHASE_SECONDS)
    refused(lambda: gateway.exec(["echo"]), grpc.StatusCode.FAILED_PRECONDITION)
    gateway.client.start("stock", workspace=WORKSPACE)
    gateway.client.wait_ready("stock", workspace=WORKSPACE, timeout_seconds=PHASE_SECONDS)
    equal(gateway.exec(["echo", "again"]).stdout, "again\n")


@check
def workspaces_are_listed(gateway):
    client = sdk.WorkspaceClient.from_sandbox_client(gateway.client)
    names = [w.name for w in (client.list_all() if gateway.generation == "0.1" else client.list())]
    assert WORKSPACE in names, names


@check
def what_does_not_exist_is_not_found(gateway):
    refused(lambda: gateway.client.get("no-such", workspace=WORKSPACE), grpc.StatusCode.NOT_FOUND)


@check
def without_a_token_nothing_is_answered(gateway):
    with gateway.stranger(None) as nobody:
        error = refused(lambda: nobody.get("stock", workspace=WORKSPACE), grpc.StatusCode.UNAUTHENTICATED)
        if gateway.generation == "0.1":
            equal((error.error_info.domain, error.error_info.reason), ("shoreguard", "CREDENTIAL_MISSING"))


@check
def with_a_wrong_token_nothing_is_answered(gateway):
    with gateway.stranger("sg_" + "x" * 43) as nobody:
        error = refused(lambda: nobody.get("stock", workspace=WORKSPACE), grpc.StatusCode.UNAUTHENTICATED)
        if gateway.generation == "0.1":
            equal((error.error_info.domain, error.error_info.reason), ("shoreguard", "CREDENTIAL_INVALID"))


@check
def it_is_deleted(gateway):
    outcome = gateway.client.delete("stock", workspace=WORKSPACE)
    if gateway.generation == "0.0":
        equal(outcome, True)
    gateway.client.wait_deleted("stock", workspace=WORKSPACE, timeout_seconds=PHASE_SECONDS)
    assert "stock" not in gateway.names()


def late(*_):
    raise TimeoutError(f"the checks took longer than {ALL_SECONDS} s")


def main():
    signal.signal(signal.SIGALRM, late)
    signal.alarm(ALL_SECONDS)
    generation, address = sys.argv[1:]
    gateway = Gateway(generation, address, os.environ["STOCK_CLIENT_KEY"])
    held = 0
    for function in CHECKS:
        name = function.__name__.replace("_", " ")
        began = time.monotonic()
        try:
            function(gateway)
            held += 1
            print(f"ok    {name} ({time.monotonic() - began:.2f} s)")
        except Exception:  # any failure, so that the other checks still run
            print(f"FAIL  {name}")
            traceback.print_exc(file=sys.stdout)
    gateway.client.close()
    print(f"{held} of {len(CHECKS)} checks hold")
    return 0 if held == len(CHECKS) else 1


if __name__ == "__main__":
    sys.exit(main())
