"""Fixtures: a scripted server and a client connected to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from storekeep.client import Storekeep
from tests.support.scripted_server import ScriptedServer, run_scripted_server

API_KEY = "sk_test_0123456789"


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    with run_scripted_server() as server:
        yield server


@pytest.fixture
def client(scripted: ScriptedServer) -> Iterator[Storekeep]:
    with Storekeep(scripted.address, api_key=API_KEY, timeout_s=60) as client:
        yield client
