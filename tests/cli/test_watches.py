"""--watch shows a result again when it has changed; --since shows only what is newer."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from storekeep.cli import watches
from storekeep.client import ServerUnreachable
from tests.support.command_line import CommandLine
from tests.support.processes import ServerProcess


class Stopped(Exception):
    """Ends a watch."""


def test_result_is_shown_again_only_if_it_has_changed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = iter(["one", "one", "down", "down", "one", "two"])

    def show() -> None:
        result = next(results, None)
        if result is None:
            raise Stopped
        if result == "down":
            raise ServerUnreachable("no route")
        sys.stdout.write(f"{result}\n")
        sys.stderr.write("notice\n")

    monkeypatch.setattr(watches.time, "sleep", lambda _seconds: None)
    with pytest.raises(Stopped):
        watches.watch(show, interval_s=1)
    captured = capsys.readouterr()
    assert captured.out == "one\ntwo\n"
    assert [line[:8] for line in captured.err.splitlines()] == ["notice", "no route", "notice"]


@pytest.fixture
def watching(server: ServerProcess) -> Iterator[subprocess.Popen[str]]:
    access = {"STOREKEEP_ADDRESS": server.address, "STOREKEEP_API_KEY": server.admin_key, "HOME": "/nonexistent"}
    listing = ["products", "list", "--filter", "labels.watched = yes", "--watch", "--interval", "0.5", "-o", "name"]
    command = [sys.executable, "-m", "storekeep.cli", *listing]
    environment = {"PATH": os.environ["PATH"], **access}
    program = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    yield program
    with contextlib.suppress(ProcessLookupError):
        program.kill()
    program.communicate(timeout=60)


def test_list_is_watched_until_it_is_interrupted(cli: CommandLine, watching: subprocess.Popen[str]) -> None:
    name = cli("products", "create", "--name", "Watched", "--label", "watched=yes", "-o", "name").out
    assert watching.stdout is not None
    assert watching.stdout.readline() == name
    watching.send_signal(signal.SIGINT)
    assert watching.wait(timeout=60) == 130


def test_first_error_ends_a_watch(cli: CommandLine) -> None:
    run = cli("products", "show", "nope", "--watch")
    assert (run.code, run.err.count("\n")) == (1, 1)
    assert cli("products", "list", "--watch", "--interval", "0").code == 2


@pytest.mark.parametrize(
    "listing",
    [("audit", "list", "--filter", 'resource = "products*"'), ("stock", "movements"), ("reservations", "list")],
)
def test_since_takes_an_age_or_a_time(cli: CommandLine, listing: tuple[str, ...]) -> None:
    if not cli.json("products", "list", "--filter", "labels.since = yes"):
        product = cli("products", "create", "--name", "Since", "--label", "since=yes", "-o", "name").out.strip()
        cli.json("variants", "create", product, "--sku", "SINCE", "--price", "EUR=1")
        cli.json("stock", "set", "SINCE", "9")
        cli.json("reservations", "reserve", "--line", "SINCE=1")
    assert cli.json(*listing, "--since", "1d") == cli.json(*listing)
    assert cli.json(*listing, "--since", "2000-01-01") == cli.json(*listing)
    future = f"{datetime.now(UTC).year + 1}-01-01T00:00:00+01:00"
    assert cli.json(*listing, "--since", future) == []


@pytest.mark.parametrize(
    "text", ["soon", "1", "-1d", "1y", "2026-13-01", "2026-01-01T10:00", "9999w9", "\u0661d", "999999w"]
)
def test_since_that_is_no_time_is_refused(cli: CommandLine, text: str) -> None:
    run = cli("orders", "list", "--since", text)
    assert (run.code, run.out) == (2, "")
    assert text in run.err
    assert cli("fulfillments", "list", "--since", text).code == 2
