"""Fault cycles: callers place orders, the disk fails, the server is killed and restarted."""

from __future__ import annotations

import time
from typing import NamedTuple

import grpc

from tests.support.buyers import NO_ANSWER, Buyers
from tests.support.faults.disks import DATABASE, LOG, Call, FaultyDisk, Kind

HIT_TIMEOUT_S = 60.0
"""How long to wait for a fault to hit a call. It hits none if the file is not used."""
MAY_FAIL = NO_ANSWER | {grpc.StatusCode.RESOURCE_EXHAUSTED}
"""Status codes that callers may see: a full disk is reported with a reason."""


class Fault(NamedTuple):
    """One fault of a disk.

    Attributes:
        skip_max: maximum number of calls that succeed before the first fault.
        times: number of calls that are hit.
        is_fatal: whether the server must exit because of it.
    """

    kind: Kind
    call: Call
    file: str
    skip_max: int
    times: int
    is_fatal: bool


FAULTS = (
    Fault(Kind.FAIL, Call.SYNC, DATABASE, 2, 1, is_fatal=True),
    Fault(Kind.FAIL, Call.SYNC, LOG, 200, 1, is_fatal=True),
    Fault(Kind.FULL, Call.SYNC, DATABASE, 1, 1, is_fatal=True),
    Fault(Kind.FULL, Call.SYNC, LOG, 200, 1, is_fatal=True),
    Fault(Kind.FAIL, Call.WRITE, DATABASE, 900, 1, is_fatal=False),
    Fault(Kind.FAIL, Call.WRITE, LOG, 900, 3, is_fatal=False),
    Fault(Kind.FULL, Call.WRITE, DATABASE, 900, 20, is_fatal=False),
    Fault(Kind.FULL, Call.WRITE, LOG, 900, 20, is_fatal=False),
    Fault(Kind.SHORT, Call.WRITE, DATABASE, 900, 50, is_fatal=False),
    Fault(Kind.SHORT, Call.WRITE, LOG, 900, 50, is_fatal=False),
    Fault(Kind.DELAY, Call.SYNC, DATABASE, 1, 2, is_fatal=False),
    Fault(Kind.DELAY, Call.SYNC, LOG, 50, 2, is_fatal=False),
    Fault(Kind.PRETEND, Call.SYNC, DATABASE, 0, 1_000, is_fatal=False),
    Fault(Kind.PRETEND, Call.SYNC, LOG, 50, 1_000, is_fatal=False),
)


class Cycle(NamedTuple):
    """The outcome of one cycle."""

    is_hit: bool
    exit_code: int | None


def run_cycle(buyers: Buyers, disk: FaultyDisk, fault: Fault, *, goes_on_max_s: float) -> Cycle:
    """Place orders, inject a fault, kill the server unless it has exited, and start it again.

    Args:
        goes_on_max_s: how long callers continue after the fault at most, in seconds.
    """
    with buyers.buying():
        skip = buyers.random.randint(0, fault.skip_max)
        disk.order(fault.kind, fault.call, fault.file, skip=skip, times=fault.times, delay_ms=500)
        is_hit = disk.await_hit(timeout_s=HIT_TIMEOUT_S)
        kill_s = time.monotonic() + buyers.random.uniform(0, goes_on_max_s)
        while buyers.server.process.poll() is None and (fault.is_fatal or time.monotonic() < kill_s):
            assert time.monotonic() < kill_s + HIT_TIMEOUT_S, f"the server lives on after {fault}"
            time.sleep(0.01)
        exit_code = buyers.server.process.poll()
        buyers.server.kill()
    disk.heal()
    buyers.server.start()
    return Cycle(is_hit, exit_code)
