"""The commands of ``python -m dode``, a file each, found by themselves; ``check-model`` is in ``check_model.py``.

A command's module docstring is its help. One that sets the default ``takes_more`` gets arguments that it does not know
as ``options.more``. It has ``add_arguments(parser)`` and ``run(options)``, which prints its answer
and returns an exit status (None is 0); ValueError and OSError are bad input, told in one sentence. No module here
imports torch, numpy or the like before ``run``, so that ``--help`` is there at once.
"""
