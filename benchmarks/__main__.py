"""Entry point of `python -m benchmarks`. `--help` lists the benchmarks and options."""

from benchmarks.suite import main

main()
