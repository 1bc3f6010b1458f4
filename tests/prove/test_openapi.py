"""schemathesis over the OpenAPI file and a running stack for PROVE_SECONDS: no 5xx, and replies match their schemas."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.conftest import MakeServer
from tests.support.gateways import GatewayProcess

SECONDS = float(os.environ.get("PROVE_SECONDS", "1200"))
COMMAND = Path(sysconfig.get_path("scripts"), "schemathesis")
CHECKS = "not_a_server_error,content_type_conformance,response_schema_conformance"


@pytest.mark.engine("sqlite", reason="requests are checked before the database")
def test_random_requests_get_replies_of_their_schemas(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server(rate_limits_per_key="", rate_limits_per_account="", rate_limits_per_address="")
    gateway = GatewayProcess(tmp_path, server_address=server.address, api_key=server.admin_key)
    host, port = gateway.address
    command = [COMMAND, "run", f"http://{host}:{port}/openapi.json", "--checks", CHECKS, "--phases", "fuzzing,stateful"]
    command += ["--header", f"Authorization: Bearer {server.admin_key}", "--max-time", str(int(SECONDS)), "--no-color"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS * 2 + 300, check=False)
    finally:
        gateway.process.kill()
    print(ended.stdout[-2000:])  # noqa: T201 - the result
    assert ended.returncode == 0, ended.stdout[-8000:]
    assert server.process.poll() is None
