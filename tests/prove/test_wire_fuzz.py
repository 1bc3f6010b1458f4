"""A million inputs to all that reads what a caller sends: no defect, none slower than 50 ms of CPU.

PROVE_INPUTS says how many, PROVE_SEED of which campaign. What is new is sent to a server over the wire, too. At the end
the lines are counted that the parsers have run.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import grpc
import pytest

from tests.conftest import MakeServer
from tests.support.budgets import INPUTS, SEED
from tests.support.refusals import refusal_of
from tests.support.shops import Shop
from tests.support.wire_fuzz import PARSERS, Fuzzer, Input, Target, lines_of, lines_run

COVERED_MIN = 0.75
"""Of the lines of the parsers; the others belong to settings, and to servers with replicas or workers."""
REPLAYED_MAX = 5_000


@pytest.mark.engine("sqlite", reason="what is fuzzed stands before the database")
def test_million_inputs_are_answered_with_a_reason_and_soon(make_server: MakeServer, tmp_path: Path):
    server = make_server(log_level="ERROR", rate_limits_per_address="", failed_credentials_burst="1000000")
    over_the_wire: Counter[str] = Counter()
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)

        def send(one: Input) -> None:
            try:
                shop.send(one.path, one.raw, timeout=60)
                over_the_wire["OK"] += 1
            except grpc.RpcError as error:
                over_the_wire[refusal_of(error, said=one.raw).reason] += 1

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
    print(f"\n{found}, lines run: {shares}")  # noqa: T201 - what a campaign found
    assert min(shares.values()) >= COVERED_MIN


def shares_run(folder: Path, corpus: list[Input]) -> dict[str, float]:
    """Which shares of the parsers' lines are run by inputs that a campaign has kept, and as many new ones."""
    with lines_run(PARSERS) as run:
        target = Target(folder)
        for one in corpus:
            target.send(one)
        fuzzer = Fuzzer(target, seed=SEED + 1, cpu_max_s=math.inf)
        fuzzer.corpus = list(corpus)
        fuzzer.run(len(corpus))
        target.close()
    lines = {module: lines_of(module) for module in PARSERS}
    return {module.__name__: round(len(ran & run[module.__file__]) / len(ran), 2) for module, ran in lines.items()}
