"""docs/client.md is correct: its programs run and its figures match the library."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from storekeep.client import DEFAULT_TIMEOUT_S, Storekeep
from storekeep.client.attempts import ATTEMPTS_MAX, BACKOFF_MAX_S, BUDGET_RETRIES_MAX, BUDGET_RETRIES_PER_SUCCESS
from storekeep.client.channels import RECEIVE_BYTES_MAX, TRANSPORT_ATTEMPTS_MAX
from storekeep.client.tokens import RENEW_AT_FRACTION
from tests.support.processes import ServerProcess

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[ServerProcess]:
    """Return a server with the sample catalogue, as the page requires."""
    server = ServerProcess(tmp_path / "server", arguments=("--sample",))
    yield server
    server.kill()


def test_programs_run_one_after_the_other(shop: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    programs = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    with Storekeep(shop.address, api_key=shop.admin_key) as client:
        names: dict[str, object] = {}
        for program in programs:
            there = program.replace("127.0.0.1:50051", shop.address).replace("sk_...", shop.admin_key)
            exec(compile(there, "docs/client.md", "exec"), names)
            names["client"] = client
    lines = capsys.readouterr().out.splitlines()
    assert "products/chai" in lines
    assert "CHAI-1 99 40" in lines


def test_figures_are_the_librarys() -> None:
    assert f"{DEFAULT_TIMEOUT_S:.0f} s for a call" in PAGE
    assert f"{RENEW_AT_FRACTION:.0%}".replace("%", " %") in PAGE
    assert f"answered this client, {TRANSPORT_ATTEMPTS_MAX} attempts" in PAGE
    assert f"up to {ATTEMPTS_MAX} attempts" in PAGE
    assert f"grows to {BACKOFF_MAX_S:.0f} s" in PAGE
    calls = 1 / BUDGET_RETRIES_PER_SUCCESS
    assert f"{BUDGET_RETRIES_MAX} such retries, and one more for each {calls:.0f} calls" in PAGE
    assert f"{RECEIVE_BYTES_MAX // 2**20} MiB" in PAGE
