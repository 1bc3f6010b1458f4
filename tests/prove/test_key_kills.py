"""Kills during erasures, rotations of the key-encryption key and `migrate`; see `tests.support.key_kills`."""

from __future__ import annotations

from tests.conftest import MakeServer
from tests.support.budgets import ROUNDS, SEED
from tests.support.key_kills import kill_migrations, kill_rotations, kill_while_erasing


def test_erasures_are_whole_after_kills(make_server: MakeServer) -> None:
    erased, customers = kill_while_erasing(make_server(), rounds=max(5, ROUNDS // 6), seed=SEED)
    print(f"\n{erased} of {customers} customers erased")  # noqa: T201 - the result
    assert erased < customers, "no kill came before the last erasure"


def test_rotations_lose_no_key_by_kills(make_server: MakeServer) -> None:
    rounds = max(5, ROUNDS // 6)
    halfway = kill_rotations(make_server(), rounds=rounds, seed=SEED)
    print(f"\n{halfway} of {rounds} rotations killed halfway")  # noqa: T201 - the result


def test_migrations_encrypt_everything_after_kills(make_server: MakeServer) -> None:
    rounds = max(3, ROUNDS // 12)
    killed = kill_migrations(make_server(), rounds=rounds, seed=SEED)
    print(f"\n{killed} migrations killed in {rounds} rounds")  # noqa: T201 - the result
