"""Every solver of the registry with the values of its options, for tests over all of them.

Without those that are another solver of the registry with another network, and those that solve no differential
equation.
"""

import itertools

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


def label(variant):
    """Test id: ``deis-order=2-variable=time``."""
    name, options = variant
    return "-".join([name, *(f"{key}={value}" for key, value in options.items())])
