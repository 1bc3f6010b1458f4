"""Greenlets of the storage engine end with their threads, and no other thread gets any.

When a thread with greenlets ends, greenlet itself cleans up. During a garbage collection it misjudges who still uses
the thread's main greenlet, and a later collection crashes the process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from storekeep.server.runtime.admission import WRITES, AdmissionController
from storekeep.server.store.opening import open_store
from tests.support.databases import new_database
from tests.support.greenlets import count_living_greenlets

TIMEOUT_S = 60.0

KEEP_AN_ERROR = """
import gc, os, sys, threading, time
from storekeep.server.store.opening import open_store

store, keep = open_store(sys.argv[1]), threading.Event()

class Kept:
    def __init__(self, error):
        self.error, self.itself = error, self

    def __del__(self):  # the thread ends during the collection that finds this object
        keep.set()
        while len(os.listdir("/proc/self/task")) > threads:
            time.sleep(0.001)

def fail(tx):
    raise KeyError

def write():
    try:
        store.write(fail)
    except KeyError as error:
        Kept(error)
    failed.set()
    keep.wait()

gc.disable()
failed, threads = threading.Event(), len(os.listdir("/proc/self/task"))
thread = threading.Thread(target=write)
thread.start()
failed.wait()
store.write(lambda tx: None)  # the writer remembers its last write
gc.collect()
gc.collect()
store.close()
print("alive")
"""


def test_closed_store_leaves_no_greenlet_of_its_writer(engine: str, tmp_path: Path) -> None:
    database = new_database(engine, tmp_path, migrated=False)
    before = count_living_greenlets()
    store = open_store(database.url, admission=AdmissionController(WRITES, length_max=100, wait_max_s=TIMEOUT_S))
    done = threading.Semaphore(0)

    def write() -> None:
        store.write(lambda tx: None)
        done.release()

    for _ in range(10):
        assert store.submit_task(write)
    for _ in range(10):
        assert done.acquire(timeout=TIMEOUT_S)
    assert count_living_greenlets() > before
    store.close()
    assert count_living_greenlets() <= before
    database.remove()


def test_error_of_a_write_that_outlives_its_thread_crashes_no_process(engine: str, tmp_path: Path) -> None:
    database = new_database(engine, tmp_path, migrated=False)
    command = [sys.executable, "-c", KEEP_AN_ERROR, database.url]
    environment = {**os.environ, "PYTHONMALLOC": "debug"}  # a freed object looks like one
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert (ended.returncode, ended.stdout) == (0, "alive\n"), ended.stderr
    database.remove()
