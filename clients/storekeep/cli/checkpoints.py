"""Files with checkpoints of the audit log, in the format of `storekeep-server export-checkpoint`."""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path

import typer

from storekeep.cli.files import create_file
from storekeep.client.files import read_file
from storekeep.v1.audit_pb2 import AuditCheckpoint

FORMAT = "storekeep-audit-checkpoint-1"


def write_checkpoint_file(path: Path, checkpoint: AuditCheckpoint) -> None:
    """Write a checkpoint to a file, with its public key as a JWK (RFC 8037)."""
    key = {"kty": "OKP", "crv": "Ed25519", "kid": checkpoint.key_id, "x": _encode(checkpoint.public_key)}
    document = {
        "format": FORMAT,
        "chain": checkpoint.chain,
        "sequence": checkpoint.sequence,
        "head_hash": checkpoint.head_hash.hex(),
        "create_time_us": checkpoint.create_time.ToMicroseconds(),
        "key": key,
        "signature": checkpoint.signature.hex(),
    }
    with create_file(path) as file:
        file.write(json.dumps(document, indent=2) + "\n")


def read_checkpoint_file(path: Path) -> AuditCheckpoint:
    """Read a checkpoint from a file. The server verifies its signature.

    Raises: typer.BadParameter if the file is not a checkpoint.
    """
    try:
        document = json.loads(read_file(path))
        if document["format"] != FORMAT:
            raise ValueError
        checkpoint = AuditCheckpoint(
            name=f"auditCheckpoints/{document['sequence']}",
            sequence=document["sequence"],
            head_hash=bytes.fromhex(document["head_hash"]),
            chain=document["chain"],
            key_id=document["key"]["kid"],
            public_key=_decode(document["key"]["x"]),
            signature=bytes.fromhex(document["signature"]),
        )
        checkpoint.create_time.FromMicroseconds(document["create_time_us"])
    except (OSError, ValueError, KeyError, TypeError, binascii.Error):
        raise typer.BadParameter(f"{path} is not a checkpoint of an audit log") from None
    return checkpoint


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
