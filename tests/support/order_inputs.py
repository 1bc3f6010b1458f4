"""Random inputs of the order machine, as hypothesis strategies."""

from __future__ import annotations

from hypothesis import strategies as st

PRICES = {"MUG-MOSS": 1_450, "TIN-RED": 990, "STRAINER": 690}
PRIORITIES = {"main": 0, "north": 0, "depot": 5}

skus = st.sampled_from(sorted(PRICES))
locations = st.sampled_from(sorted(PRIORITIES))
any_location = st.sampled_from(["", "", "", *sorted(PRIORITIES)])
wanted_lines = st.lists(st.tuples(skus, st.integers(1, 5)), min_size=1, max_size=4)
few_lines = st.lists(st.tuples(skus, st.integers(1, 3)), min_size=1, max_size=2)
few_texts = st.sampled_from(["", "a", "b"])
recent = st.integers(0, 4)
"""Index of an existing resource, from the newest that has not ended; 4 for the newest of all."""
line_units = st.dictionaries(st.integers(1, 3), st.integers(0, 4), max_size=2)
"""Units by line number; 0 for all units of the line."""
