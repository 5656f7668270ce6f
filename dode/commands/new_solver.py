"""Begin a solver of your own: write dode/solvers/NAME.py, a working one that passes its tests, to be changed.

It needs a copy of the repository. What a solver owes: docs/adding-a-solver.md.
"""

import argparse
import keyword
import os
import re
from pathlib import Path

from dode.fetching import places

TEMPLATE = '''\
"""{label}: say here what the method does, in one line."""

from itertools import pairwise

from dode.solvers.base import Denoise, Proposal, Proposals, Tensor, solver


# An example, the Adams-Bashforth method of order 2. Put your method in its place, and its authors into `source`.
# docs/adding-a-solver.md says what else a solver may declare, such as its options or more evaluations a step.
@solver(
    "{name}",
    order=2,  # of accuracy of the end state, which a test measures
    source="Bashforth & Adams 1883; in diffusion models, Zhang & Chen 2023, arXiv:2204.13902",
)
def {function}(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Proposals:
    """``x' = x + h (eps + h / h_old (eps - eps_old) / 2)`` with ``eps = (x - D) / sigma``; Euler's step first.

    One evaluation per step.
    """
    noise_before = step_before = None
    for sigma, sigma_next in pairwise(sigmas):
        denoised = denoise(x, sigma)  # (B, C, H, W), the one evaluation of this step
        noise, step = (x - denoised) / sigma, sigma_next - sigma
        slope = noise
        if step_before is not None:
            slope = noise + step / step_before / 2 * (noise - noise_before)
        # The proposed state, its noise level, and the clean image with which Euler's step would make the same proposal.
        # What comes back is the state to go on with: the proposal, or a corrected one where the solver is distilled.
        proposal = Proposal(x + step * slope, sigma_next, x - sigma * slope)
        noise_before, step_before = noise, step
        x = yield proposal
'''

SAID = """\
{path} is a working solver, the Adams-Bashforth method of order 2. Put yours in its place.

Its tests:
  python -m pytest tests/unit/test_solvers.py tests/unit/test_accuracy.py -k {name}

Under `solvers` of a configuration, plain and distilled:
  - {{id: {name}, label: {label}, solver: {name}, nfe: [5, 10]}}
  - {{id: j-{name}, label: J-{label}, solver: {name}, nfe: [5, 10], distill: {{fit: joint}}}}

Then, to see what that configuration runs, and to run it:
  snakemake --configfile CONFIGURATION --dry-run
  snakemake --configfile CONFIGURATION"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How it is called."""
    parser.add_argument("name", help="small letters, digits and hyphens, such as my-solver")


def run(options: argparse.Namespace) -> None:
    """Write the file, say what comes next."""
    root, name = places.workflow(), options.name
    if places.is_installed(root):
        raise ValueError(
            "dode is installed here without its repository, and a solver is a file in it; fetch a copy of the "
            "repository and run this command there"
        )
    if not Path.cwd().is_relative_to(root.resolve()):
        raise ValueError(
            f"a solver is a file of the package, and this one is imported from {root}; run this command there"
        )
    folder = places.PACKAGE / "solvers"
    function = name.replace("-", "_")
    _check(name, function, folder)
    path, label = folder / f"{function}.py", name.replace("-", " ").capitalize()
    with path.open("x", encoding="utf-8") as file:
        file.write(TEMPLATE.format(name=name, function=function, label=label))
    print(SAID.format(path=Path(os.path.relpath(path)), name=name, label=label))


def _check(name: str, function: str, folder: Path) -> None:
    """Refuse a name that a configuration or Python could not have, and one that is taken."""
    from dode import solvers

    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > 40:
        raise ValueError(
            f"name: {name!r} is not allowed; allowed: up to 40 small letters, digits and hyphens, a letter first, such "
            "as my-solver"
        )
    if name in solvers.names():
        raise ValueError(
            f"name: there is a solver '{name}' already; those that there are: {', '.join(solvers.names())}"
        )
    if (folder / f"{function}.py").exists() or (folder / function).exists():
        raise ValueError(f"name: there is a file {function}.py in {os.path.relpath(folder)} already; take another name")
    if keyword.iskeyword(function) or function in ("pairwise", "solver", "denoise", "sigmas", "x"):
        raise ValueError(f"name: '{function}' means something else in that file; take another name")
