"""What ``fits.py`` measures: models, numbers of evaluations, grids and fits."""

import dataclasses
import itertools

from toy import NAMES as SOLVERS

USUAL = (3, 4, 5, 6, 8, 10, 15, 20)
#: Evaluations that a solver of two or more per interval can make, nearest to the usual ones.
TWO_STAGES = (3, 5, 7, 9, 15, 19)
OWN_NFES = {
    **dict.fromkeys(("heun", "flow-heun", "flow-midpoint"), TWO_STAGES),
    "pndm": (5, 9, 13, 15, 20),
}
NFES = sorted({*USUAL, *itertools.chain(*OWN_NFES.values())})
GRIDS = {
    "karras": ("karras", {}),
    "log-snr": ("log-snr", {}),
    "trailing": ("uniform-index", {}),
    "leading": ("uniform-index", {"spacing": "leading"}),
    "quadratic": ("quadratic", {}),
    "flow-linear": ("flow-linear", {}),
    "align-your-steps": ("align-your-steps", {}),
    "searched": None,
}
#: What every grid may be made with besides; a grid's name is followed by one of these.
ENDINGS = {
    "": {},
    ", afs": {"afs": True},
    ", to sigma_min": {"end": "sigma_min"},
    ", afs, to sigma_min": {"afs": True, "end": "sigma_min"},
}
FITS = {
    "greedy": {"fit": "greedy"},
    "refined": {"fit": "refined", "directions": 3},
    "joint": {"fit": "joint", "clip": True},
}
SCORES = ("paired_fid", "self_fid", "fid", "rmse")
FITTED, CANDIDATES, SEARCHED, BLOCKS, TRIED = 200, 61, 64, 3, 3


@dataclasses.dataclass(frozen=True)
class Model:
    """An embedded model, and how it is measured.

    Attributes:
        features: card of the network whose features are compared.
        own: name in :data:`GRIDS` of the grid that its benchmark takes.
        fine: solver, evaluations and grid of the fine solution.
        images: scored in each of the blocks.
        batch: images per call of the network.
        solvers: those that are measured.
        nfes: the numbers of evaluations.
        fits: those that are measured.
    """

    features: str
    own: str
    fine: tuple[str, int, str]
    images: int
    batch: int
    shape: tuple[int, int, int]
    solvers: tuple[str, ...] = tuple(SOLVERS)
    nfes: tuple[int, ...] = tuple(NFES)
    fits: tuple[str, ...] = tuple(FITS)


MODELS = {
    "digits-edm": Model("digits-classifier", "karras", ("heun", 79, "karras"), 1000, 1000, (1, 8, 8)),
    "digits-ddpm": Model("digits-classifier", "trailing", ("heun", 79, "karras"), 1000, 1000, (1, 8, 8)),
    # An evaluation of 28x28 images costs so much more that only some are measured; a refinement makes most of them.
    "mnist-ddpm": Model(
        "mnist-classifier",
        "trailing",
        ("ipndm", 60, "karras"),
        200,
        100,
        (1, 28, 28),
        ("ddim", "ipndm", "dpm-solver++", "unipc"),
        (5, 6, 8, 10),
        ("greedy", "joint"),
    ),
}
