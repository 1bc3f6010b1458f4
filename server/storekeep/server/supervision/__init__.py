"""Several workers: a supervisor that starts, replaces and asks them, and what a worker is on its side."""
