"""Settings that must be there before torch is imported, for the tests and the doctests alike."""

import os

# Test processes share the cores: idle OpenMP threads that spin, or a team of threads each, take several times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Compiled networks are compiled in the test's own process: a pool of processes that each import torch costs more.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
