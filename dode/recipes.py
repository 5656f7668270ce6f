"""Which (prediction, solver) pairs the authors' released code has a recipe for (method: :mod:`dode.teacher`)."""

RELEASED = {("data", "ddim"), ("data", "heun"), ("noise", "ddim")}


def check_released(prediction, solver):
    """Raise ValueError unless the released code distils ``solver`` for models of this ``prediction``."""
    if (prediction, solver) not in RELEASED:
        known = ", ".join(f"{name} for {kind} prediction" for kind, name in sorted(RELEASED))
        raise ValueError(f"the released code has no recipe for '{solver}' with {prediction} prediction; it has {known}")
