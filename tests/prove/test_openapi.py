"""Random requests from the OpenAPI file to a running stack for PROVE_SECONDS: no 5xx, and what the file says holds."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from tests.conftest import MakeServer
from tests.support.budgets import SECONDS, SEED
from tests.support.gateways import GatewayProcess
from tests.support.schema_cases import SchemaCases

EACH = 10


@pytest.mark.engine("sqlite", reason="requests are checked before the database")
def test_random_requests_are_answered_as_the_file_says(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server(
        rate_limits_per_key="",
        rate_limits_per_account="",
        rate_limits_per_address="",
        failed_credentials_burst="1000000",  # guessed passwords and keys must not end the run's other requests
        queue_wait_max_s="20",  # a busy host is not a fault of the server
        request_timeout_s="25",
    )
    gateway = GatewayProcess(
        tmp_path,
        server_address=server.address,
        api_key=server.admin_key,
        failed_credentials_burst="1000000",
        anonymous_requests_burst="1000000",
        access_log="off",
    )
    try:
        cases, ends_s = SchemaCases(gateway), time.monotonic() + SECONDS
        cases.run(each=EACH, number=SEED)  # all of it, however slow the host is
        report(cases, SEED)
        for number in itertools.count(SEED + 1):
            if time.monotonic() > ends_s:
                break
            cases.run(each=EACH, number=number, ends_s=ends_s)
            report(cases, number)
        assert server.process.poll() is None
    finally:
        gateway.process.kill()


def report(cases: SchemaCases, number: int) -> None:
    """Print the replies so far, and fail if one of them should not be."""
    print(f"\nseed {number}: {dict(cases.findings.statuses)}", flush=True)  # noqa: T201 - the result
    assert not cases.findings.problems, cases.findings.problems[0]
