"""What is known of a model. Imports no torch: grids are checked, and results written, without the network."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from dode.grids import spellings
from dode.grids.schedules import FlowSchedule, Schedule, check_steps, schedules
from dode.solvers.base import Denoise

Prediction: TypeAlias = Literal["data", "noise", "v", "image", "flow"]
PREDICTIONS = get_args(Prediction)


def ve_prior(sigma: Any) -> Any:
    """Standard deviation of the first state of a variance-exploding model, ``sigma``."""
    return sigma


def vp_prior(sigma: Any) -> Any:
    """``sqrt(1 + sigma^2)``: a VP sampler starts from a unit normal, and this is that in VE coordinates."""
    return (1 + sigma**2) ** 0.5


def flow_prior(sigma: Any) -> Any:
    """``1 + sigma``: a flow-matching sampler starts from a unit normal, and this is that in VE coordinates."""
    return 1 + sigma


@dataclasses.dataclass(frozen=True)
class ModelFacts:
    """What solvers, grids and fits need to know of a model besides ``denoise(x, sigma)``.

    Attributes:
        prediction: which quantity the network was trained to output: ``"noise"``, ``"v"`` or ``"image"`` on a VP
            schedule, ``"flow"`` (the velocity ``n - x_0``) on that of flow matching, ``"data"`` under EDM's
            preconditioning. diffusers' names of these are taken too.
        schedule: the schedule of a model that has one, None for others.
        sigma_min, sigma_max: the noise levels that the network was trained on, in units of the images; those of the
            schedule by default, None where they are not known. Pure noise, if the schedule begins there, is above.
        shift, index_factor: the network is called at ``index_factor (index + shift)`` instead of the schedule's index.
        index_scale: what the network itself multiplies the index by before it embeds it.
        prior_std: function of the first noise level: the standard deviation of the state there.
        round_sigma: function of noise levels (any shape) that gives the nearest that the network knows, float64; None
            for a network that takes any.
        classes: number of classes; None for a model without.

    Raises:
        ValueError: for another ``prediction``, or one that cannot be on the schedule.
    """

    prediction: Prediction = "data"
    schedule: Schedule | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    shift: float = 0
    index_factor: float = 1.0
    index_scale: float = 1.0
    prior_std: Callable[[Any], Any] = ve_prior
    round_sigma: Callable[[Any], np.ndarray] | None = None
    classes: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "prediction", spellings.prediction(self.prediction))
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"prediction must be one of {', '.join(map(repr, PREDICTIONS))}, not {self.prediction!r}")
        own = self.schedule
        if own is not None and isinstance(own, FlowSchedule) != (self.prediction == "flow"):
            raise ValueError(
                f"prediction '{self.prediction}' is not allowed on this schedule; prediction 'flow' and the schedule "
                "'flow' belong together"
            )
        if own is not None and own.zero_snr and self.prediction == "noise":
            raise ValueError(
                "prediction 'noise' is not allowed on a schedule with rescale_betas_zero_snr, because pure noise says "
                "nothing of the image; allowed: 'v', 'image'"
            )
        for key in ("sigma_min", "sigma_max"):
            if self.schedule is not None and getattr(self, key) is None:
                object.__setattr__(self, key, getattr(self.schedule, key))

    @classmethod
    def of_card(cls, card: Mapping[str, Any]) -> "ModelFacts":
        """The facts of a model card (a dictionary), or of the part of one that a result holds."""
        classes = card.get("classes")
        if "schedule" in card:
            own, times = schedules.create(**card["schedule"]), table_of_times(card)
            if times is not None and isinstance(own, FlowSchedule):
                raise ValueError("schedule: 'flow' is not allowed, as the network has embeddings of whole times alone")
            if times is not None and times < len(own):
                raise ValueError(f"schedule: it has {len(own)} steps, but the network has embeddings of {times} times")
            rounded = None if times is None else functools.partial(nearest_level, whole_levels(own))
            of_network: Any = {"round_sigma": rounded, "index_scale": index_scale(card), "classes": classes}
            prior = flow_prior if isinstance(own, FlowSchedule) else vp_prior
            return cls(card["prediction"], schedule=own, prior_std=prior, **of_network)
        if card["prediction"] == "flow":
            raise ValueError("prediction 'flow' needs a schedule: {name: flow}")
        known = {key: card[key] for key in ("sigma_min", "sigma_max") if key in card}
        options = dict(card.get("preconditioning", {}))
        if options.pop("name", None) == "iddpm":
            known["round_sigma"] = functools.partial(nearest_level, iddpm_levels(**options))
        return cls(card["prediction"], classes=classes, **known)

    @classmethod
    def of(cls, denoise: "Denoise | ModelFacts", default: "ModelFacts | None" = None) -> "ModelFacts":
        """The facts of a denoiser: its ``facts``, or what attributes of these names say; the default's otherwise."""
        own = denoise if isinstance(denoise, cls) else getattr(denoise, "facts", None)
        if isinstance(own, cls):
            return own
        said: Any = {name: value for name in FIELDS if (value := getattr(denoise, name, None)) is not None}
        return dataclasses.replace(cls() if default is None else default, **said)

    def said(self) -> dict[str, Any]:
        """What tells one model from another, as plain numbers and words; what is not known is left out.

        Of a schedule: its number of steps and five of its noise levels.
        """
        found: dict[str, Any] = {"prediction": self.prediction, "classes": self.classes}
        found["prior_std at sigma = 1"] = float(self.prior_std(1.0))
        if self.schedule is None:
            found |= {"sigma_min": self.sigma_min, "sigma_max": self.sigma_max}
        else:
            last = len(self.schedule) - 1
            found["schedule"] = [last + 1, *self.schedule.sigma(np.linspace(0, last, 5)).tolist()]
        return {key: value for key, value in found.items() if value is not None}

    def at(self, schedule: Schedule, shift: float, time: float | None = None) -> "ModelFacts":
        """On another schedule, the network called at the index of that plus ``shift``.

        Given ``time``, it is called so that it embeds ``time (index + shift)``: what the network itself multiplies the
        index by, ``index_scale``, is made up for.
        """
        factor = 1.0 if time is None else time / self.index_scale
        return dataclasses.replace(self, schedule=schedule, shift=shift, index_factor=factor)

    def index(self, sigma: Any) -> Any:
        """What the network is called with for noise levels, of any shape: on a VP schedule the (fractional) index."""
        return self.index_factor * (self.schedule.timestep(sigma) + self.shift)  # type: ignore[union-attr]

    def index_slope(self, sigma: Any) -> Any:
        """The derivative of :meth:`index` by the noise level."""
        return self.index_factor * self.schedule.slope(sigma)  # type: ignore[union-attr]


def index_scale(card: Mapping[str, Any]) -> float:
    """What the network of a card multiplies the index by (its option ``index_scale``), 1 for most."""
    own = card.get("index_scale")  # of the part of a card that a result holds
    return card.get("network", {}).get("options", {}).get("index_scale", 1.0) if own is None else own


FIELDS = frozenset(field.name for field in dataclasses.fields(ModelFacts))


class Described:
    """A denoiser with ``facts``, which are attributes of its own too: ``denoise.sigma_max``."""

    facts: ModelFacts

    def __getattr__(self, name: str) -> Any:
        if name in FIELDS:
            return getattr(self.facts, name)
        raise AttributeError(f"{type(self).__name__} has no attribute '{name}'")


def iddpm_levels(*, floor: float = 0.001, offset: float = 0.008, steps: int = 1000) -> np.ndarray:
    """The noise levels of improved DDPM in EDM's preconditioning (Karras et al. 2022, arXiv 2206.00364, table 1).

    ``u_0 .. u_M``, (M + 1,) float64, descending to ``u_M = 0``: ``u_(j-1) = sqrt((u_j^2 + 1) / max(abar_(j-1) / abar_j,
    C_1) - 1)``, ``abar_j = sin^2(pi j / (2 M (1 + C_2)))``. ``floor`` is C_1, ``offset`` C_2, ``steps`` M.

    Raises:
        ValueError: for other steps than an integer from 2 to :data:`dode.grids.schedules.MAX_STEPS`.
    """
    check_steps(steps)
    abar = np.sin(0.5 * np.pi * np.arange(steps + 1) / steps / (1 + offset)) ** 2
    ratios = np.maximum(abar[:-1] / abar[1:], floor)
    # 1 + u_j^2 is the product of 1 / ratio from j to M - 1.
    return np.append(np.sqrt(np.expm1(-np.cumsum(np.log(ratios[::-1]))[::-1])), 0.0)


def table_of_times(card: Mapping[str, Any]) -> int | None:
    """For how many whole indices the network of a card, one of the hub, has learned embeddings; None where for all."""
    config = card.get("network", {}).get("options", {}).get("config", {})
    return config.get("num_train_timesteps") if config.get("time_embedding_type") == "learned" else None


def whole_levels(schedule: Schedule) -> np.ndarray:
    """The noise levels of the whole indices of a schedule, descending, then 0: (T + 1,)."""
    return np.append(schedule.sigma(np.arange(len(schedule) - 1, -1, -1)), 0.0)


def nearest_entry(levels: np.ndarray, sigmas: Any) -> np.ndarray:
    """Index of the entry of ``levels`` nearest to each of ``sigmas``."""
    return np.abs(np.asarray(sigmas, dtype=np.float64)[..., None] - levels).argmin(axis=-1)


def nearest_level(levels: np.ndarray, sigmas: Any) -> np.ndarray:
    """The entry of ``levels`` nearest to each of ``sigmas`` (array of any shape), float64."""
    return levels[nearest_entry(levels, sigmas)]
