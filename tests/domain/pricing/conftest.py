"""Tills for the tests of numbers, each at a server with other settings of prices. They serve one test file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.tills import Till, open_till


@pytest.fixture(scope="module")
def till(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Till]:
    """Net prices, rounded half up, tax by line: the defaults."""
    with open_till(engine, tmp_path_factory.mktemp("net")) as opened:
        yield opened


@pytest.fixture(scope="module")
def gross_till(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Till]:
    """Prices that include the tax of whichever zone they are sold into."""
    with open_till(engine, tmp_path_factory.mktemp("gross"), prices_include_tax="true") as opened:
        yield opened


@pytest.fixture(scope="module")
def home_till(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Till]:
    """Prices that include the tax of the zone `home`; elsewhere the net price is kept."""
    settings = {"prices_include_tax": "true", "home_tax_zone": "taxZones/home"}
    with open_till(engine, tmp_path_factory.mktemp("home"), **settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def unit_till(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Till]:
    """Gross prices of each zone, whose tax is rounded for each unit."""
    settings = {"prices_include_tax": "true", "tax_rounding": "PER_UNIT"}
    with open_till(engine, tmp_path_factory.mktemp("unit"), **settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def even_till(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Till]:
    """Net prices, rounded half even."""
    with open_till(engine, tmp_path_factory.mktemp("even"), price_rounding="HALF_EVEN") as opened:
        yield opened
