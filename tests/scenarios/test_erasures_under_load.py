"""Some customers are erased while others order; `tests/prove` has the same with more of both."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import MakeServer
from tests.support.erasure_load import erase_under_load


def test_customers_erased_under_load_are_unreadable_and_their_totals_stay(
    make_server: MakeServer, tmp_path: Path
) -> None:
    refused = erase_under_load(make_server(), tmp_path / "copy", operations=400, erasures=10, seed=16)
    assert refused.keys() <= {"ILLEGAL_STATE", "PERSONAL_DATA_ERASED", "RESOURCE_DELETED", "FIELD_NOT_CHANGEABLE"}
