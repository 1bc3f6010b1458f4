"""The floor that stores personal data in clear replaces functions of the server, so it breaks when they change."""

from __future__ import annotations

from pathlib import Path

from benchmarks import catalogue, migration


def test_persons_stored_in_clear_are_encrypted_by_migrate(tmp_path: Path) -> None:
    migration._store_in_clear(tmp_path, 20)
    assert catalogue.NAME.encode() in (tmp_path / "storekeep.db").read_bytes()
    migration._migrate(tmp_path)
    migration._check(tmp_path)
