"""The server's secrets as one process knows them: a rotation is seen by all of its threads."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from storekeep.server.domain.keys.encryption import DecryptionFailed, SecretBox
from storekeep.server.domain.keys.keyrings import Keyring

THREADS = 8
ROTATIONS = 100
PURPOSE = "signing-key"


@pytest.fixture(autouse=True)
def frequent_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_threads_that_meet_a_rotation_together_all_decrypt() -> None:
    """The thread that read the secrets second thought that nothing had changed, and failed its call."""
    secrets = [b"0" * 32]
    keyring = Keyring(lambda: tuple(secrets))
    barrier = threading.Barrier(THREADS)

    def decrypt(encrypted: bytes) -> bytes:
        barrier.wait()
        return keyring.decrypt(encrypted, purpose=PURPOSE, owner="key")

    with ThreadPoolExecutor(THREADS) as pool:
        for number in range(ROTATIONS):
            secrets[:] = [number.to_bytes(32), secrets[0]]
            encrypted = SecretBox(secrets[0], purpose=PURPOSE).encrypt(b"data", owner="key")
            assert list(pool.map(decrypt, [encrypted] * THREADS)) == [b"data"] * THREADS


def test_data_of_an_unknown_secret_is_not_decrypted() -> None:
    encrypted = SecretBox(b"1" * 32, purpose=PURPOSE).encrypt(b"data", owner="key")
    with pytest.raises(DecryptionFailed):
        Keyring.from_secret(b"0" * 32).decrypt(encrypted, purpose=PURPOSE, owner="key")
