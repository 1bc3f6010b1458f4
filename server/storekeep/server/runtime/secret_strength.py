"""The strength of a secret that somebody else chose: an estimate from below of how much of it could be guessed.

It knows no randomness: it refuses what compresses well, also with a dictionary of what people type, and what is made of
words. What `openssl rand` or any password manager gives passes.
"""

from __future__ import annotations

import string
import zlib
from itertools import pairwise

BYTES_MIN = 32
"""Of the server's secret: the length of the SHA-256 that it keys (RFC 2104)."""
DISTINCT_MIN = 9
"""Different bytes. 16 random bytes in hexadecimal have fewer once in 300,000 times, longer secrets never."""
DEFLATED_BYTES_MIN = 27
"""16 random bytes in hexadecimal take 33 bytes in deflate's fixed code, which makes them seldom shorter than 31."""
MEASURED_BYTES = 256
"""As much of a secret is measured: more than 128 bits are in it, or it is not random."""
LETTERS_SHARE_MIN = 0.5
"""Of all pairs of characters those of two letters, from which on they are compared with words: of random base 64 0.66
are, of random hexadecimal 0.14."""
COMMON_SHARE_MAX = 0.65
"""Of those pairs of letters the ones that are common in English: of random letters 0.18 are, of words some 0.75."""

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
"""What people type where a secret should be: a dictionary for the compressor."""


def is_weak(secret: bytes) -> bool:
    """Return whether a secret is too short, or plainly not random."""
    measured = secret[:MEASURED_BYTES]
    return (
        len(secret) < BYTES_MIN
        or len(set(measured)) < DISTINCT_MIN
        or min(_deflated_bytes(measured), _deflated_bytes(_steps(measured))) < DEFLATED_BYTES_MIN
        or _is_made_of_words(measured)
    )


def _deflated_bytes(text: bytes) -> int:
    compressor = zlib.compressobj(level=9, wbits=-zlib.MAX_WBITS, zdict=TYPED)
    return len(compressor.compress(text) + compressor.flush())


def _steps(text: bytes) -> bytes:
    """Return how far each byte is from the one before: a sequence repeats itself there."""
    return bytes((after - before) % 256 for before, after in pairwise(text))


def _is_made_of_words(text: bytes) -> bool:
    lower = text.decode("latin-1").lower()
    pairs = [lower[at : at + 2] for at in range(len(lower) - 1)]
    letters = [pair for pair in pairs if pair.isascii() and pair.isalpha()]
    common = sum(pair in COMMON_PAIRS for pair in letters)
    return len(letters) >= LETTERS_SHARE_MIN * len(pairs) and common > COMMON_SHARE_MAX * len(letters)
