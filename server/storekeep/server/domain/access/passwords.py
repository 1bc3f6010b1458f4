"""Passwords: the rules for new ones (NIST SP 800-63B-4, 3.1.1.2), and their hashes (argon2id, RFC 9106).

Lengths and comparisons use the NFC form. Hashing runs in the caller's thread, never in the writer's.
"""

from __future__ import annotations

import base64
import gzip
import itertools
import unicodedata
from functools import cache
from importlib.resources import files

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from storekeep.server.domain.errors import PasswordNotAllowed

COMMON_FILE = "common_passwords.txt.gz"
"""19,000 common passwords from breaches, in lower case: those of at least four characters in the list of Django 5.2,
which Royce Williams compiled from Have I Been Pwned (BSD licence)."""
COMMON_LENGTHS = range(4, 33)
COMMON_PARTS_MAX = 2
"""A password that is this many common passwords, one after the other, is as easy to guess as one."""
SEQUENCE_LENGTH_MIN = 4
"""The shortest series, such as `1234`, that two series in a row are refused for."""
SERVICE_NAME = "storekeep"
OWN_WORD_LENGTH_MIN = 4


class Passwords:
    """Checks, hashes and verifies passwords.

    Args:
        length_min: the fewest characters of a new password.
        memory_kib: memory of one hash in KiB.
        passes: number of passes over the memory.
    """

    def __init__(self, *, length_min: int, memory_kib: int, passes: int) -> None:
        self._length_min = length_min
        self._hasher = PasswordHasher(time_cost=passes, memory_cost=memory_kib, parallelism=1)
        # Made up, not hashed: checking a password against it takes as long, and the start 25 ms less.
        self._unknown = f"$argon2id$v=19$m={memory_kib},t={passes},p=1${_encode(bytes(16))}${_encode(bytes(32))}"

    def check_new(self, password: str, *, own_words: tuple[str, ...], current: str = "") -> None:
        """Raise unless a new password follows the rules.

        Args:
            own_words: the email address and the name of the user, which are easy to guess.
            current: the password that it replaces; empty if it is not known.

        Raises: PasswordNotAllowed.
        """
        text = _normalize(password)
        if len(text) < self._length_min:
            raise PasswordNotAllowed(f"it has fewer than {self._length_min} characters")
        if text == _normalize(current):
            raise PasswordNotAllowed("it is the current one")
        lowered = text.casefold()
        if is_series(lowered):
            raise PasswordNotAllowed("it repeats itself, or is a series of characters")
        if count_common_parts(lowered) <= COMMON_PARTS_MAX:
            raise PasswordNotAllowed("it is one of the most common passwords, or two of them")
        rest = lowered
        for word in sorted((SERVICE_NAME, *_list_own_words(own_words)), key=len, reverse=True):
            rest = rest.replace(word, "")
        if rest != lowered and (len(rest) < self._length_min // 2 or is_series(rest)):
            raise PasswordNotAllowed("it is little more than your name or email address, or that of this service")

    def hash(self, password: str) -> str:
        """Return the hash of a password, with its parameters and salt. Takes some 20 ms of a processor."""
        return self._hasher.hash(_normalize(password))

    def verify(self, password: str, password_hash: str) -> bool:
        """Return whether a password has this hash. An empty hash fails after as much work."""
        try:
            self._hasher.verify(password_hash or self._unknown, _normalize(password))
        except (VerificationError, InvalidHashError):
            return False
        return bool(password_hash)


def is_series(text: str) -> bool:
    """Return whether a text is very short, repeats a shorter text, or has steps of at most one between characters."""
    if len(text) < SEQUENCE_LENGTH_MIN:
        return True
    if text in (text + text)[1:-1]:  # true for a repetition only
        return True
    steps = {ord(following) - ord(one) for one, following in itertools.pairwise(text)}
    return len(steps) == 1 and abs(steps.pop()) <= 1


def count_common_parts(text: str) -> int:
    """Return the fewest common passwords that make up a text, one after the other; a large number if none do."""
    common, none = read_common_passwords(), len(text) + COMMON_PARTS_MAX + 1
    fewest = [0] + [none] * len(text)
    for end in range(COMMON_LENGTHS.start, len(text) + 1):
        for length in COMMON_LENGTHS:
            if length <= end and fewest[end - length] < none and text[end - length : end] in common:
                fewest[end] = min(fewest[end], fewest[end - length] + 1)
    return fewest[-1]


@cache
def read_common_passwords() -> frozenset[str]:
    """Return the common passwords, in lower case. Read at the first use; they take 2 MB."""
    packed = files(__package__).joinpath(COMMON_FILE).read_bytes()
    return frozenset(gzip.decompress(packed).decode().split())


def _list_own_words(texts: tuple[str, ...]) -> list[str]:
    words = [word for text in texts for word in (text.casefold(), *text.casefold().replace("@", " ").split())]
    return [word for word in words if len(word) >= OWN_WORD_LENGTH_MIN]


def _encode(octets: bytes) -> str:
    """Return the base64 of argon2's encoded hashes, which has no padding."""
    return base64.b64encode(octets).decode().rstrip("=")


def _normalize(password: str) -> str:
    return unicodedata.normalize("NFC", password)
