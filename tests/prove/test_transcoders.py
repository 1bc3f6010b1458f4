"""The gateway beside Envoy's gRPC-JSON transcoder, with new requests for a part of PROVE_SECONDS."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

from tests.support.budgets import SECONDS, SEED
from tests.support.transcoders import run_fronts

SHARE = 0.2
"""Of PROVE_SECONDS: 2 minutes by default, about 30,000 requests."""
EACH = 4


def test_requests_to_all_routes_equal_those_of_envoy(tmp_path: Path) -> None:
    end = time.monotonic() + SHARE * SECONDS
    number = 0
    with run_fronts(tmp_path) as fronts:
        for seed in itertools.count(SEED):
            number += fronts.compare(seed, each=EACH)
            if time.monotonic() > end:
                break
    assert number
