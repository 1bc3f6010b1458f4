"""Strength of secrets: generated secrets pass, invented ones do not."""

from __future__ import annotations

import base64
import random
import string
import uuid
from collections.abc import Callable

import pytest

from storekeep.server.runtime.secret_strength import is_weak

SEED = 20261128
TRIES = 300


def letters(alphabet: str, length: int) -> Callable[[random.Random], bytes]:
    return lambda source: "".join(source.choices(alphabet, k=length)).encode()


@pytest.mark.parametrize(
    "make",
    [
        lambda source: source.randbytes(16).hex().encode(),
        lambda source: source.randbytes(32).hex().encode(),
        lambda source: source.randbytes(400).hex().encode(),
        lambda source: base64.b64encode(source.randbytes(32)),
        lambda source: base64.urlsafe_b64encode(source.randbytes(24)),
        lambda source: source.randbytes(32),
        lambda source: str(uuid.UUID(bytes=source.randbytes(16), version=4)).encode(),
        letters(string.ascii_lowercase, 32),
        letters(string.ascii_letters + string.digits, 43),
        letters(string.ascii_letters + string.digits + string.punctuation, 32),
    ],
)
def test_random_secret_is_strong(make):
    source = random.Random(SEED)
    assert [secret for secret in (make(source) for _ in range(TRIES)) if is_weak(secret)] == []


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "short",
        "9b1c40f7d2e35a86e07f4c1d93b2a65",
        "a" * 64,
        "aaaaaaaabbbbbbbbccccccccdddddddd",
        "abcdefgh" * 8,
        "hgfbacde" + "cafehdbgdhcbaegf" * 3,
        "0123456789abcdef" * 2,
        "0123456789abcdef" * 4,
        "00112233445566778899aabbccddeeff",
        "deadbeefcafebabedeadbeefcafebabe",
        "1a2b3c4d5e6f7g8h9i0j1k2l3m4n5o6p",
        "abcdefghijklmnopqrstuvwxyz0123456789",
        "zyxwvutsrqponmlkjihgfedcba987654",
        "acegikmoqsuwyacegikmoqsuwyacegik",
        "qwertyuiopasdfghjklzxcvbnm123456",
        "12345678901234567890123456789012",
        "passwordpasswordpasswordpassword",
        "Password1!Password2!Password3!Pa",
        "P4ssw0rd!P4ssw0rd!P4ssw0rd!P4ssw0",
        "hunter2hunter2hunter2hunter2hunter2",
        "this-is-my-super-secret-key-1234",
        "correct horse battery staple correct",
        "MySecretKeyForProductionUse2026!!",
        "storekeep-secret-storekeep-secret",
        "changeme changeme changeme changeme",
        "the weather in the northern islands is rather pleasant",
    ],
)
def test_secret_that_somebody_made_up_is_weak(secret):
    assert is_weak(secret.encode())


def test_sequence_of_bytes_is_weak():
    assert is_weak(bytes(range(32)))
    assert is_weak(bytes(range(0, 256, 3)))
