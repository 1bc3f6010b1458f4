"""Signals at any moment, and two close together, as `make` and `timeout` send them: the server ends in order."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from storekeep.server.process.signals import STOP_MERGE_S
from tests.conftest import MakeServer

GAPS_MS = [0, 0, 0, 0.1, 0.5, 1, 2, 5]
"""Times between the two signals. The load of the machine adds to them, which only makes them more diverse."""
PROGRAM = """
import logging, os, signal, sys
from storekeep.server.process.signals import block_signals, stop_on_signals
from storekeep.server.telemetry.logs import Logs

def send_signal(frame, event, _):
    if event == "return" and frame.f_code.co_name == "__enter__":
        sys.setprofile(None)
        os.kill(os.getpid(), signal.SIGTERM)

block_signals()
logs = Logs(level="INFO", file=None, queue_max=100)
stop = stop_on_signals(logs, merge_s=0)
if sys.argv[1] == "log":
    os.kill(os.getpid(), signal.SIGTERM)
    stop.wait()
    sys.setprofile(send_signal)
    logging.getLogger().info("draining")
    signal.pause()
sys.setprofile(send_signal)
stop.wait()
logs.close()
"""
"""Sends itself a signal while its main thread holds the lock of the event, or of the log after a first signal."""


@pytest.mark.parametrize(("lock", "code"), [("event", 0), ("log", 128 + signal.SIGTERM)])
def test_signal_while_the_main_thread_holds_a_lock_ends_the_process(lock: str, code: int):
    ended = subprocess.run([sys.executable, "-c", PROGRAM, lock], capture_output=True, timeout=300, check=False)
    assert ended.returncode == code, ended.stderr


@pytest.mark.engine("sqlite", reason="signals do not depend on the database")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_two_signals_close_together_drain_the_server(make_server: MakeServer, workers: str):
    server = make_server(workers=workers)
    for gap_ms in GAPS_MS:
        sent_s = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        time.sleep(gap_ms / 1000)
        server.process.send_signal(signal.SIGTERM)
        merged = time.monotonic() - sent_s < STOP_MERGE_S
        assert server.process.wait(timeout=300) in ((0,) if merged else (0, 128 + signal.SIGTERM))
        server.start()
