"""A million inputs to all parsers of request data: no unexpected exception, and at most 50 ms of CPU for each.

PROVE_INPUTS sets the number of inputs and PROVE_SEED the seed. Inputs that reach new code are also sent to a server. At
the end, the coverage of the parsers' lines is checked.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import grpc
import pytest

from tests.conftest import MakeServer
from tests.support.budgets import INPUTS, SEED
from tests.support.refusals import parse_refusal
from tests.support.shops import Shop
from tests.support.wire_fuzz import PARSERS, Fuzzer, Input, Target, list_executable_lines, trace_lines

COVERED_MIN = 0.75
"""Covered share of the parsers' lines. The others are for settings, and for servers with replicas or workers."""
REPLAYED_MAX = 5_000


@pytest.mark.engine("sqlite", reason="what is fuzzed stands before the database")
def test_million_inputs_are_answered_with_a_reason_and_soon(make_server: MakeServer, tmp_path: Path):
    server = make_server(
        log_level="ERROR",
        rate_limits_per_address="",
        failed_credentials_burst="1000000",
        access_token_lifetime_s="86400",  # a run may take hours
    )
    over_the_wire: Counter[str] = Counter()
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)

        def send(one: Input) -> None:
            try:
                shop.send(one.path, one.raw, timeout=60)
                over_the_wire["OK"] += 1
            except grpc.RpcError as error:
                over_the_wire[parse_refusal(error, said=one.raw).reason] += 1

        target = Target(tmp_path / "target")
        fuzzer = Fuzzer(target, seed=SEED)
        fuzzer.run(INPUTS, also=send)
        target.close()
    assert server.process.poll() is None
    found = {
        "inputs": INPUTS,
        "slowest_ms": round(fuzzer.slowest_s * 1000, 1),
        "in process": dict(fuzzer.outcomes.most_common()),
        "over the wire": dict(over_the_wire.most_common()),
    }
    shares = shares_run(tmp_path / "replay", fuzzer.corpus[:REPLAYED_MAX])
    print(f"\n{found}, lines run: {shares}")  # noqa: T201 - the result
    assert min(shares.values()) >= COVERED_MIN


def shares_run(folder: Path, corpus: list[Input]) -> dict[str, float]:
    """Return the shares of the parsers' lines that run for the kept inputs and as many new ones."""
    with trace_lines(PARSERS) as run:
        target = Target(folder)
        for one in corpus:
            target.send(one)
        fuzzer = Fuzzer(target, seed=SEED + 1, cpu_max_s=math.inf)
        fuzzer.corpus = list(corpus)
        fuzzer.run(len(corpus))
        target.close()
    lines = {module: list_executable_lines(module) for module in PARSERS}
    return {module.__name__: round(len(ran & run[module.__file__]) / len(ran), 2) for module, ran in lines.items()}
