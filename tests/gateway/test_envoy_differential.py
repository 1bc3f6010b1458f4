"""The gateway beside Envoy's gRPC-JSON transcoder: the same requests reach the server, and the same replies return."""

from __future__ import annotations

from pathlib import Path

from tests.support.transcoders import run_fronts

SEED = 20_261_129
EACH = 8
"""Requests for each route: a thousand in all. `make prove` sends more."""


def test_requests_to_all_routes_equal_those_of_envoy(tmp_path: Path) -> None:
    with run_fronts(tmp_path) as fronts:
        assert fronts.compare(SEED, each=EACH) >= 1_000
