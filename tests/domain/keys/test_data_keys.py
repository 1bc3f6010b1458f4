"""Data keys: one for each person, encrypted with the key-encryption key (KEK), unusable everywhere once destroyed."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from storekeep.server.domain.errors import PersonalDataErased
from storekeep.server.domain.keys.data_keys import DataKeys, build_aad
from storekeep.server.domain.keys.encryption import DecryptionFailed, Mac, WordHash
from storekeep.server.domain.keys.personal_fields import get_word_hash, make_token
from storekeep.server.runtime.key_encryption import KeyUnknown, LocalKeyEncryption, make_key_id
from storekeep.server.store.sql.transactions import Transaction
from tests.support.databases import Database
from tests.support.stores import open_store

FIRST, SECOND = b"1" * 32, b"2" * 32
ALICE, BOB = "customers/alice", "customers/bob"
AAD = build_aad("customers", "alice", "email")
TEXT = b"alice@example.com"
MANY = 200


class Host:
    """One server process: a store and its data keys."""

    def __init__(self, database: Database, *keks: bytes, cache_max: int = 10_000) -> None:
        self.keks = list(keks or (FIRST,))
        self.store = open_store(database.url)
        self.keys = DataKeys(LocalKeyEncryption(lambda: tuple(self.keks)), cache_max=cache_max)
        self.store.data_keys = self.keys

    def encrypt(self, subject: str, text: bytes = TEXT, aad: bytes = AAD) -> bytes:
        return self.store.write(lambda tx: self.keys.encrypt(tx, subject, text, aad=aad))

    def decrypt(self, encrypted: bytes, aad: bytes = AAD) -> bytes | None:
        return self.store.read(lambda tx: self.keys.decrypt(tx, encrypted, aad=aad))

    def destroy(self, *subjects: str) -> int:
        return self.store.write(lambda tx: self.keys.destroy(tx, subjects))


@pytest.fixture
def hosts(database: Database) -> Iterator[tuple[Host, Host]]:
    pair = Host(database), Host(database)
    yield pair
    for host in pair:
        host.store.close()


@pytest.fixture
def host(hosts: tuple[Host, Host]) -> Host:
    return hosts[0]


def make_host(database: Database, *keks: bytes, cache_max: int = 10_000) -> Host:
    return Host(database, *keks, cache_max=cache_max)


def test_decrypt_elsewhere_returns_the_text(hosts: tuple[Host, Host]) -> None:
    encrypted = hosts[0].encrypt(ALICE)
    assert TEXT not in encrypted
    assert hosts[1].decrypt(encrypted) == TEXT


def test_encrypt_equal_data_gives_an_equal_result_and_other_data_another_nonce(host: Host) -> None:
    first, second, other = host.encrypt(ALICE), host.encrypt(ALICE), host.encrypt(ALICE, TEXT + b"x")
    assert first == second
    assert first[:9] == other[:9]
    assert first[9:21] != other[9:21]


def test_decrypt_moved_or_changed_data_is_refused(host: Host) -> None:
    encrypted = host.encrypt(ALICE)
    other = host.encrypt(BOB)
    for damaged, aad in (
        (encrypted, build_aad("customers", "bob", "email")),
        (encrypted, build_aad("customers", "alice", "phone")),
        (encrypted[:-1], AAD),
        (encrypted[:-1] + bytes([encrypted[-1] ^ 1]), AAD),
        (other[:9] + encrypted[9:], AAD),
        (b"", AAD),
        (b"\x02" + encrypted[1:], AAD),
    ):
        with pytest.raises(DecryptionFailed):
            host.decrypt(damaged, aad)


def test_build_aad_of_different_places_differs() -> None:
    assert build_aad("a", "b,c", "d") != build_aad("a,b", "c", "d")


def test_destroy_makes_data_unreadable_on_every_host_at_once(hosts: tuple[Host, Host]) -> None:
    here, there = hosts
    encrypted, other = here.encrypt(ALICE), here.encrypt(BOB)
    assert there.decrypt(encrypted) == here.decrypt(encrypted) == TEXT  # both have cached the key
    assert here.destroy(ALICE) == 1
    assert there.decrypt(encrypted) is here.decrypt(encrypted) is None
    assert there.decrypt(other) == TEXT
    for host in hosts:
        with pytest.raises(PersonalDataErased):
            host.encrypt(ALICE)
        assert host.store.read(lambda tx, host=host: host.keys.find_key(tx, ALICE)) is None
    assert here.destroy(ALICE) == 0


def test_destroy_that_is_rolled_back_destroys_nothing(host: Host) -> None:
    encrypted = host.encrypt(ALICE)

    def dry_run(tx: Transaction) -> bytes | None:
        host.keys.destroy(tx, (ALICE,))
        tx.rollback_only = True
        return host.keys.decrypt(tx, encrypted, aad=AAD)

    assert host.store.write(dry_run) is None
    assert host.decrypt(encrypted) == TEXT


def test_key_of_a_rolled_back_transaction_is_not_used_later(hosts: tuple[Host, Host]) -> None:
    """The number of the key goes to another one: data under the first would be lost."""
    here, there = hosts

    def dry_run(tx: Transaction) -> None:
        here.keys.encrypt(tx, ALICE, TEXT, aad=AAD)
        tx.rollback_only = True

    here.store.write(dry_run)
    for subject in (BOB, ALICE):
        assert there.decrypt(here.encrypt(subject)) == TEXT


def test_ensure_keys_of_many_creates_the_missing_ones(hosts: tuple[Host, Host]) -> None:
    here, there = hosts
    here.encrypt("customers/7")
    subjects = [f"customers/{number}" for number in range(MANY)]
    made = here.store.write(lambda tx: here.keys.ensure_keys(tx, subjects))
    assert sorted(made) == sorted(subjects)
    read = there.store.read(lambda tx: there.keys.find_keys(tx, [key.number for key in made.values()]))
    assert {key.subject: key.derive("test") for key in read.values()} == {
        subject: key.derive("test") for subject, key in made.items()
    }


def test_small_cache_stays_small_and_right(database: Database) -> None:
    host = make_host(database, cache_max=3)
    encrypted = [host.encrypt(f"customers/{number}") for number in range(10)]
    for _ in range(2):
        assert [host.decrypt(one) for one in encrypted] == [TEXT] * 10
    assert len(host.keys._cache.by_number) == len(host.keys._cache.by_subject) == 3
    host.store.close()


def test_two_hosts_create_the_key_of_one_person_together(hosts: tuple[Host, Host]) -> None:
    barrier = threading.Barrier(len(hosts))

    def encrypt(host: Host) -> list[bytes]:
        barrier.wait(timeout=30)
        return [host.encrypt(f"customers/{number}") for number in range(20)]

    with ThreadPoolExecutor(len(hosts)) as pool:
        results = list(pool.map(encrypt, hosts))
    for host in hosts:
        assert {host.decrypt(one) for result in results for one in result} == {TEXT}


def test_wrong_key_encryption_key_is_named(database: Database) -> None:
    host = make_host(database)
    encrypted = host.encrypt(ALICE)
    host.store.close()
    other = make_host(database, SECOND)
    with pytest.raises(KeyUnknown, match=make_key_id(FIRST)):
        other.store.read(other.keys.check)
    with pytest.raises(KeyUnknown):
        other.decrypt(encrypted)
    with pytest.raises(KeyUnknown):
        other.encrypt(BOB)
    other.store.close()


@pytest.mark.parametrize("size", [0, 1, 55, 64, 65, 5_000])
def test_mac_is_that_of_the_standard_library(size: int) -> None:
    for key in (b"", b"k" * 32, b"k" * 64, b"k" * 65):
        message = (bytes(range(256)) * 20)[:size]
        expected = hmac.digest(key, message, "sha256")
        assert Mac(key).compute(message) == Mac(key, prefix=message[:50]).compute(message[50:]) == expected


def test_hash_of_words_is_that_of_the_standard_library() -> None:
    words = ["", "a", "茶", "w" * 300]
    expected = [hashlib.blake2b(word.encode(), key=b"k" * 32, digest_size=16).hexdigest() for word in words]
    assert WordHash(b"k" * 32).compute_many(words) == expected


def test_words_are_hashed_with_a_key_of_their_own(host: Host) -> None:
    def work(tx: Transaction) -> None:
        tokens = get_word_hash(tx).compute_many(("tea", "cup", "tea"))
        assert tokens[0] == tokens[2] != tokens[1]
        assert make_token(tx, "word", "tea") not in tokens

    host.store.write(work)
