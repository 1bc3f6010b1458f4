"""`python -m benchmarks`: run the benchmarks; `--help` says which and how."""

from benchmarks.suite import main

main()
