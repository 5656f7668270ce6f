"""Commands: start a benchmark, run it, look into it, and use what it found."""

import argparse
import importlib
import os
import pkgutil
import re
import sys
from collections.abc import Sequence

from dode import commands, texts


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command named first; returns the exit status: 0, or 1 with one sentence on standard error."""
    texts.write_all(sys.stdout)
    parser = argparse.ArgumentParser(prog="python -m dode", description=__doc__, allow_abbrev=False)
    chosen = parser.add_subparsers(metavar="command", required=True)
    for found in pkgutil.iter_modules(commands.__path__):
        module = importlib.import_module(f"{commands.__name__}.{found.name}")
        summary = (module.__doc__ or "").splitlines()[0]
        name = found.name.replace("_", "-")
        command = chosen.add_parser(name, help=summary, description=module.__doc__, allow_abbrev=False)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    given = sys.argv[1:] if arguments is None else arguments
    options, more = parser.parse_known_args([re.sub(r"(?<=^--)([\w-]+=)(~.*)", _from_home, each) for each in given])
    if more and not getattr(options, "takes_more", False):
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    options.more = more
    try:
        status = options.run(options) or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Who reads has had enough (`| head`); Python would complain as it flushes once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {texts.shown(error)}", file=sys.stderr)
        return 1


def _from_home(option: re.Match[str]) -> str:
    """``--output=~/file`` as shells leave it, with the home's folder."""
    return option[1] + os.path.expanduser(option[2])


if __name__ == "__main__":
    raise SystemExit(main())
