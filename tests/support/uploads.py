"""Files that a visitor of the console sends in a form, as a browser does."""

from __future__ import annotations

from tests.support.visitors import Page, Visitor

BOUNDARY = "----formdata"


def build_body(fields: dict[str, str], content: bytes, *, filename: str = "file.csv") -> bytes:
    """Return a form with a file as a browser sends it."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields.items()
    ]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n'
    return (
        b"".join(parts)
        + f"{head}Content-Type: text/csv\r\n\r\n".encode()
        + content
        + f"\r\n--{BOUNDARY}--\r\n".encode()
    )


def send_file(visitor: Visitor, kind: str, content: bytes, **fields: str) -> Page:
    """Send a file, and return the page of its columns."""
    form = dict(visitor.get("/import").form("/import").fields) | {"kind": kind} | fields
    body = build_body(form, content)
    kind_header = f"multipart/form-data; boundary={BOUNDARY}"
    page = visitor.send("POST", "/import", body, content_type=kind_header, origin=visitor.origin)
    return visitor.get(page.headers["location"]) if page.status == 303 else page
