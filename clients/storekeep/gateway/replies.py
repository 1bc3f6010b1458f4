"""The bodies of large replies, sent as their clients read them, within limits of time and memory.

Beyond what the kernel takes of it, a body stays in memory until its client has read it. A client that is too slow, or
that holds the most when there are too many bytes, loses its connection. The rest of its body is never sent.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

from starlette.types import Send

CHUNK_BYTES = 64 * 1024
"""Smaller bodies are sent at once and not counted: with the maximum number of connections they are bounded, too. A
connection whose client reads none of its pipelined replies held 77 KiB, until `reply_timeout_s` closed it."""


class ReplyNotRead(Exception):
    """A client did not read its reply in time, or held more than the gateway has memory for."""


@dataclass(eq=False, slots=True)
class _Unread:
    """A body that a client is reading.

    Attributes:
        limit: ends the sending.
    """

    address: str
    size: int
    limit: asyncio.Timeout


class Replies:
    """The large replies that clients are reading, oldest first.

    Args:
        size_max_bytes: budget for the bodies of all of them.
        timeout_s: time limit for each of them.
    """

    def __init__(self, *, size_max_bytes: int, timeout_s: float) -> None:
        self._size_max_bytes = size_max_bytes
        self._timeout_s = timeout_s
        self._unread: dict[_Unread, None] = {}
        self._sizes: Counter[str] = Counter()

    @property
    def number(self) -> int:
        """Number of large replies that clients are reading."""
        return len(self._unread)

    async def send(self, send: Send, body: bytes, *, address: str) -> None:
        """Send a body, of which `http.response.start` has told the length.

        Args:
            address: address of the client, as `get_limit_key` returns it.

        Raises: ReplyNotRead. The connection ends then, because the body is incomplete.
        """
        if len(body) <= CHUNK_BYTES:
            await send({"type": "http.response.body", "body": body})
            return
        try:
            async with asyncio.timeout(self._timeout_s) as limit:
                unread = _Unread(address, len(body), limit)
                try:
                    self._add(unread)
                    for start in range(0, len(body), CHUNK_BYTES):
                        chunk = body[start : start + CHUNK_BYTES]
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
                finally:
                    self._remove(unread)
        except TimeoutError:
            raise ReplyNotRead from None
        await send({"type": "http.response.body", "body": b""})

    def _add(self, unread: _Unread) -> None:
        """Count a body. While there are too many bytes, end the oldest of the address that has the most."""
        self._unread[unread] = None
        self._sizes[unread.address] += unread.size
        while self._sizes.total() > self._size_max_bytes:
            ((address, _),) = self._sizes.most_common(1)
            oldest = next(one for one in self._unread if one.address == address)
            self._remove(oldest)
            if not oldest.limit.expired():  # its time is over, but its task has not run since
                oldest.limit.reschedule(0)

    def _remove(self, unread: _Unread) -> None:
        if unread not in self._unread:  # it was ended
            return
        del self._unread[unread]
        self._sizes[unread.address] -= unread.size
        if not self._sizes[unread.address]:
            del self._sizes[unread.address]
