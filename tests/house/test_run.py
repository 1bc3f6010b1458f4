"""`make run` on a terminal: start, stop with Ctrl-C, and start again."""

from __future__ import annotations

import fcntl
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import ROOT

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 60.0
CTRL_C = b"\x03"
READY = b"Press Ctrl-C to stop"
SIGN_IN = b"Sign in to the console"
WITHOUT_GATEWAY = b"HTTP is not served"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder with a path short enough for a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="storekeep-") as path:
        yield Path(path)


class Terminal:
    """A pseudo-terminal that runs `make run`."""

    def __init__(self, folder: Path, *, http_listen: str, listen: str = "") -> None:
        self.output = b""
        self.keyboard, screen = os.openpty()
        # The tests' own environment replaces the one that `make run` would install.
        command = ["make", f"VENV={sys.prefix}", "-o", f"{sys.prefix}/.runtime", "run"]
        settings = {"STOREKEEP_DATA_DIR": str(folder / "var"), "STOREKEEP_LISTEN": listen or f"unix:{folder}/grpc.sock"}
        settings["STOREKEEP_HTTP_LISTEN"] = http_listen
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("STOREKEEP_")}
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**inherited, **settings},
            stdin=screen,
            stdout=screen,
            stderr=screen,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(screen)

    def read(self) -> None:
        """Read new output, with a short wait."""
        if select.select([self.keyboard], [], [], 0.1)[0]:
            try:
                self.output += os.read(self.keyboard, 65_536)
            except OSError:  # the other end is closed
                time.sleep(0.1)

    def wait_until_serving(self, *, line: bytes) -> None:
        """Wait for the banner of the server, and then for a line of the gateway."""
        end = time.monotonic() + START_TIMEOUT_S
        while READY not in self.output or line not in self.output or select.select([self.keyboard], [], [], 1.0)[0]:
            assert time.monotonic() < end, self.output.decode()
            assert self.process.poll() is None, self.output.decode()
            self.read()

    def interrupt(self) -> int:
        """Press Ctrl-C, wait for the end, and return make's exit code."""
        os.write(self.keyboard, CTRL_C)
        end = time.monotonic() + STOP_TIMEOUT_S
        while self.process.poll() is None:
            assert time.monotonic() < end, self.output.decode()
            self.read()
        return self.process.returncode

    def end(self) -> None:
        """Kill the process and close the terminal."""
        self.process.kill()
        self.process.wait()
        os.close(self.keyboard)

    def commands(self) -> list[str]:
        """Return the commands that the output suggests."""
        return re.findall(r"^  (\S*storekeep .*?)\r?$", self.output.decode(), re.MULTILINE)


def serve_once(
    folder: Path, *, types: bool = True, http_listen: str = "127.0.0.1:0", line: bytes = SIGN_IN
) -> Terminal:
    """Run `make run` from its start to Ctrl-C.

    Args:
        types: whether to run the suggested commands in another shell.
        http_listen: address of the gateway.
        line: what the gateway prints last.
    """
    terminal = Terminal(folder, http_listen=http_listen)
    try:
        terminal.wait_until_serving(line=line)
        for command in terminal.commands() if types else ():
            type_elsewhere(command, folder=folder)
        assert terminal.interrupt() == 0, terminal.output.decode()
    finally:
        terminal.end()
    return terminal


def type_elsewhere(command: str, *, folder: Path) -> None:
    """Run a command in another shell."""
    environment = {**os.environ, "XDG_CONFIG_HOME": str(folder)}
    done = subprocess.run(command, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


# One test, because each start takes seconds.
def test_run_on_terminal_says_what_to_type_ends_in_order_at_ctrl_c_and_keeps_the_data(folder: Path) -> None:
    terminal = serve_once(folder)
    output = terminal.output.decode()
    assert [command.split()[1] for command in terminal.commands()] == ["login", "products", "orders"]
    order = (
        READY.decode(),
        f"The log is in {folder}/var/server.log.",
        "In another terminal",
        "The HTTP gateway is listening on http://127.0.0.1:",
        SIGN_IN.decode(),
    )
    assert [output.index(line) for line in order] == sorted(output.index(line) for line in order)
    assert "storekeep login --console http://127.0.0.1:" in output
    assert "make: ***" not in output
    assert "Traceback" not in output
    assert '"message":' not in output
    assert '"method":"storekeep.v1.OrderService/PlaceOrder"' in (folder / "var/server.log").read_text()
    key = (folder / "var/admin.key").read_text()
    with socket.create_server(("127.0.0.1", 0)) as other:  # another program has the port of the gateway
        address = f"127.0.0.1:{other.getsockname()[1]}"
        output = serve_once(folder, types=False, http_listen=address, line=WITHOUT_GATEWAY).output.decode()
    assert f"storekeep-gateway: cannot listen on {address}: address already in use" in output
    assert output.index(READY.decode()) < output.index(WITHOUT_GATEWAY.decode())
    assert "Traceback" not in output
    assert (folder / "var/admin.key").read_text() == key
    assert "Loaded the sample catalogue" not in output


def test_second_run_with_the_same_ports_does_not_say_that_the_server_runs(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as http, socket.create_server(("127.0.0.1", 0)) as grpc:
        addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in (http, grpc)]
        terminal = Terminal(folder, http_listen=addresses[0], listen=addresses[1])
        try:
            end = time.monotonic() + START_TIMEOUT_S
            while terminal.process.poll() is None:
                assert time.monotonic() < end, terminal.output.decode()
                terminal.read()
            terminal.read()
        finally:
            terminal.end()
    output = terminal.output.decode()
    assert terminal.process.returncode != 0
    assert f"cannot listen on {addresses[1]}" in output
    assert WITHOUT_GATEWAY.decode() not in output
