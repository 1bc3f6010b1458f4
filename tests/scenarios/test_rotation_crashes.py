"""Crashes of `rotate-secret` at each step, and concurrent runs: the server and the command recover."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from storekeep.server.runtime.secrets import PREVIOUS_FILE, SECRET_FILE
from storekeep.server.store.locks import lock
from tests.conftest import MakeServer
from tests.support.processes import ServerProcess, server_environment
from tests.support.shops import Shop

TIMEOUT_S = 120
STEPS_MAX = 30
KILLED_AT = """
import os, signal, sys
events, left = sys.argv[1].split(","), int(sys.argv[2])

def count(event, arguments):
    global left
    if event in events and "secret" in os.path.basename(str(arguments[0])):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
from storekeep.server.command import run
sys.exit(run(sys.argv[3:]))
"""
"""Runs a command and kills it before the n-th of the given audit events on a file of the secret."""

pytestmark = pytest.mark.engine("sqlite", reason="the crash is between files; the database changes in one transaction")


def run_until(server: ServerProcess, step: int, *arguments: str, events: str) -> int:
    """Run a command that is killed before a step. Return its exit code: -SIGKILL unless it has fewer steps."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED_AT, events, str(step), *arguments],
        env=server_environment(server.data_dir, **server._settings),
        capture_output=True,
        timeout=TIMEOUT_S,
    )
    return done.returncode


def check_login_and_write(server: ServerProcess) -> None:
    """Check that a client can log in and write."""
    with grpc.insecure_channel(server.address) as channel:
        Shop(channel, api_key=server.admin_key).customer()


def finish_rotation(server: ServerProcess) -> None:
    """Complete a rotation after a crash. Either command may report that there is nothing to do."""
    rotated = server.run("rotate-secret")
    assert rotated.returncode == 0 or "--finish" in rotated.stderr, rotated.stderr
    check_login_and_write(server)
    finished = server.run("rotate-secret", "--finish")
    assert finished.returncode == 0 or "no rotation is in progress" in finished.stderr, finished.stderr
    assert not (server.data_dir / PREVIOUS_FILE).exists()


def test_rotation_killed_at_each_step_goes_on(make_server: MakeServer) -> None:
    """`test_server_secrets` covers new files with an old database."""
    server = make_server()
    for step in range(1, STEPS_MAX):
        code = run_until(server, step, "rotate-secret", events="os.rename")
        if step == 2:  # covers both a restart and a reload of the files
            server.kill()
            server.restart()
        finish_rotation(server)
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert (code, step) == (0, 3), "each of two files is made, and put in its place"
    assert server.run("rotate-secret").returncode == 0
    check_login_and_write(server)  # otherwise --finish would invalidate the administrator's key, and refuses
    assert run_until(server, 1, "rotate-secret", "--finish", events="os.remove") == -signal.SIGKILL
    finish_rotation(server)
    strays = [path.name for path in server.data_dir.iterdir() if "secret" in path.name]
    assert sorted(strays) == [SECRET_FILE, f"{SECRET_FILE}.rotate.lock"]
    assert server.run("verify").returncode == 0


def test_two_rotations_at_once_are_one(make_server: MakeServer) -> None:
    server = make_server()
    old = (server.data_dir / SECRET_FILE).read_bytes()
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda _: server.run("rotate-secret"), range(2)))
    codes = sorted(outcome.returncode for outcome in outcomes)
    assert codes == [0, 1], [outcome.stderr for outcome in outcomes]
    assert any("--finish" in outcome.stderr for outcome in outcomes)
    assert (server.data_dir / PREVIOUS_FILE).read_bytes() == old
    check_login_and_write(server)
    assert server.run("verify").returncode == 0


def test_rotation_waits_for_another_one(make_server: MakeServer) -> None:
    server = make_server()
    with ThreadPoolExecutor(1) as pool:
        with lock(server.data_dir / SECRET_FILE, purpose="rotate"):
            waiting = pool.submit(server.run, "rotate-secret")
            with pytest.raises(TimeoutError):
                waiting.result(timeout=3)
            assert not (server.data_dir / PREVIOUS_FILE).exists()
        assert waiting.result(timeout=TIMEOUT_S).returncode == 0
