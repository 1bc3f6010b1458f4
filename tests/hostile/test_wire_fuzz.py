"""A short run of the wire fuzzing that `make prove` runs at length; see `tests/support/wire_fuzz.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.wire_fuzz import Fuzzer, Target

INPUTS = 2_000


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    """Start a server in this process."""
    made = Target(tmp_path)
    yield made
    made.close()


def test_whatever_comes_is_answered_with_a_reason_and_soon(target: Target):
    fuzzer = Fuzzer(target, seed=1)
    fuzzer.run(INPUTS)
    assert {"INVALID_FIELD", "MALFORMED_MESSAGE", "INVALID_FILTER", "UNAUTHENTICATED", "OK"} <= set(fuzzer.outcomes)
