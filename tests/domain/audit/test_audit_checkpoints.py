"""Checkpoints that are deleted, replaced or forged: `verify` detects them from the log itself."""

from __future__ import annotations

from contextlib import closing

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from storekeep.server.domain.audit.checkpoints import PURPOSE, find_latest_checkpoint, make_signed_payload, sign_head
from storekeep.server.domain.audit.log import verify_chain
from storekeep.server.domain.keys.audit_chain import AuditChain, ChainKeysRemoved
from storekeep.server.domain.keys.encryption import SecretBox
from storekeep.server.domain.keys.keyrings import Keyring
from tests.domain.audit.test_audit_forgery import check, write_entries
from tests.support.installations import SECRET, Installation
from tests.support.stores import open_store

CHECKPOINTS = 3
one_engine = pytest.mark.engine("sqlite", reason="both engines store the same rows")


@pytest.fixture
def log(installation: Installation) -> Installation:
    """Return an installation with checkpoints, each with entries before and after it."""
    for _ in range(CHECKPOINTS):
        write_entries(installation.store, 2)
        assert sign_head(installation.store, installation.store.chain) == 1
    write_entries(installation.store, 2)
    return installation


def signed(log: Installation) -> list[int]:
    """Return the sequences of the signed entries."""
    with log.database.opened() as session:
        return [row[0] for row in session.rows("SELECT sequence FROM audit_checkpoints ORDER BY sequence")]


@pytest.mark.parametrize("deleted", [(0,), (1,), (2,), (0, 1), (0, 1, 2)], ids=str)
def test_verify_deleted_checkpoints_are_found(log: Installation, deleted: tuple[int, ...]) -> None:
    assert check(log.database).valid
    sequences = signed(log)
    with log.database.unguarded() as session:
        for place in deleted:
            session.run("DELETE FROM audit_checkpoints WHERE sequence = ?", sequences[place])
    report = check(log.database)
    first = sequences[deleted[0]]
    assert report.problem == f"auditCheckpoints/{first}, which it records, is missing"
    assert report.first_broken_entry == f"auditEntries/{first + 1}"


@one_engine
def test_verify_moved_checkpoint_is_found(log: Installation) -> None:
    sequences = signed(log)
    with log.database.unguarded() as session:
        session.run("UPDATE audit_checkpoints SET sequence = sequence + 1 WHERE sequence = ?", sequences[1])
    assert not check(log.database).valid


@pytest.mark.parametrize("sequence", [0, -1])
def test_verify_stray_checkpoint_is_found_and_hides_no_missing_one(log: Installation, sequence: int) -> None:
    with log.database.unguarded() as session:
        session.run(
            "INSERT INTO audit_checkpoints SELECT ?, chain, head_hash, key_id, signature, create_time_us"
            " FROM audit_checkpoints ORDER BY sequence LIMIT 1",
            sequence,
        )
    assert check(log.database).problem == f"auditCheckpoints/{sequence} signs no entry: sequences start at 1"
    write_entries(log.store, 1)
    assert sign_head(log.store, log.store.chain) == 1
    with log.database.unguarded() as session:
        session.run("DELETE FROM audit_checkpoints WHERE sequence = ?", sequence)
    assert check(log.database).valid


def sign_as_before(installation: Installation, sequence: int) -> None:
    """Sign an entry as older releases did, without an entry that records the checkpoint."""
    with installation.database.opened() as session:
        ((key_id, encrypted),) = session.rows("SELECT id, sealed_private_key FROM audit_keys")
        ((first_hash,),) = session.rows("SELECT entry_hash FROM audit_entries WHERE sequence = 1")
        ((head,),) = session.rows("SELECT entry_hash FROM audit_entries WHERE sequence = ?", sequence)
        opened = Keyring.from_secret(SECRET).decrypt(bytes(encrypted), purpose=PURPOSE, owner=key_id)
        chain = bytes(first_hash).hex()
        said = make_signed_payload(chain, sequence, bytes(head), 1, key_id)
        signature = Ed25519PrivateKey.from_private_bytes(opened).sign(said)
        session.run(
            "INSERT INTO audit_checkpoints (sequence, chain, head_hash, key_id, signature, create_time_us)"
            " VALUES (?, ?, ?, ?, ?, 1)",
            *(sequence, chain, head, key_id, signature),
        )


@one_engine
def test_verify_deleted_checkpoints_of_an_older_release_are_found(installation: Installation) -> None:
    """The first entry that records a checkpoint counts all checkpoints up to it."""
    for sequence in (2, 3, 5):
        sign_as_before(installation, sequence)
    assert check(installation.database).valid
    write_entries(installation.store, 1)
    sign_head(installation.store, installation.store.chain)
    assert check(installation.database).valid
    with installation.database.unguarded() as session:
        session.run("DELETE FROM audit_checkpoints WHERE sequence IN (2, 5)")
    assert check(installation.database).problem == "2 of the 4 checkpoints that it counts are missing"


@one_engine
def test_sign_head_of_an_idle_log_signs_nothing(log: Installation) -> None:
    assert sign_head(log.store, log.store.chain) == 1
    before = signed(log)
    for _ in range(3):
        assert sign_head(log.store, log.store.chain) == 0
    assert signed(log) == before
    write_entries(log.store, 1)
    assert sign_head(log.store, log.store.chain, entries=2, interval_s=3_600) == 0
    write_entries(log.store, 1)
    assert sign_head(log.store, log.store.chain, entries=2, interval_s=3_600) == 1


@one_engine
def test_verify_while_the_log_grows_holds(log: Installation) -> None:
    """Entries and checkpoints written after verification has started are not verified."""
    chain = log.store.chain

    class Growing:
        """A store that writes and signs an entry between two reads."""

        def __getattr__(self, name: str):
            return getattr(log.store, name)

        def read(self, work):
            write_entries(log.store, 1)
            sign_head(log.store, chain)
            return log.store.read(work)

    assert verify_chain(Growing(), chain).valid  # type: ignore[arg-type]  # it has the methods that verification calls
    assert check(log.database).valid


@one_engine
def test_removed_signing_key_of_checkpoints_is_found_and_nothing_is_signed(log: Installation) -> None:
    with log.database.unguarded() as session:
        session.run("PRAGMA foreign_keys = OFF")
        session.run("DELETE FROM audit_keys")
    write_entries(log.store, 1)
    with pytest.raises(ChainKeysRemoved):
        sign_head(log.store, log.store.chain)
    assert "auditKeys/" in check(log.database).problem


@pytest.mark.parametrize("column", ["public_key", "sealed_private_key"])
def test_replaced_key_of_checkpoints_is_found(log: Installation, column: str) -> None:
    with log.database.unguarded() as session:
        session.run(f"UPDATE audit_keys SET {column} = ?", bytes(32))
    assert "auditKeys/" in check(log.database).problem


@one_engine
def test_checkpoints_signed_anew_with_a_key_of_ones_own_are_found(log: Installation) -> None:
    """A key encrypted with another secret, or not encrypted at all, makes no valid checkpoint."""
    with log.database.unguarded() as session:
        ((key_id,),) = session.rows("SELECT id FROM audit_keys")
        encrypted = SecretBox(b"x" * 32, purpose="audit-checkpoint-key").encrypt(bytes(range(32)), owner=key_id)
        session.run("UPDATE audit_keys SET sealed_private_key = ?", encrypted)
    assert not check(log.database).valid


@one_engine
def test_verify_of_a_log_that_was_never_signed_holds(installation: Installation) -> None:
    """A server that is killed before its first checkpoint leaves such a database."""
    write_entries(installation.store, 50)
    assert find_latest_checkpoint(installation.store) is None
    with closing(open_store(installation.database.url)) as store:
        assert verify_chain(store, AuditChain(Keyring.from_secret(SECRET))).valid
