"""Several workers: the supervisor that starts, polls and replaces them, and the worker's side of it."""
