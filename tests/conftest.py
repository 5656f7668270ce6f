"""What all tests share."""

import gc

import forked_python


def pytest_configure(config):
    """The process that starts pytest-xdist's workers starts what they share."""
    if getattr(config.option, "numprocesses", None):
        forked_python.start()


def pytest_collection_finish():
    """What was imported stays to the end, so no later collection looks at it, here or in a process forked from here."""
    gc.collect()
    gc.freeze()
