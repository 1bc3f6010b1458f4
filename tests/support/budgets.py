"""Budgets: how long the campaigns of `make prove` go on, from the environment, so that a night can be given to them."""

from __future__ import annotations

import os

ROUNDS = int(os.environ.get("PROVE_ROUNDS", "300"))
"""Kills of a server under load; the kills of other commands are a tenth of it."""
SECONDS = float(os.environ.get("PROVE_SECONDS", "600"))
"""How long random bytes are sent, and how long callers compete."""
INPUTS = int(os.environ.get("PROVE_INPUTS", "1000000"))
"""Inputs of the fuzzing of parsers; a million take some ten minutes."""
SEED = int(os.environ.get("PROVE_SEED", "1"))
"""Of all that is random but the order in which threads run."""
