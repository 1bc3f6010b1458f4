"""What all encryption with AES-256-GCM shares: keys derived from a secret, one per purpose, and the size of nonces."""

from __future__ import annotations

import hmac

NONCE_BYTES = 12
"""96-bit random nonces are safe for 2^32 encryptions with one key (NIST SP 800-38D, 8.2.2 and 8.3)."""


def derive_key(secret: bytes, purpose: str) -> bytes:
    """Return the 32-byte key of a purpose (NIST SP 800-108, HMAC-SHA256 with one block)."""
    return hmac.digest(secret, b"storekeep:" + purpose.encode(), "sha256")
