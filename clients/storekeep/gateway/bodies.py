"""The body of a request: read within the limits of size, time and memory, and counted while any copy of it is held."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.types import Receive

from storekeep.gateway.client_limits import ClientLimits
from storekeep.gateway.config import Settings
from storekeep.gateway.errors import MALFORMED, TOO_LARGE, TOO_SLOW
from storekeep.gateway.headers import CLOSE, RequestHeaders

DISCARDED_BYTES_MAX = 32 * 1024 * 1024


class HeldBody:
    """The bytes that one request holds: its body while it arrives, then the message for the server.

    Args:
        limits: counts the bytes of all requests.
        address: address of the client, as `get_limit_key` returns it.
    """

    def __init__(self, limits: ClientLimits, address: str) -> None:
        self._limits = limits
        self._address = address
        self._size = 0

    def resize(self, size: int) -> None:
        """Hold this number of bytes from now on; 0 releases all.

        Raises: Refused if that is more than the limits allow.
        """
        if size > self._size:
            self._limits.hold_bytes(self._address, size - self._size)
        else:
            self._limits.release_bytes(self._address, self._size - size)
        self._size = size


async def read_body(
    receive: Receive, headers: RequestHeaders, held: HeldBody, settings: Settings, *, framing_bytes: int = 0
) -> bytes:
    """Return the body, as sent.

    Args:
        framing_bytes: bytes beyond the limit of size for what frames the content, such as the fields beside a file.

    Raises: Refused if it is too large, too slow or incomplete, or if the gateway holds too many bytes.
    """
    size_max = settings.body_size_max_bytes + framing_bytes
    declared = headers.get("content-length") or "0"
    if not declared.isdigit() or int(declared[:20]) > size_max:
        raise TOO_LARGE.make(f"the body has more than {size_max} bytes", headers=[CLOSE])
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise MALFORMED.make("the body is incomplete or badly framed", headers=[CLOSE])
                if chunk := message.get("body", b""):
                    size += len(chunk)
                    if size > size_max:
                        raise TOO_LARGE.make(f"the body has more than {size_max} bytes", headers=[CLOSE])
                    held.resize(size)
                    chunks.append(chunk)
                if not message.get("more_body"):
                    return b"".join(chunks)
    except TimeoutError:
        raise TOO_SLOW.make("the body did not arrive in time", headers=[CLOSE]) from None


async def discard_body(receive: Receive, settings: Settings) -> None:
    """Read and drop the rest of a body that is refused: a browser shows the reply only once it has sent its form.

    It ends early after `DISCARDED_BYTES_MAX` or the time limit of a body.
    """
    size = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(settings.body_timeout_s):
            while size < DISCARDED_BYTES_MAX:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    return
