"""A bounded run of random requests from the OpenAPI file; `make prove` runs the same for longer."""

from __future__ import annotations

import pytest
from schemathesis import GenerationMode

from tests.support.gateways import GatewayProcess
from tests.support.schema_cases import SchemaCases

EACH = 1
SEED = 1
PARTS = 4
"""Tests of each mode: one of all operations would take minutes on a busy host, and look as if it hung."""
pytestmark = pytest.mark.engine("sqlite", reason="the file is written from the contract")


@pytest.fixture(scope="module")
def cases(gateway: GatewayProcess) -> SchemaCases:
    """Return the requests of the file, which build on the names in earlier replies."""
    return SchemaCases(gateway)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
def test_requests_of_the_file_are_answered_as_it_says(cases: SchemaCases, mode: GenerationMode, part: int) -> None:
    operations = list(cases.list_operations())[part::PARTS]
    before = cases.findings.statuses.copy()
    cases.run_mode(mode, operations, each=EACH, number=SEED)
    assert cases.findings.problems == []
    answered = cases.findings.statuses - before
    assert answered.total() > EACH * len(operations) / 2, "some operations have no input that could be wrong"
    assert part > 0 or mode is GenerationMode.NEGATIVE or answered["positive", 200] > 0
