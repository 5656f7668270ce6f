"""Which (prediction, solver) pairs the alignment ``released`` of the workflow and of ``dode.distill`` takes.

How they are paired: :mod:`dode.teacher`. The authors' code has more recipes, on grids and schedules of their own; those
are in :mod:`dode.released` alone.
"""

RELEASED = {("data", "ddim"), ("data", "heun"), ("noise", "ddim")}


def check_released(prediction, solver):
    """Raise ValueError unless the alignment takes ``solver`` for models of this ``prediction``."""
    if (prediction, solver) not in RELEASED:
        known = ", ".join(f"{name} for {kind} prediction" for kind, name in sorted(RELEASED))
        raise ValueError(
            f"alignment 'released' has no recipe for '{solver}' with {prediction} prediction; it has {known}"
        )
