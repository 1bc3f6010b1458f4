"""Large replies: what one client does with its own never breaks another's, and all counts return to zero."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from storekeep.gateway.replies import Replies, ReplyNotRead

BODY = b"x" * 200_000
SIZE_MAX_BYTES = 3 * len(BODY) // 2
TIMEOUT_S = 0.1


def make_replies() -> Replies:
    """Return replies with memory for one body."""
    return Replies(size_max_bytes=SIZE_MAX_BYTES, timeout_s=TIMEOUT_S)


async def is_empty(replies: Replies) -> bool:
    """Return whether no reply and no byte is counted: a body that needs all memory has room."""
    if replies.number:
        return False
    sending = asyncio.create_task(replies.send(read_nothing, b"x" * SIZE_MAX_BYTES, address="all"))
    await asyncio.sleep(0)
    has_room = replies.number == 1
    sending.cancel()
    return has_room


async def read_nothing(_message: Any) -> None:
    """Wait as a client makes the gateway wait that reads nothing."""
    await asyncio.sleep(60)


async def read_all(_message: Any) -> None:
    """Take a part, as a quick client does."""
    await asyncio.sleep(0)


def test_reply_whose_time_is_over_does_not_break_the_next_one():
    async def race() -> tuple[bool, object]:
        replies, ready = make_replies(), asyncio.Event()
        loop = asyncio.get_running_loop()

        async def send_when_ready() -> None:
            await ready.wait()
            await replies.send(read_all, BODY, address="b")

        other = asyncio.create_task(send_when_ready())
        slow = asyncio.create_task(replies.send(read_nothing, BODY, address="a"))
        await asyncio.sleep(0)
        due_s = loop.time() + TIMEOUT_S

        def be_busy() -> None:
            loop.call_soon(
                ready.set
            )  # the other reply begins after the end of the slow one is due, and before its task knows
            time.sleep(max(0.0, due_s - loop.time()) + 0.02)

        loop.call_soon(be_busy)
        outcomes = await asyncio.gather(slow, other, return_exceptions=True)
        assert isinstance(outcomes[0], ReplyNotRead)
        return await is_empty(replies), outcomes[1]

    assert asyncio.run(race()) == (True, None)


@pytest.mark.parametrize("ending", ["time", "memory", "client", "gateway"])
def test_reply_that_ends_early_is_no_longer_counted(ending: str):
    async def end() -> bool:
        replies = make_replies()

        async def fail(_message: Any) -> None:
            raise ConnectionResetError

        sending = asyncio.create_task(replies.send(fail if ending == "client" else read_nothing, BODY, address="a"))
        await asyncio.sleep(0)
        assert ending == "client" or replies.number == 1
        if ending == "memory":
            await replies.send(read_all, BODY, address="b")
        elif ending == "gateway":
            sending.cancel()
        errors = {"client": ConnectionResetError, "gateway": asyncio.CancelledError}
        with pytest.raises(errors.get(ending, ReplyNotRead)):
            await sending
        return await is_empty(replies)

    assert asyncio.run(end())


def test_the_oldest_of_the_address_with_the_most_ends():
    async def fill() -> list[object]:
        replies = Replies(size_max_bytes=len(BODY) * 3, timeout_s=60)
        addresses = ("one", "many", "many", "many")
        tasks = [asyncio.create_task(replies.send(read_nothing, BODY, address=address)) for address in addresses]
        await asyncio.sleep(0.05)
        running = [task for task in tasks if not task.done()]
        assert replies.number == 3
        for task in running:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    kinds = [type(outcome) for outcome in asyncio.run(fill())]
    assert kinds == [asyncio.CancelledError, ReplyNotRead, asyncio.CancelledError, asyncio.CancelledError]
