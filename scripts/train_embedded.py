"""Train one of the embedded networks: ``python scripts/train_embedded.py digits-edm --output config/models``.

Not a rule: nobody needs to run it. The checkpoints and cards that it wrote are in ``config/models``, and so is the file
of real images that it writes for ``mnist-real-statistics``.
"""

import argparse
import logging
from pathlib import Path

from dode.models.embedded import training


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=[*sorted(training.RECIPES), "mnist-real-statistics"])
    parser.add_argument("--output", type=Path, default=Path("config/models"))
    parser.add_argument("--steps", type=int, help="optimiser steps (default: the recipe's)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if arguments.name == "mnist-real-statistics":
        training.write_statistics(output=arguments.output)
    else:
        training.train(arguments.name, output=arguments.output, steps=arguments.steps)


if __name__ == "__main__":
    main()
