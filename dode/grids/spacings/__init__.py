"""The grids, a file each, found by name: ``uniform-time`` is in ``uniform_time.py``."""
