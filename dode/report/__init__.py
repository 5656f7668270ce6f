"""Tables and figures of the benchmark, from the scores on disk. Nothing here imports torch."""
