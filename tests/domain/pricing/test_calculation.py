"""The calculation agrees with a second implementation on every cent, and its invariants always hold."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from storekeep.server.domain.pricing.calculation import price_basket
from tests.support.pricing_inputs import make_case
from tests.support.pricing_model import check_case


@settings(max_examples=2000, deadline=None)
@given(st.integers(0, 2**64))
def test_price_basket_agrees_with_the_model(seed: int) -> None:
    basket, terms = make_case(Random(seed))
    check_case(basket, terms, price_basket(basket, terms))
