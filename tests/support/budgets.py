"""Budgets of the `make prove` campaigns, from the environment, so that they can run for a night."""

from __future__ import annotations

import os

ROUNDS = int(os.environ.get("PROVE_ROUNDS", "300"))
"""Number of times that a server is killed under load; other commands are killed a tenth as often."""
SECONDS = float(os.environ.get("PROVE_SECONDS", "600"))
"""How long random bytes are sent and callers compete."""
INPUTS = int(os.environ.get("PROVE_INPUTS", "1000000"))
"""Inputs of the parser fuzzing; a million take about ten minutes."""
SEED = int(os.environ.get("PROVE_SEED", "1"))
"""Seed of all randomness except the order of threads."""
