"""Checkpoints of the audit log as files: what `storekeep-server export-checkpoint` writes, too."""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path

import typer

from storekeep.v1.audit_pb2 import AuditCheckpoint

FORMAT = "storekeep-audit-checkpoint-1"


def write_checkpoint_file(path: Path, checkpoint: AuditCheckpoint) -> None:
    """Write a checkpoint to a file; its key as a JWK (RFC 8037)."""
    key = {"kty": "OKP", "crv": "Ed25519", "kid": checkpoint.key_id, "x": _encode(checkpoint.public_key)}
    said = {
        "format": FORMAT,
        "chain": checkpoint.chain,
        "sequence": checkpoint.sequence,
        "head_hash": checkpoint.head_hash.hex(),
        "create_time_us": checkpoint.create_time.ToMicroseconds(),
        "key": key,
        "signature": checkpoint.signature.hex(),
    }
    path.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def read_checkpoint_file(path: Path) -> AuditCheckpoint:
    """Read a checkpoint from a file; the server checks its signature.

    Raises: typer.BadParameter, where it is none.
    """
    try:
        said = json.loads(path.read_bytes())
        if said["format"] != FORMAT:
            raise ValueError
        checkpoint = AuditCheckpoint(
            name=f"auditCheckpoints/{said['sequence']}",
            sequence=said["sequence"],
            head_hash=bytes.fromhex(said["head_hash"]),
            chain=said["chain"],
            key_id=said["key"]["kid"],
            public_key=_decode(said["key"]["x"]),
            signature=bytes.fromhex(said["signature"]),
        )
        checkpoint.create_time.FromMicroseconds(said["create_time_us"])
    except (OSError, ValueError, KeyError, TypeError, binascii.Error):
        raise typer.BadParameter(f"{path} is no checkpoint of an audit log") from None
    return checkpoint


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
