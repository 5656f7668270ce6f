"""Tables and figures of the benchmark, from the scores on disk. Nothing here imports torch."""

CROWD = 16  # solvers that a panel of curves shows in colour at most
