"""The Python blocks of the README can be pasted into Python, in order."""

from __future__ import annotations

import code
import pathlib
import re
from typing import Any

import pytest
import shoreguard_testing

README = pathlib.Path(__file__).resolve().parents[1] / "README.md"


class Console(code.InteractiveConsole):
    def __init__(self) -> None:
        super().__init__()
        self.failed = ""

    def write(self, data: str) -> None:
        self.failed += data


def test_the_blocks_can_be_pasted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 4
    with shoreguard_testing.server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        console: Any = Console()
        for block in blocks:
            for line in [*block.split("\n"), ""]:
                console.push(line)
                assert not console.failed, f"{line}\n{console.failed}"
        console.push("client.close()")
    shown = capsys.readouterr().out
    for part in ("dev-0-1 0.1.5", "100 ", "hello SANDBOX_PHASE_READY", "NOT_FOUND", "'They read.'", "group.created"):
        assert part in shown
