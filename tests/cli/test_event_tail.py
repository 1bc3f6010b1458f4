"""`events tail` prints events as they happen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.support.command_line import CommandLine
from tests.support.processes import ServerProcess

END_TIMEOUT_S = 60.0
Tail = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def tail(server: ServerProcess) -> Iterator[Tail]:
    """Start `events tail`; each ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        access = {"STOREKEEP_ADDRESS": server.address, "STOREKEEP_API_KEY": server.admin_key, "HOME": "/nonexistent"}
        command = [sys.executable, "-m", "storekeep.cli", "events", "tail", *arguments]
        environment = {"PATH": os.environ["PATH"], **access}
        program = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(program)
        return program

    yield start
    for program in started:
        program.kill()
        program.communicate(timeout=END_TIMEOUT_S)


def test_tail_prints_past_and_new_events_until_it_is_interrupted(cli: CommandLine, tail: Tail) -> None:
    cli.json("customers", "create", "--id", "tailed", "--name", "Past")
    program = tail("--since", "1h", "--type", "customer.*", "--resource", "customers/tailed")
    assert program.stdout is not None
    assert "customer.created  customers/tailed" in program.stdout.readline()
    cli.json("customers", "update", "tailed", "--name", "New")
    assert "customer.updated  customers/tailed" in program.stdout.readline()
    program.send_signal(signal.SIGINT)
    assert program.wait(timeout=END_TIMEOUT_S) == 130


def test_tail_as_json_prints_a_document_per_line_and_continues_after_a_cursor(cli: CommandLine, tail: Tail) -> None:
    cli.json("customers", "create", "--id", "first", "--name", "First")
    cli.json("customers", "create", "--id", "second", "--name", "Second")
    program = tail("--since", "1h", "--resource", "customers/first", "-o", "json")
    assert program.stdout is not None
    event = json.loads(program.stdout.readline())
    assert event["content"]["displayName"] == "First"
    following = tail("--cursor", event["cursor"], "-o", "json")
    assert following.stdout is not None
    assert json.loads(following.stdout.readline())["resource"] == "customers/second"


def test_tail_takes_a_cursor_or_a_time(cli: CommandLine) -> None:
    run = cli("events", "tail", "--cursor", "x", "--since", "1h")
    assert run.code == 2
    assert "--cursor or --since" in run.err
