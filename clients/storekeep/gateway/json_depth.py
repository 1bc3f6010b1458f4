"""Refuse JSON that is nested too deeply before it is parsed: the parser builds all of it and recurses on each level."""

from __future__ import annotations

import json
import re

from storekeep.gateway.invalid_json import InvalidJson, show

STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)
BRACKETS = bytes.maketrans(b"{}", b"[]")
NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
SEARCHED_BYTES_MAX = 64 * 1024
"""The path of the place is searched in this many bytes only, because the search is slow."""


def check_depth(raw: bytes, depth_max: int) -> None:
    """Refuse a body that is nested deeper than `depth_max`. Malformed JSON is left to the parser.

    Raises: InvalidJson with the path of the first value that is too deep, if it is near the beginning.
    """
    if raw.count(b"[") + raw.count(b"{") <= depth_max:
        return
    # Each round removes the innermost brackets, in C.
    brackets = STRING.sub(b"", raw).translate(BRACKETS, NO_BRACKETS)
    for depth in range(depth_max + 1):
        left = brackets.replace(b"[]", b"")
        if len(left) == len(brackets):  # all are removed, or the rest is not balanced
            if depth + left.count(b"[") <= depth_max:
                return
            break
        brackets = left
    problem = f"the body is nested too deeply: more than {depth_max} levels"
    raise InvalidJson(_find_path(raw[:SEARCHED_BYTES_MAX], depth_max), problem)


def _find_path(raw: bytes, depth_max: int) -> str:
    """Return the path of the first value below `depth_max` levels; empty if it is not found."""
    parents: list[str | int] = []
    text = b""
    for match in TOKEN.finditer(raw):
        token = match[0]
        if token in b"[{":
            if parents and isinstance(parents[-1], str):
                parents[-1] = _read_key(text)
            if len(parents) == depth_max:
                path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parents)
                return show(path.removeprefix("."))
            parents.append(0 if token == b"[" else "")
        elif token in b"]}":
            if not parents:
                return ""
            parents.pop()
        elif token == b"," and parents and isinstance(parents[-1], int):
            parents[-1] += 1
        elif token != b",":
            text = token
    return ""


def _read_key(text: bytes) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        return "?"
