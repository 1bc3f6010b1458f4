"""Forms with files (`multipart/form-data`, RFC 7578), as browsers write them (WHATWG HTML, "multipart form data").

The cost is linear in the size of the body. Anything else is refused: a general parser of parameters, such as that of
the standard library, takes time quadratic in the length of a header, and anybody can send one.
"""

from __future__ import annotations

import re

from storekeep.console.requests import BadRequest
from storekeep.console.uploads import Upload

MULTIPART = "multipart/form-data"
CONTENT_TYPE_CHARS_MAX = 200
PARTS_MAX = 100
"""Fields and files of a form."""
HEAD_BYTES_MAX = 2_000
"""Bytes of the headers of a part."""
HEADS_BYTES_MAX = 20_000
"""Bytes of the headers of all parts together."""
FILENAME_CHARS_MAX = 200
_BROKEN = "The form cannot be read: it is not valid, or has too many fields."
_BOUNDARY = re.compile(r"multipart/form-data; ?boundary=(\"?)([0-9A-Za-z'()+_,./:=?-]{1,70})\1", re.IGNORECASE)
_DISPOSITION = re.compile(
    r'content-disposition: ?form-data; ?name="([^"\x00-\x1f]+)"(?:; ?filename="([^"\x00-\x1f]*)")?', re.IGNORECASE
)


def parse_multipart(content_type: str, body: bytes) -> tuple[dict[str, list[str]], dict[str, Upload]]:
    """Return the fields of a form, and its files by the name of their field. A field without a chosen file has none.

    Args:
        content_type: the header.

    Raises: BadRequest.
    """
    match = _BOUNDARY.fullmatch(content_type[: CONTENT_TYPE_CHARS_MAX + 1])
    if match is None or len(content_type) > CONTENT_TYPE_CHARS_MAX:
        raise BadRequest(_BROKEN)
    parts = (b"\r\n" + body).split(b"\r\n--" + match[2].encode(), PARTS_MAX + 2)
    if parts[0] or len(parts) > PARTS_MAX + 2 or parts[-1].rstrip() != b"--":
        raise BadRequest(_BROKEN)
    fields: dict[str, list[str]] = {}
    files: dict[str, Upload] = {}
    head_bytes = 0
    for part in parts[1:-1]:
        head, separator, content = part.partition(b"\r\n\r\n")
        head_bytes += len(head)
        if not separator or len(head) > HEAD_BYTES_MAX or head_bytes > HEADS_BYTES_MAX:
            raise BadRequest(_BROKEN)
        name, filename = _parse_head(head)
        if filename is None:
            fields.setdefault(name, []).append(_decode(content))
        elif filename or content:
            files[name] = Upload(filename[:FILENAME_CHARS_MAX], content)
    return fields, files


def _parse_head(head: bytes) -> tuple[str, str | None]:
    """Return name and filename of a part; no filename for a field. Raises: BadRequest."""
    first, *lines = _decode(head).split("\r\n")
    matches = [match for line in lines if (match := _DISPOSITION.fullmatch(line))]
    if first or len(matches) != 1:
        raise BadRequest(_BROKEN)
    return matches[0][1], matches[0][2]


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest(_BROKEN) from None
