"""Time grids: where on the noise scale a solver steps.

Every grid is a function with keyword options that returns a :class:`Grid`: noise levels as a float64 tensor of shape
(steps + 1,), descending, ending in 0. A grid is uniform in a variable of its own (:mod:`dode.grids.variables`); the
teacher of a distillation divides the student's intervals uniformly in that variable. numpy alone is imported here;
torch comes with the first grid made.

What a model fixes of a grid (``schedule``, ``sigma_min``, ``sigma_max``) is filled in by :func:`for_model`.
"""

import functools
import inspect

import numpy as np

from dode import solvers, storage
from dode.grids import schedules
from dode.grids.variables import Variable, index_space, log_space, rho_space, root_index_space, time_space
from dode.registry import Registry

__all__ = ["Variable", "index_space", "log_space", "rho_space", "root_index_space", "time_space"]

grids = Registry("grid")

FILLED = {"steps": "the nfe", "schedule": "the model's card", "model": "the model's card", "prepared": "a preparation"}


def _grid(name, *, family=True, prepare=None, plan=None, recipe=False):
    """Decorator: a function of keyword options that returns (levels, variable) becomes one that returns a Grid.

    Args:
        family: whether the grid can be made with another number of steps (its ``remake``).
        prepare: file name of the artefact that the grid is made from, where there is one; its path is the function's
            option ``prepared``.
        plan: what :func:`check` calls instead of the function as long as the artefact is not there: all options but
            ``prepared``, and levels of any number.
        recipe: whether it is a part of the authors' recipe for a solver, which brings more than the grid.
    """

    def wrap(function):
        def levels(*, steps, **options):
            if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1:
                raise ValueError(f"grid '{name}': steps must be an integer of at least 1, not {steps!r}")
            return function(steps=steps, **options)

        @functools.wraps(function)
        def make(*, steps, **options):
            from dode.grids.tensor import Grid

            remake = functools.partial(make, **options) if family else None
            return Grid.of(*levels(steps=steps, **options), remake)

        make.levels, make.plan, make.family, make.prepare = levels, plan or levels, family, prepare
        make.recipe = recipe
        return grids.register(name)(make)

    return wrap


def _numbers(name, above=0.0, **values):
    """Refuse what is not a finite number above a bound."""
    for option, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not above < value < np.inf:
            raise ValueError(f"grid '{name}': {option} must be a finite number above {above:g}, not {value!r}")


def _range(name, sigma_min, sigma_max):
    """Refuse what is no range of noise levels."""
    _numbers(name, sigma_min=sigma_min, sigma_max=sigma_max)
    if not sigma_min < sigma_max:
        raise ValueError(f"grid '{name}': needs sigma_min < sigma_max, not {sigma_min} and {sigma_max}")


@_grid("karras")
def karras(*, steps, sigma_min=0.002, sigma_max=80.0, rho=7.0):
    """The EDM grid (Karras et al. 2022, arXiv 2206.00364, Eq. 5), then 0.

    ``sigma_i = (sigma_max^(1/rho) + i/(steps-1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho``, i = 0..steps-1.

    >>> karras(steps=3, sigma_min=0.002, sigma_max=80.0, rho=7.0).tolist()
    [80.0, 2.5152..., 0.002, 0.0]
    """
    _range("karras", sigma_min, sigma_max)
    _numbers("karras", rho=rho)
    variable = rho_space(rho, sigma_min)
    return np.append(variable.between(sigma_max, sigma_min, steps), 0.0), variable


@_grid("log-snr")
def log_snr(*, steps, sigma_min=0.002, sigma_max=80.0):
    """Uniform in the half log-SNR ``-log sigma`` (Lu et al. 2022, arXiv 2206.00927, Sec. 3.4), then 0.

    ``sigma_i = sigma_max (sigma_min / sigma_max)^(i/(steps-1))``, i = 0..steps-1.

    >>> [round(sigma, 6) for sigma in log_snr(steps=3, sigma_min=0.01, sigma_max=100.0).tolist()]
    [100.0, 1.0, 0.01, 0.0]
    """
    _range("log-snr", sigma_min, sigma_max)
    variable = log_space(sigma_min)
    return np.append(variable.between(sigma_max, sigma_min, steps), 0.0), variable


@_grid("uniform-time")
def uniform_time(*, steps, sigma_min=0.002, sigma_max=80.0, beta_min=0.1, beta_max=20.0):
    """Uniform in the time of the linear VP SDE (Song et al. 2021, arXiv 2011.13456), then 0.

    ``t_i = t(sigma_max) + i/(steps-1) (t(sigma_min) - t(sigma_max))``, i = 0..steps-1, with ``t(sigma)`` of
    :func:`dode.grids.variables.time_space`. The time is a variable on the noise scale, whatever the model's own
    schedule: a model whose largest noise level is above the SDE's (152 at t = 1) begins beyond t = 1.

    >>> uniform_time(steps=2, sigma_max=80.0).tolist()
    [80.0, 0.002, 0.0]
    """
    _range("uniform-time", sigma_min, sigma_max)
    _numbers("uniform-time", beta_min=beta_min)
    _numbers("uniform-time", above=beta_min, beta_max=beta_max)
    variable = time_space(beta_min, beta_max, sigma_min)
    return np.append(variable.between(sigma_max, sigma_min, steps), 0.0), variable


def _indices(name, schedule, sigma_min, sigma_max):
    """(schedule, lowest index, highest index) of a noise range; by default linear betas and their whole range."""
    schedule = schedules.schedules.create("linear") if schedule is None else schedule
    sigma_min = schedule.sigma_min if sigma_min is None else sigma_min
    sigma_max = schedule.sigma_max if sigma_max is None else sigma_max
    _range(name, sigma_min, sigma_max)
    if sigma_max > schedule.sigma_max * (1 + 1e-9):
        raise ValueError(
            f"grid '{name}': sigma_max must be at most {schedule.sigma_max:.6g}, the schedule's largest noise level, "
            f"not {sigma_max}"
        )
    return schedule, max(float(schedule.index(sigma_min)), 0.0), float(schedule.index(sigma_max))


@_grid("uniform-index")
def uniform_index(*, steps, schedule=None, sigma_min=None, sigma_max=None, spacing="trailing"):
    """Uniform in the index of a VP schedule (default: linear betas, 1,000 steps), then the clean image.

    With ``T - 1`` the index of ``sigma_max`` (by default the schedule's last; a fraction on another model's range):
    ``spacing`` "trailing": indices ``T (1 - k/steps) - 1``, k = 0..steps: from the noisiest index straight to the clean
    image (fractional where they fall so). "leading": the released D-ODE and DDIM code's, integer parts of
    ``linspace(0, T, steps + 1)[:-1]`` in float32, descending, then clean: the first index is below T - 1.

    A data-prediction model has no schedule: the grid is then uniform in the index of the linear one, restricted to the
    model's range of noise. ``sigma_min`` (default: the schedule's) is the end of a refinement and bounds the steps.

    >>> uniform_index(steps=4, spacing="leading").shape
    torch.Size([5])
    """
    schedule, lowest, highest = _indices("uniform-index", schedule, sigma_min, sigma_max)
    total = highest + 1
    limit = int(total / (lowest + 1))
    if steps > limit:
        raise ValueError(f"grid 'uniform-index': at most {limit} steps on this schedule, not {steps}")
    if spacing == "trailing":
        indices = total * (1 - np.arange(steps) / steps) - 1
    elif spacing == "leading":
        indices = _linspace_float32(total, steps)[::-1].astype(np.int64)
    else:
        raise ValueError(f"grid 'uniform-index': spacing must be 'trailing' or 'leading', not '{spacing}'")
    levels = schedule.sigma(indices)
    if spacing == "trailing" and sigma_max is not None:
        levels[0] = sigma_max
    return np.append(levels, 0.0), index_space(schedule, sigma_min, limit)


def _linspace_float32(total, steps):
    """torch.linspace(0, total, steps + 1)[:-1] in float32 by torch's algorithm: from both ends to the middle.

    Its rounding is part of the released definition: numpy's, and exact division, round some entries to another integer.
    """
    step, k = np.float32(total) / np.float32(steps), np.arange(steps)
    ascending, descending = step * k.astype(np.float32), np.float32(total) - step * (steps - k).astype(np.float32)
    return np.where(k < (steps + 1) // 2, ascending, descending)


@_grid("quadratic")
def quadratic(*, steps, schedule=None, sigma_min=None, sigma_max=None):
    """Uniform in the square root of the index of a VP schedule (default: linear betas), then the clean image.

    ``index_i = (sqrt(I) + i/(steps-1) (sqrt(J) - sqrt(I)))^2``, i = 0..steps-1, from the index ``I`` of ``sigma_max``
    to ``J``, that of ``sigma_min`` or 0 where it is below: the quadratic spacing of DDIM (Song et al. 2021, arXiv
    2010.02502, App. D.2), which has J = 0, from the noisiest index. The linear schedule serves a model without one.

    >>> schedules.schedules.create("linear").index(quadratic(steps=3).numpy()).round(6).tolist()
    [999.0, 249.75, 0.0, -1.0]
    """
    schedule, lowest, highest = _indices("quadratic", schedule, sigma_min, sigma_max)
    variable = root_index_space(schedule, sigma_min)
    first = float(schedule.sigma(highest)) if sigma_max is None else sigma_max
    return np.append(variable.between(first, float(schedule.sigma(lowest)), steps), 0.0), variable


@_grid("explicit", family=False)
def explicit(*, steps, sigmas, sigma_min=None, sigma_max=None):
    """The noise levels ``sigmas`` as they are, one per step, then 0 (which may stand at their end).

    They must be finite, descending and, where these are given, between ``sigma_min`` and ``sigma_max``. A refinement is
    uniform in rho-space with rho = 7.

    >>> explicit(steps=2, sigmas=[80, 1.5]).tolist()
    [80.0, 1.5, 0.0]
    """
    if not isinstance(sigmas, list | tuple):
        raise ValueError(f"grid 'explicit': sigmas must be a list of noise levels, not {sigmas!r}")
    levels = list(sigmas[:-1]) if len(sigmas) and sigmas[-1] == 0 and sigmas[-1] is not False else list(sigmas)
    if len(levels) != steps:
        raise ValueError(f"grid 'explicit': {len(levels)} noise levels above 0 make {len(levels)} steps, not {steps}")
    for place, level in enumerate(levels):
        _numbers("explicit", **{f"sigmas[{place}]": level})
        if place and not level < levels[place - 1]:
            raise ValueError(
                f"grid 'explicit': sigmas must descend, but sigmas[{place}] = {level} follows {levels[place - 1]}"
            )
    for level, bound, sign, word in ((levels[0], sigma_max, 1, "above"), (levels[-1], sigma_min, -1, "below")):
        if bound is not None and sign * (level - bound) > 1e-6 * bound:
            raise ValueError(f"grid 'explicit': sigma = {level} is {word} the model's range, which ends at {bound}")
    return np.array([*levels, 0.0], dtype=np.float64), rho_space(sigma_min=min(sigma_min or np.inf, levels[-1]))


def _search_plan(*, steps, model, over, candidates, images, coefficient, teacher):
    """Refuse bad options of ``searched``; the candidates as (levels, variable)."""
    if (
        not isinstance(over, dict)
        or not isinstance(over.get("name"), str)
        or set(over) - {"name", "options"}
        or not isinstance(over.get("options", {}), dict)
    ):
        raise ValueError(f"grid 'searched': over must be a grid, {{name: ..., options: {{...}}}}, not {over!r}")
    if grids.get(over["name"]).prepare:
        raise ValueError(f"grid 'searched': over cannot be '{over['name']}', which must be prepared itself")
    for option, value in (("candidates", candidates), ("images", images)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"grid 'searched': {option} must be an integer of at least 1, not {value!r}")
    if steps > candidates - 1:
        raise ValueError(
            f"grid 'searched': {steps} steps need at least {steps + 1} candidates, not {candidates}; "
            f"{candidates} candidate levels make at most {candidates - 1} steps"
        )
    _numbers("searched", coefficient=coefficient)
    if solvers.create_teacher(teacher).method.prepare:
        raise ValueError(f"grid 'searched': teacher cannot be '{teacher}', which must be prepared itself")
    options = over.get("options", {})
    refuse_filled(options)
    grids.check_options(over["name"], {"steps": candidates - 1, **options})
    return grids.get(over["name"]).levels(steps=candidates - 1, **_filled(over["name"], options, model or {}.get))


@_grid("searched", family=False, prepare="searched.json", plan=_search_plan)
def searched(
    *,
    steps,
    prepared=None,
    model=None,
    over={"name": "karras"},  # noqa: B006 - read only, and shown as the default
    candidates=61,
    images=100,
    coefficient=1.0,
    teacher="heun",
):
    """The levels that :func:`dode.search.search` chose among those of another grid (Chen et al. 2024, 2405.11326).

    ``over`` is the grid of the candidates, ``{name, options}``, of ``candidates`` levels, 0 among them. ``images`` is
    the number of the teacher's trajectories, ``coefficient`` and ``teacher`` are the search's. ``prepared`` is the path
    of the artefact with the result (rules/solvers/gits.smk), ``model`` gives the facts of the model by name. Refined in
    the variable of ``over``.
    """
    if prepared is None:
        raise ValueError("grid 'searched' is made from a file with its levels; in a program call dode.search.search")
    _, variable = _search_plan(
        steps=steps,
        model=model,
        over=over,
        candidates=candidates,
        images=images,
        coefficient=coefficient,
        teacher=teacher,
    )
    levels = storage.read_json(prepared)["sigmas"]
    if len(levels) != steps + 1:
        raise ValueError(f"grid 'searched': {prepared} holds a grid of {len(levels) - 1} steps, not {steps}")
    return np.array(levels), variable


def _released_plan(*, steps, schedule=None, sigma_min=0.002, sigma_max=80.0):
    if schedule is None:
        return karras.levels(steps=steps, sigma_min=sigma_min, sigma_max=sigma_max)
    if steps > len(schedule):
        raise ValueError(f"grid 'released': at most {len(schedule)} steps on this schedule, not {steps}")
    indices = (len(schedule) - 1) * np.arange(steps, -1, -1) / steps
    return schedule.sigma(indices), index_space(schedule, schedule.sigma_min, len(schedule))


@_grid("released", family=False, plan=_released_plan, recipe=True)
def released(*, steps, schedule=None, sigma_min=0.002, sigma_max=80.0):
    """The grid of the authors' recipe for a solver, which belongs to it with its schedule: :mod:`dode.released`.

    The workflow makes the whole recipe of a cell with this grid, plain or distilled with ``alignment: released``.
    """
    raise ValueError("grid 'released' is a part of the authors' recipe for a solver: dode.released.recipe makes it")


def names():
    """Names of all grids, sorted."""
    return grids.names()


def families():
    """Names of the grids that can be made of any number of steps, without a preparation."""
    return [name for name in names() if grids.get(name).family]


def defaults(name):
    """The options of a grid that a user may choose and need not, with their defaults."""
    own = inspect.signature(grids.get(name)).parameters
    return {
        key: own[key].default for key in own if key not in FILLED and own[key].default is not inspect.Parameter.empty
    }


def refuse_filled(options):
    """Refuse options that are not the user's to choose."""
    for option in options:
        if option in FILLED:
            raise ValueError(f"'{option}' follows from {FILLED[option]}; leave it out")


def _filled(name, options, facts):
    """``options`` with what the model fixes: its schedule, or else its smallest and largest noise level."""
    own = inspect.signature(grids.get(name)).parameters
    keys = ("schedule",) if "schedule" in own and facts("schedule") is not None else ("sigma_min", "sigma_max")
    known = {key: facts(key) for key in keys if key in own and facts(key) is not None}
    return {**({"model": facts} if "model" in own else {}), **known, **options}


def complete(name, card, **options):
    """``options`` of a grid with its defaults and with what the model of this card (a dict) fixes, without torch."""
    facts = dict(card)
    if "schedule" in card:
        schedule = schedules.schedules.create(**card["schedule"])
        facts |= {"schedule": schedule, "sigma_min": schedule.sigma_min, "sigma_max": schedule.sigma_max}
    return {**defaults(name), **_filled(name, options, facts.get)}


def check(name, steps, card, **options):
    """Refuse, without torch, a grid that cannot be made with these options for the model of this card (a dict)."""
    grids.check_options(name, {"steps": steps, **options})
    levels, _ = grids.get(name).plan(steps=steps, **complete(name, card, **options))
    if not np.isfinite(levels).all() or not (np.diff(levels) < 0).all():
        raise ValueError(f"grid '{name}' with {options} has levels that are not finite and descending")


def for_model(denoise, name, steps, **options):
    """The grid ``name`` for a model (:class:`dode.models.denoiser.Denoiser`), on its schedule or noise range.

    A model that has a method ``round_sigma`` gets the levels that this makes of them.
    """
    grid = grids.create(name, steps=steps, **_filled(name, options, lambda key: getattr(denoise, key, None)))
    rounded = getattr(denoise, "round_sigma", None)
    return grid if rounded is None else _rounded(grid, rounded)


def _rounded(grid, rounded):
    """The grid, and those it is remade as, with its levels at the nearest that a discrete model has."""
    from dode.grids.tensor import Grid

    remake = None if grid.remake is None else lambda **options: _rounded(grid.remake(**options), rounded)
    return Grid.of(rounded(np.asarray(grid)), grid.variable, remake)
