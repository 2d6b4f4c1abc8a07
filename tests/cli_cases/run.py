"""Runs `clients/cases.json`, the table that all clients share, with the command line.

Each case is run with `shoreguard call`, with the command for its method, or with both. besides.py checks what the
table cannot say, such as where a credential comes from.

    python3 tests/cli_cases/run.py [--server target/debug/shoreguard] [--only PART_OF_A_NAME]

`scripts/tools` has installed what the bench needs. A case that is neither run nor listed in `NOT_RUN`, and a part of
a case that this program does not know, is a failure. The last line of the output is `N passed, M failed`. The exit code
is 1 if anything failed.
"""

import argparse
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import uuid

# No compiled files beside the sources.
sys.dont_write_bytecode = True

import besides  # noqa: E402
from cli import INTERRUPTED, PARTIAL, ROOT, SECONDS, Bench, Cli, Failure, Shown  # noqa: E402
from cli import check_error, must, terminal  # noqa: E402

TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))

# Cases that do not apply to a command line, by name, each with the reason.
NOT_RUN = {}

# What this program knows of a case, and of what a case expects.
PARTS = {
    "name", "kind", "key", "setup", "call", "request", "faults", "deadline_seconds", "wait_seconds", "take",
    "restart_after", "then", "expect",
}  # fmt: skip
EXPECTED = {
    "response", "error", "attempts", "seconds", "items", "items_contain", "unreachable", "operation",
    "operation_error", "progress", "gapless",
}  # fmt: skip
OF_ERRORS = {
    "code", "reason", "message", "fields", "metadata", "resource", "retry_after_seconds", "request_id", "oldest",
}  # fmt: skip


def flags(request, **names):
    """Returns flags with the values of a request. An enum is a word."""
    given = {names[field]: str(request[field]).removeprefix("ROLE_").lower() for field in names if field in request}
    return [part for pair in given.items() for part in pair]


# The commands of the table for the methods of the cases. A field that is not here has no flag.
COMMANDS = {
    "AuthService/GetServerInfo": lambda of: ["server", "info"],
    "AuthService/Login": lambda of: ["login", "--email", of["email"], "--password-stdin"],
    "GatewayService/GetGateway": lambda of: ["gateway", "get", of["gateway"]],
    "GatewayService/ListGateways": lambda of: ["gateway", "list", *flags(of, label_selector="--selector")],
    "GroupService/CreateGroup": lambda of: ["group", "create", of["name"], *flags(of, role="--role")],
    "SandboxService/CreateSandbox": lambda of: ["sandbox", "create", f"{of['gateway']}/{of['name']}"],
    "SandboxService/ListSandboxes": lambda of: ["sandbox", "list", *flags(of, gateway="--gateway")],
}


class Outcome:
    """What the user has seen of a case."""

    def __init__(self):
        self.shown = self.response = None
        self.items, self.unreachable, self.sequences = [], [], []
        self.progress = []
        self.operation = ""


def items(response):
    """Returns the items of a list: the only field that is a list beside `unreachable`."""
    lists = [value for name, value in response.items() if isinstance(value, list) and name != "unreachable"]
    return [item["name"] for item in (lists[0] if lists else [])]


def run_call(cli, case, out, _disturb):
    """`shoreguard call`; a list is continued with its tokens."""
    request = dict(case["request"])
    while True:
        out.shown = cli.call({**case, "request": request}, *seconds(case, "deadline_seconds"))
        if out.shown.code != 0:
            return
        out.response = out.shown.json()
        if case.get("kind") != "pages":
            return
        out.items += items(out.response)
        out.unreachable += [missing["gateway"] for missing in out.response.get("unreachable", ())]
        request["page_token"] = out.response.get("next_page_token", "")
        if not request["page_token"]:
            return


def run_command(cli, case, out, _disturb):
    """The command of the table; a list reads its pages by itself, as large as the server allows."""
    form = [] if case["call"] == "AuthService/Login" else ["-o", "json"]
    command = COMMANDS[case["call"]](case["request"])
    more = seconds(case, "deadline_seconds")
    out.shown = cli.run(*command, *form, *more, text=case["request"].get("password", ""))
    if out.shown.code not in (0, PARTIAL):
        return
    out.response = out.shown.json()
    if case.get("kind") == "pages":
        out.items = items(out.response)
        out.unreachable = [missing["gateway"] for missing in out.response.get("unreachable", ())]
        for gateway in out.unreachable:
            must(f"`{gateway}` did not answer" in out.shown.errors, f"`{gateway}` has no warning: {out.shown}")


def run_operation(cli, case, out, _disturb):
    """The command that begins the operation, then `shoreguard operation wait` on a terminal, which shows progress."""
    begun = cli.run(*COMMANDS[case["call"]](case["request"]), "-o", "json")
    must(begun.code == 0, f"the operation did not begin: {begun}")
    identity = begun.json()["operation"]["id"]
    command = [cli.program, "operation", "wait", identity, "-o", "json", *seconds(case, "wait_seconds")]
    with terminal() as (theirs, written), tempfile.TemporaryFile("w+") as output:
        env = {**cli.env, "TERM": "xterm"}
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": theirs}
        try:
            code = subprocess.run(list(map(str, command)), env=env, timeout=SECONDS, **streams).returncode
        except subprocess.TimeoutExpired as late:
            raise Failure("`operation wait` did not end") from late
        output.seek(0)
        text = output.read()
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "\n", "".join(written))
    lines = [line for line in drawn.splitlines() if line.strip()]
    out.progress = [line for line in lines if re.match(r"\s*\[.*\]\s+\d+%", line)]
    out.shown = Shown(code, text, "\n".join(line for line in lines if line not in out.progress))
    out.response = out.shown.json() if text else None
    out.operation = identity


def run_watch(cli, case, out, disturb):
    """`shoreguard event watch`; the position -1, which is now, is its default."""
    after = case["request"]["after_sequence"]
    command = ["event", "watch", "-o", "json", *(["--after", after] if after >= 0 else [])]
    lines, out.shown = cli.watch(*command, take=case["take"], note=disturb)
    out.sequences = [json.loads(line)["sequence"] for line in lines]


def seconds(case, part):
    """Returns the flag for a limit of time, which has whole seconds, and includes that of the connection."""
    return ["--timeout", math.ceil(case[part]) + 1] if part in case else []


def ways(case):
    """Returns how a case is run, each way with its name. Empty if this program cannot run it."""
    kind, call = case.get("kind", "unary"), case["call"]
    if kind == "watch":
        return {"event watch": run_watch} if call == "EventService/WatchEvents" else {}
    if kind == "operation":
        return {"operation wait": run_operation} if call in COMMANDS else {}
    if kind not in ("unary", "pages"):
        return {}
    found = {"call": run_call}
    # A command chooses the size of its pages by itself, so it cannot give a wrong one.
    if call in COMMANDS and case["request"].get("page_size", 1) > 0:
        words = [word for word in COMMANDS[call](case["request"])[:2] if not word.startswith("-")]
        found[" ".join(words)] = run_command
    return found


def contains(whole, part):
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(contains(whole.get(name), value) for name, value in part.items())
    return whole == part


def check_operation(out, expected, watched):
    """Checks how an operation has ended. `watched` is how many streams were opened."""
    if "operation_error" in expected:
        failed = expected["operation_error"]
        words = [failed["code"].lower().replace("_", " "), failed["message"], out.operation]
        is_named = all(word in out.shown.errors for word in words)
        must(out.shown.code == 1 and is_named, f"the operation has not failed so: {out.shown}")
        code = f"OPERATION_ERROR_CODE_{failed['code']}"
        must(out.response["error_code"] == code, f"the code is missing: {out.shown}")
    if "operation" in expected:
        must(out.response["status"] == expected["operation"], f"the operation is {out.response}")
    if expected.get("progress"):
        # The first stream is cut after a message. If another follows, the message was not the end, which it can be on a
        # very busy machine. The bar is drawn in place, so a state that is drawn twice is seen once.
        must(watched == 1 or out.progress, f"no progress is drawn: {out.shown}")


def check(case, out, took, bench, way):
    expected = case["expect"]
    if "error" in expected:
        check_error(out.shown, expected["error"])
    elif case.get("kind") == "watch":
        must(out.shown.code == INTERRUPTED, f"the watch has ended: {out.shown}")
    elif "operation_error" not in expected:
        is_partial = "unreachable" in expected and way != "call"
        must(out.shown.code == (PARTIAL if is_partial else 0), f"it failed: {out.shown}")
    if "response" in expected:
        must(contains(out.response, expected["response"]), f"the response is {out.shown}")
    check_operation(out, expected, bench.calls("WatchOperation"))
    if "attempts" in expected:
        attempts, least = bench.calls(case["call"].split("/")[1]), expected["attempts"]
        if case.get("kind") == "pages" and way != "call":
            # All items are in the first page of a command.
            least = 1 + sum(fault.get("times", 1) for fault in case["faults"])
        # A busy server can answer UNAVAILABLE by itself, which adds attempts.
        is_more = "error" not in expected and attempts > least
        must(attempts == least or is_more, f"{attempts} attempts in place of {least}: {out.shown}")
    if "seconds" in expected:
        must(expected["seconds"][0] <= took <= expected["seconds"][1], f"it took {took:.1f} s")
    must(out.items == expected.get("items", out.items), f"the items are {out.items}")
    missing = set(expected.get("items_contain", ())) - set(out.items)
    must(not missing, f"{missing} are missing in {out.items}")
    missing = set(expected.get("unreachable", ())) - set(out.unreachable)
    must(not missing, f"{missing} are not reported as unreachable: {out.shown}")
    if expected.get("gapless"):
        consecutive = [out.sequences[0] + at for at in range(case["take"])]
        must(out.sequences == consecutive, f"the sequences are {out.sequences}")


def slow_hook(sandbox):
    """Returns a call that makes the creation of a sandbox slow, so that another process can still see its progress."""
    hook = {"name": "slow", "phase": "BOOT_HOOK_PHASE_POST_CREATE", "command": "sleep 2"}
    place = {"gateway": sandbox["gateway"], "sandbox": sandbox["name"]}
    return {"call": "BootHookService/CreateBootHook", "request": place | hook}


def run_case(cli, bench, case, way, run):
    unique = uuid.uuid4().hex[:8]
    case = json.loads(json.dumps(case).replace("$UNIQUE", unique))
    bench.faults([])
    setup = list(case.get("setup", ()))
    if "restart_after" in case:
        # Only the events of this case, so that the restart is in the middle of them.
        listed = cli.run("call", "ListEvents", json.dumps({"page_size": 1000}))
        must(listed.code == 0, str(listed))
        case["request"]["after_sequence"] = listed.json()["events"][-1]["sequence"]
        for number in range(case["restart_after"]):
            made = {"name": f"s{number}-{unique}", "role": "ROLE_VIEWER"}
            setup.append({"call": "GroupService/CreateGroup", "request": made})
    if case["expect"].get("progress"):
        setup.append(slow_hook(case["request"]))
    for step in setup:
        cli.step(step)
    writers, wrong = [], []

    def write():
        try:
            for step in case["then"]:
                cli.step(step)
        except Failure as failure:
            wrong.append(failure)

    def disturb(count):
        if count == case.get("restart_after"):
            bench.restart()
            writers.append(threading.Thread(target=write))
            writers[0].start()

    bench.faults(case.get("faults", []))
    caller = Cli(cli.program, cli.env["HOME"], bench.endpoint, case.get("key", bench.key))
    out, began = Outcome(), time.monotonic()
    try:
        run(caller, case, out, disturb)
    finally:
        took = time.monotonic() - began
        for writer in writers:
            writer.join()
    for failure in wrong:
        raise failure
    check(case, out, took, bench, way)


def unknown(case):
    """Returns the parts of a case that this program would ignore."""
    expected = case["expect"]
    found = (case.keys() - PARTS) | (expected.keys() - EXPECTED) | (expected.get("error", {}).keys() - OF_ERRORS)
    return sorted(found)


def main():
    arguments = argparse.ArgumentParser(description="The command line and clients/cases.json.")
    arguments.add_argument("--server", type=pathlib.Path, default=TARGET / "debug" / "shoreguard")
    arguments.add_argument("--only", default="", help="runs only what has this text in its name")
    given = arguments.parse_args()
    server = given.server.resolve()
    if not server.exists():
        sys.exit(f"{server} is missing: run `cargo build` first")
    cases = json.loads((ROOT / "clients" / "cases.json").read_text())["cases"]
    passed = failed = 0

    def note(name, act, *parameters):
        nonlocal passed, failed
        if given.only not in name:
            return
        began = time.monotonic()
        try:
            act(*parameters)
        # A response without what this program reads is a failure, too.
        except (Failure, LookupError, TypeError, ValueError, OSError) as why:
            failed += 1
            print(f"FAIL  {name}: {why if isinstance(why, Failure) else repr(why)}", flush=True)
        else:
            passed += 1
            print(f"ok    {name} ({time.monotonic() - began:.1f} s)", flush=True)

    def is_complete():
        for case in cases:
            must(not unknown(case), f"`{case['name']}` has parts that are not checked: {', '.join(unknown(case))}")
            is_listed = case["name"] in NOT_RUN
            must(bool(ways(case)) != is_listed, f"`{case['name']}` must be either run or listed in NOT_RUN")
        missing = NOT_RUN.keys() - {case["name"] for case in cases}
        must(not missing, f"NOT_RUN lists what the table does not have: {missing}")

    note("every case is run or listed with a reason", is_complete)
    with Bench(server) as bench, tempfile.TemporaryDirectory(prefix="shoreguard-cli-cases-") as folder:
        home = pathlib.Path(folder, "home")
        home.mkdir()
        cli = Cli(server, home, bench.endpoint, bench.key)
        for case in cases:
            if case["name"] in NOT_RUN:
                print(f"not run: {case['name']}: {NOT_RUN[case['name']]}")
                continue
            for way, run in ways(case).items():
                note(f"{case['name']} ({way})", run_case, cli, bench, case, way, run)
        for act in besides.ALL:
            bench.faults([])
            with tempfile.TemporaryDirectory(dir=folder) as place:
                own = Cli(server, place, bench.endpoint, bench.key)
                note(act.__doc__, act, own, bench, pathlib.Path(place))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
