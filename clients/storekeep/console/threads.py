"""Threads that make pages, and a bound on the pages that wait for one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from storekeep.console.requests import BadRequest

T = TypeVar("T")


class Threads:
    """Threads that make pages, and a bound on the pages that wait for one. Use it in the event loop.

    Args:
        number: number of threads.
        waiting_max: greatest number of waiting pages; further ones are refused.
    """

    def __init__(self, number: int, *, waiting_max: int) -> None:
        self._executor = ThreadPoolExecutor(number, thread_name_prefix="console")
        self._running_max = number + waiting_max
        self._running = 0

    async def run(self, page: Callable[[], T]) -> T:
        """Make a page, or a part of one, in a thread. Raises: BadRequest."""
        if self._running >= self._running_max:
            raise BadRequest("Too many pages are being made. Try again in a moment.", status=503)
        self._running += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, page)
        finally:
            self._running -= 1

    def close(self) -> None:
        """End the threads."""
        self._executor.shutdown(wait=False, cancel_futures=True)
