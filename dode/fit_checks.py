"""What a fit can be made of, checked without torch: the configuration asks before any job, the library again.

``RELEASED`` lists the (prediction, solver) pairs that the alignment ``released`` takes (how: :mod:`dode.teacher`). The
authors' code has more recipes, on grids and schedules of their own; those are in :mod:`dode.released` alone.
"""

import itertools

RELEASED = {("data", "ddim"), ("data", "heun"), ("noise", "ddim")}
IMAGES_PER_DIRECTION = 4
HELD_OUT = 4  # one image of so many is held out of a fit that is refined


def check_released(prediction, solver):
    """Raise ValueError unless the alignment takes ``solver`` for models of this ``prediction``."""
    if (prediction, solver) not in RELEASED:
        known = ", ".join(f"{name} for {kind} prediction" for kind, name in sorted(RELEASED))
        raise ValueError(
            f"alignment 'released' has no recipe for '{solver}' with {prediction} prediction; it has {known}"
        )


def check_refine(refine, alignment):
    """Raise ValueError for a number of iterations that is none, or an alignment whose end state is no target."""
    if isinstance(refine, bool) or not isinstance(refine, int) or refine < 0:
        raise ValueError(f"refine must be an integer of at least 0, not {refine!r}")
    if refine and alignment != "aligned":
        raise ValueError(f"refine {refine}: alignment '{alignment}' has no end state to aim at; take 'aligned' or 0")


def held_out(images):
    """How many of the fitting images a refinement holds out."""
    return max(1, images // HELD_OUT)


def check_images(images, directions, evaluations, refine=0):
    """Raise ValueError for a fitting set that cannot carry its coefficients.

    Pixels of one image depend on one another, so images count, not pixels: four images per direction for the greedy fit
    of one evaluation after the other; for a refinement, which fits all at once, as many as coefficients too. Images
    that are held out do not count.
    """
    least, coefficients = IMAGES_PER_DIRECTION * directions, directions * evaluations
    if not refine and images < least:
        raise ValueError(
            f"{images} images cannot carry {directions} direction{'s' * (directions > 1)} per evaluation: "
            f"at least {least} are needed"
        )
    if not refine:
        return
    least = max(least, coefficients)
    if images - held_out(images) < least:
        needed = next(count for count in itertools.count(least + 1) if count - held_out(count) >= least)
        raise ValueError(
            f"{images} images, a quarter of them held out, cannot carry the refinement of {coefficients} coefficients "
            f"({directions} at each of {evaluations} evaluations): at least {needed} are needed"
        )
