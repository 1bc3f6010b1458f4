"""Kills of the server while it sends webhooks: after the repetitions are dropped, a receiver has exactly the events."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import MakeServer
from tests.support.budgets import ROUNDS, SEED
from tests.support.receivers import receive
from tests.support.webhook_kills import kill_while_sending


def test_receiver_has_exactly_the_committed_events(make_server: MakeServer, tmp_path: Path):
    with receive(tmp_path) as receiver:
        events, messages = kill_while_sending(make_server, receiver, rounds=max(5, ROUNDS // 6), seed=SEED)
    print(f"\n{events} events, {messages} messages")  # noqa: T201 - the result
