"""Every solver of the registry with the values of its options, for tests over all of them.

Without those that are another solver of the registry with another network, and those that solve no differential
equation.
"""

import itertools

import pytest

from dode import solvers


def _variants(name):
    choices = solvers.create(name).method.choices
    return [(name, dict(zip(choices, values, strict=True))) for values in itertools.product(*choices.values())]


#: Solvers of the differential equation.
DETERMINISTIC = [name for name in solvers.names() if not solvers.create(name).method.stochastic]
DEFAULTS = [(name, {}) for name in DETERMINISTIC if solvers.create(name).method.network is None]
ALL = [variant for name, _ in DEFAULTS for variant in _variants(name)]
# Those whose noise levels do not depend on the image: the others are neither fitted nor exported.
SHARED_DEFAULTS, SHARED = (
    [(name, options) for name, options in some if not solvers.create(name).per_image] for some in (DEFAULTS, ALL)
)
SHARED_NAMES = [name for name, _ in SHARED_DEFAULTS]
#: And those for which nothing is prepared, which a job runs as they are.
READY_DEFAULTS = [(name, options) for name, options in SHARED_DEFAULTS if not solvers.create(name).method.prepare]


def paired(variants, *choices):
    """``(variant, value, value, ...)``: each variant with each value of the lists once, and each two values together.

    Of two lists of two values these are half of the product: one variant has (0, 0) and (1, 1), the next one the rest.
    """
    found = []
    for number, variant in enumerate(variants):
        for turn in range(max(map(len, choices))):
            own = [values[(turn + place * number) % len(values)] for place, values in enumerate(choices)]
            words = (getattr(each, "__name__", str(each)) for each in own)
            found.append(pytest.param(variant, *own, id="-".join([label(variant), *words])))
    return found


def label(variant):
    """Test id: ``deis-order=2-variable=time``."""
    name, options = variant
    return "-".join([name, *(f"{key}={value}" for key, value in options.items())])
