"""Train one of the embedded networks: ``python scripts/train_embedded.py digits-edm``.

Not a rule: nobody needs to run it. The checkpoints and cards that it wrote are in ``config/models``, and so is the file
of real images that it writes for ``mnist-real-statistics``; the prompts of ``digit-prompts`` are in ``config/prompts``.
"""

import argparse
import logging
from pathlib import Path

from dode.models.embedded import text_to_digit, training


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "name", choices=[*sorted(training.RECIPES), "text-to-digit", "mnist-real-statistics", "digit-prompts"]
    )
    parser.add_argument("--output", type=Path, help="folder (default: the one in config)")
    parser.add_argument("--steps", type=int, help="optimiser steps (default: the recipe's)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    name, output = arguments.name, arguments.output or Path("config/models")
    if name == "digit-prompts":
        text_to_digit.write_prompts(output=arguments.output or Path("config/prompts"))
    elif name == "mnist-real-statistics":
        training.write_statistics(output=output)
    elif name == "text-to-digit":
        text_to_digit.train(output=output, steps=arguments.steps)
    else:
        training.train(name, output=output, steps=arguments.steps)


if __name__ == "__main__":
    main()
