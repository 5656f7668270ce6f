"""What all tests share."""

import forked_python


def pytest_configure(config):
    """The process that starts pytest-xdist's workers starts what they share."""
    if getattr(config.option, "numprocesses", None):
        forked_python.start()
