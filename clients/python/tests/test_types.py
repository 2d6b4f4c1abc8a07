"""mypy strict accepts a program that uses the client, and finds what is misspelled."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import pytest

pytest.importorskip("mypy")

PROGRAM = '''
import asyncio
import datetime

import shoreguard_client as sg
from shoreguard_client import v1


def main() -> None:
    with sg.Client("https://shoreguard.example.com", key="sg_x") as client:
        names: list[str] = [g.name for g in client.gateways.list_gateways(label_selector="env=prod")]
        operation = client.sandboxes.create_sandbox(gateway=names[0], name="agent", labels={"team": "ml"})
        box: v1.Operation = operation.wait(timeout=120, progress=lambda o: print(o.progress_percent))
        client.groups.create_group(name=box.sandbox, role=v1.ROLE_VIEWER)
        client.operations.wait_operation(operation=operation.id, timeout=datetime.timedelta(seconds=5))
        for event in client.events.watch_events(after_sequence=0):
            sequence: int = event.sequence
            print(sequence, event.event_time.ToDatetime())
        try:
            client.gateways.get_gateway(gateway="nope")
        except sg.NotFound as error:
            if error.reason is sg.Reason.NOT_FOUND and error.resource:
                print(error.resource.name, error.fields.get("gateway"), error.retry_after)


async def main_async() -> None:
    async with sg.AsyncClient() as client:
        async for gateway in client.gateways.list_gateways():
            print(gateway.version)
        operation = await client.sandboxes.create_sandbox(gateway="prod", name="agent")
        print((await operation.wait()).sandbox)


main()
asyncio.run(main_async())
'''

WRONG = [
    ('label_selector="env=prod"', 'label_selektor="env=prod"', "label_selektor"),
    ("event.sequence", "event.sequenze", "sequenze"),
    ("box.sandbox", "box.sandboks", "sandboks"),
    ("client.gateways.get_gateway", "client.gateways.get_gatevay", "get_gatevay"),
    ("v1.ROLE_VIEWER", "v1.ROLE_VEIWER", "ROLE_VEIWER"),
    ('gateway="nope"', "gateway=3", "int"),
    ("gateway.version", "gateway.versoin", "versoin"),
    ("error.fields", "error.feilds", "feilds"),
    ("(await operation.wait())", "operation.wait()", "sandbox"),
]


def check(folder: pathlib.Path, files: dict[str, str]) -> dict[str, list[str]]:
    """Returns the errors that mypy reports for each file."""
    for name, text in files.items():
        (folder / name).write_text(text)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", f"--cache-dir={folder}/cache", *files]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    found: dict[str, list[str]] = {name: [] for name in files}
    for line in done.stdout.splitlines():
        if match := re.match(r"(\w+\.py):\d+: error: (.*)", line):
            found[match[1]].append(match[2])
    assert done.stderr == ""
    return found


def test_a_program_passes_and_each_misspelling_is_found(tmp_path: pathlib.Path) -> None:
    files = {"right.py": PROGRAM}
    for at, (right, wrong, _) in enumerate(WRONG):
        assert right in PROGRAM
        files[f"wrong{at}.py"] = PROGRAM.replace(right, wrong, 1)
    found = check(tmp_path, files)
    assert found["right.py"] == []
    for at, (_, wrong, part) in enumerate(WRONG):
        assert any(part in error for error in found[f"wrong{at}.py"]), f"{wrong}: {found[f'wrong{at}.py']}"
