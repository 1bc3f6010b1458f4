"""Strength of a configured secret: reject secrets that are short or evidently not random.

Randomness cannot be measured. A secret is weak if it compresses well, also with a dictionary of typical input, or
consists of words. The output of `openssl rand` and of password managers passes.
"""

from __future__ import annotations

import string
import zlib
from itertools import pairwise

BYTES_MIN = 32
"""Shortest secret: the output length of SHA-256, which it keys (RFC 2104)."""
DISTINCT_MIN = 9
"""Fewest distinct bytes. 16 random bytes in hexadecimal have fewer once in 300,000 times; longer secrets never do."""
DEFLATED_BYTES_MIN = 27
"""Shortest compressed length. 16 random bytes in hexadecimal take 33 bytes in deflate's fixed code, and rarely fewer
than 31."""
MEASURED_BYTES = 256
"""Bytes of a secret that are examined. A random secret has more than 128 bits of entropy in them."""
LETTERS_SHARE_MIN = 0.5
"""Share of letter pairs among all character pairs from which a secret is compared with words. Random base64 has 0.66,
random hexadecimal 0.14."""
COMMON_SHARE_MAX = 0.65
"""Largest share of common English pairs among the letter pairs. Random letters have 0.18, words about 0.75."""

COMMON_PAIRS = frozenset(
    [
        "th",
        "he",
        "in",
        "er",
        "an",
        "re",
        "on",
        "at",
        "en",
        "nd",
        "ti",
        "es",
        "or",
        "te",
        "of",
        "ed",
        "is",
        "it",
        "al",
        "ar",
        "st",
        "to",
        "nt",
        "ng",
        "se",
        "ha",
        "as",
        "ou",
        "io",
        "le",
        "ve",
        "co",
        "me",
        "de",
        "hi",
        "ri",
        "ro",
        "ic",
        "ne",
        "ea",
        "ra",
        "ce",
        "li",
        "ch",
        "ll",
        "be",
        "ma",
        "si",
        "om",
        "ur",
        "ca",
        "el",
        "ta",
        "la",
        "ns",
        "di",
        "fo",
        "ho",
        "pe",
        "ec",
        "pr",
        "no",
        "ct",
        "us",
        "ac",
        "ot",
        "il",
        "tr",
        "ly",
        "nc",
        "et",
        "ut",
        "ss",
        "so",
        "rs",
        "un",
        "lo",
        "wa",
        "ge",
        "ie",
        "wh",
        "ee",
        "wi",
        "em",
        "ad",
        "ol",
        "rt",
        "po",
        "we",
        "na",
        "ul",
        "ni",
        "ts",
        "mo",
        "ow",
        "pa",
        "im",
        "mi",
        "ai",
        "sh",
        "ir",
        "su",
        "id",
        "os",
        "iv",
        "ia",
        "am",
        "fi",
        "ci",
        "vi",
        "pl",
        "ig",
        "tu",
        "ev",
        "ld",
        "ry",
        "sw",
        "wo",
        "rd",
        "ke",
        "ey",
        "ck",
    ]
)
TYPED = " ".join(
    [
        "correct horse battery staple",
        "storekeep production server default example testing change this must be secure random private",
        "changeme letmein welcome admin administrator root user token value key secret password passw0rd",
        "qwertyuiopasdfghjklzxcvbnm",
        "1234567890",
        "9876543210",
        string.ascii_uppercase,
        string.ascii_lowercase[::-1],
        "fedcba9876543210",
        "0123456789abcdefghijklmnopqrstuvwxyz",
    ]
).encode()
"""A dictionary for the compressor: text that people typically type as a secret."""


def is_weak(secret: bytes) -> bool:
    """Return whether a secret is too short or evidently not random."""
    measured = secret[:MEASURED_BYTES]
    return (
        len(secret) < BYTES_MIN
        or len(set(measured)) < DISTINCT_MIN
        or min(_count_deflated_bytes(measured), _count_deflated_bytes(_compute_steps(measured))) < DEFLATED_BYTES_MIN
        or _is_made_of_words(measured)
    )


def _count_deflated_bytes(text: bytes) -> int:
    compressor = zlib.compressobj(level=9, wbits=-zlib.MAX_WBITS, zdict=TYPED)
    return len(compressor.compress(text) + compressor.flush())


def _compute_steps(text: bytes) -> bytes:
    """Return the difference of each byte to the previous one, in which sequences become repetitions."""
    return bytes((after - before) % 256 for before, after in pairwise(text))


def _is_made_of_words(text: bytes) -> bool:
    lower = text.decode("latin-1").lower()
    pairs = [lower[at : at + 2] for at in range(len(lower) - 1)]
    letters = [pair for pair in pairs if pair.isascii() and pair.isalpha()]
    common = sum(pair in COMMON_PAIRS for pair in letters)
    return len(letters) >= LETTERS_SHARE_MIN * len(pairs) and common > COMMON_SHARE_MAX * len(letters)
