"""Train one of the embedded networks: ``python scripts/train_digits.py digits-edm --output config/models``.

Not a rule: nobody needs to run it. The checkpoints and cards that it wrote are in ``config/models``.
"""

import argparse
import logging
from pathlib import Path

from dode.models.embedded import training


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=sorted(training.RECIPES))
    parser.add_argument("--output", type=Path, default=Path("config/models"))
    parser.add_argument("--steps", type=int, help="optimiser steps (default: the recipe's)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    training.train(arguments.model, output=arguments.output, steps=arguments.steps)


if __name__ == "__main__":
    main()
