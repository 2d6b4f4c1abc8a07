"""The server of the tests, one bench for all of them, and the folder of their contexts."""

import pathlib
from collections.abc import Iterator

import pytest
from shoreguard_testing.bench import Bench, bench as running_bench


@pytest.fixture(scope="session")
def bench() -> Iterator[Bench]:
    with running_bench() as running:
        yield running


@pytest.fixture
def home(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty folder of contexts, and no variables."""
    for name in ("SHOREGUARD_ENDPOINT", "SHOREGUARD_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "shoreguard"
    folder.mkdir()
    return folder
