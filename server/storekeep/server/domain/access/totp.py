"""Codes of authenticator apps (TOTP, RFC 6238), and recovery codes.

A code is accepted for its own time step and one step before and after it. The caller refuses a step that was used.
"""

from __future__ import annotations

import base64
import hmac
import secrets

STEP_S = 30
DIGITS = 6
DRIFT_STEPS = 1
RECOVERY_CODES = 10
RECOVERY_BYTES = 10
"""80 bits: too many to guess online, and offline the codes are encrypted."""


def compute_code(secret: str, step: int) -> str:
    """Return the code of a time step.

    Args:
        secret: base 32 without padding.
    """
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    digest = hmac.digest(key, step.to_bytes(8, "big"), "sha1")
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{number % 10**DIGITS:0{DIGITS}d}"


def find_step(secret: str, code: str, *, now_us: int) -> int | None:
    """Return the time step that a code is valid for; None if it is not valid now. Spaces in the code do not count."""
    text, current = "".join(code.split()), now_us // (STEP_S * 1_000_000)
    matching = None
    for step in range(current - DRIFT_STEPS, current + DRIFT_STEPS + 1):
        if hmac.compare_digest(compute_code(secret, step).encode(), text.encode()):
            matching = step
    return matching


def generate_recovery_codes() -> tuple[str, ...]:
    """Return new recovery codes, as four groups of four letters and digits."""
    texts = [base64.b32encode(secrets.token_bytes(RECOVERY_BYTES)).decode().lower() for _ in range(RECOVERY_CODES)]
    return tuple("-".join(text[start : start + 4] for start in range(0, len(text), 4)) for text in texts)


def find_recovery_code(codes: tuple[str, ...], text: str) -> str:
    """Return the recovery code that a text is; empty if it is none. Case, spaces and hyphens do not count."""
    own = _strip(text).encode()
    return next((code for code in codes if hmac.compare_digest(_strip(code).encode(), own)), "")


def _strip(code: str) -> str:
    return "".join(code.split()).replace("-", "").lower()
