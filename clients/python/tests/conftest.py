"""The server of the tests: one bench for all of them."""

from collections.abc import Iterator

import pytest
from shoreguard_testing.bench import Bench, bench as running_bench


@pytest.fixture(scope="session")
def bench() -> Iterator[Bench]:
    with running_bench() as running:
        yield running
