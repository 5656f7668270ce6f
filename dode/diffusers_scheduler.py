"""A result as a scheduler of diffusers: ``pipeline.scheduler = DodeScheduler.from_config(..., result="my.json")``.

A pipeline calls its network itself and hands the output to ``step``. So each ``step`` answers one evaluation of
:func:`dode.sampling.evaluations`, and gives the pipeline the state of the next one. Needs diffusers (``dode[hub]``).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from dode.grids.facts import ModelFacts
from dode.grids.schedules import Schedule, schedules
from dode.models import torchvision_operators
from dode.portable import load
from dode.registry import finite, unknown
from dode.sampling import Evaluation, Evaluations

torchvision_operators.declare()
try:
    from diffusers import ConfigMixin, schedulers
    from diffusers.configuration_utils import register_to_config
    from diffusers.schedulers.scheduling_utils import SchedulerMixin, SchedulerOutput
except ImportError as error:
    raise ModuleNotFoundError(f"DodeScheduler needs diffusers ({error}): python -m pip install 'dode[hub]'") from error

# The names of diffusers, and which of its options they use. It keeps its tables in float32; in float64 whole indices
# stay whole.
BETAS = {"beta_start": "beta_min", "beta_end": "beta_max"}
SCHEDULES = {
    "linear": ("linear", BETAS),
    "scaled_linear": ("scaled_linear", BETAS),
    "squaredcos_cap_v2": ("cosine", {}),
    "sigmoid": ("sigmoid", BETAS),
}


MOST_STEPS = 1_000_000
EDM = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
# Options of diffusers' schedulers that change what the network is, and the values with which they do not.
UNCHANGED: dict[str, tuple[Any, ...]] = {
    "use_flow_sigmas": (None, False),
    "timestep_type": (None, "discrete"),
    "snr_shift_scale": (None, 1),
}


def _declared(config: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a scheduler with its defaults and with what the user has ``given``.

    Raises:
        ValueError: unless it declares a discrete VP schedule or EDM's preconditioning, and a network that is called as
            under these.
    """
    name = config.get("_class_name")
    others: Any = getattr(schedulers, name, None) if isinstance(name, str) and name in dir(schedulers) else None
    defaults = {} if others is None else inspect.signature(others.__init__).parameters
    known = {key: own.default for key, own in defaults.items() if own.default is not inspect.Parameter.empty}
    known |= {**config, **given}
    if given.get("sigma_data") is not None:
        return known
    text = f"the configuration of {name}" if name else "the configuration"
    for key, unchanged in UNCHANGED.items():
        if known.get(key) not in unchanged:
            raise ValueError(
                f"{key}: {text} has {known[key]!r}, with which the network is not on a discrete variance-preserving "
                "schedule as it stands; allowed: such a schedule, or EDM's preconditioning (sigma_data)"
            )
    if known.get("sigma_data") is not None and _is_edm(name, known):
        return known
    if known.get("beta_schedule") is not None or known.get("trained_betas") is not None:
        return {**known, "sigma_data": None}
    raise ValueError(
        f"{text} is of another family (flow matching, variance exploding or the like): it declares neither a discrete "
        "variance-preserving schedule (beta_schedule or trained_betas) nor EDM's preconditioning (sigma_data of "
        "EDMEulerScheduler), and DodeScheduler serves networks of these two alone"
    )


def _is_edm(name, known):
    """Whether a configuration with ``sigma_data`` is EDM's; that of a consistency model, for example, is not.

    A scheduler's own configuration has no name of its class, as a saved one has.
    """
    if name is not None:
        return name in (DodeScheduler.__name__, *EDM)
    return "prediction_type" in known and ("solver_order" in known) == ("algorithm_type" in known)


def _check_values(**values: Any) -> None:
    """Refuse values of the wrong kind by name."""
    for key in ("round_timesteps", "rescale_betas_zero_snr"):
        if not isinstance(values[key], bool):
            raise ValueError(f"{key}: {values[key]!r} is not allowed; allowed: True or False")
    for key in ("prediction_type", "beta_schedule"):
        if not isinstance(values[key], str):
            raise ValueError(f"{key}: {values[key]!r} is not allowed; allowed: a name")
    data, steps = values["sigma_data"], values["num_train_timesteps"]
    if data is not None and not (finite(data) and 0 < data <= 1e6):
        raise ValueError(f"sigma_data: {data!r} is not allowed; allowed: None, or a finite number above 0, up to 1e6")
    if type(steps) is not int or not 2 <= steps <= MOST_STEPS:
        raise ValueError(f"num_train_timesteps: {steps!r} is not allowed; allowed: an integer from 2 to {MOST_STEPS}")
    for key in BETAS:
        if not (finite(values[key]) and 0 <= values[key] < 1):
            raise ValueError(f"{key}: {values[key]!r} is not allowed; allowed: a number from 0 to below 1")


def _schedule(config):
    if config.trained_betas is not None:
        try:
            return Schedule(np.asarray(config.trained_betas, dtype=np.float64))
        except (ValueError, TypeError) as error:
            raise ValueError(f"trained_betas: {error}") from None
    if config.beta_schedule not in SCHEDULES:
        raise ValueError(unknown("beta_schedule", config.beta_schedule, SCHEDULES))
    name, options = SCHEDULES[config.beta_schedule]
    betas = {option: config[key] for key, option in options.items()}
    return schedules.create(name, steps=config.num_train_timesteps, **betas)


class _VariancePreserving:
    """A network on a discrete schedule. The pipeline's state is ``x / sqrt(1 + sigma^2)``, the network's input."""

    prediction = "noise"
    estimates = MappingProxyType(
        {
            "epsilon": lambda x, sigma, output: torch.add(x, output, alpha=-sigma),
            "v_prediction": lambda x, sigma, output: x / (1 + sigma**2) - output * (sigma / math.sqrt(1 + sigma**2)),
            "sample": lambda x, sigma, output: output,
        }
    )

    def __init__(self, config, facts):
        self.schedule = _schedule(config)
        # A recipe of the authors may call the network at another index, with an interpolation of its own between them.
        elsewhere = facts.shift or facts.index_factor != 1
        self.facts = facts if elsewhere else ModelFacts("noise", schedule=self.schedule)
        self.lowest, self.highest = self.schedule.sigma_min, self.schedule.sigma_max
        self.shift, self.index_factor, self.round = facts.shift, facts.index_factor, config.round_timesteps

    def denoised(self, kind, x, sigma, output):
        return self.estimates[kind](x, sigma, output)

    def prior_std(self, sigma):
        return (1 + sigma**2) ** 0.5

    def timestep(self, sigma):
        index = self.facts.index(sigma)
        return float(round(index)) if self.round else index

    def from_state(self, x, sigma):
        return x / math.sqrt(1 + sigma**2)

    def network_input(self, sample, sigma):
        return sample


class _VarianceExploding:
    """A network under EDM's preconditioning, as ``EDMEulerScheduler`` has it. The pipeline's state is x."""

    prediction = "data"
    # The sign of c_out (Karras et al. 2022, arXiv 2206.00364, Table 1).
    estimates = MappingProxyType({"epsilon": 1, "v_prediction": -1})
    lowest, highest, shift, index_factor, round = 0.0, math.inf, 0, 1.0, False

    def __init__(self, config, facts):
        if config.round_timesteps:
            raise ValueError(
                "round_timesteps: under EDM's preconditioning (sigma_data) a timestep is ln(sigma) / 4, and there is "
                "no whole one to round it to; leave it out"
            )
        self.data = config.sigma_data

    def denoised(self, kind, x, sigma, output):
        variance = sigma**2 + self.data**2
        scale = self.estimates[kind] * sigma * self.data / math.sqrt(variance)
        return torch.add(x * (self.data**2 / variance), output, alpha=scale)

    def prior_std(self, sigma):
        return sigma

    def timestep(self, sigma):
        return math.log(sigma) / 4

    def from_state(self, x, sigma):
        return x

    def network_input(self, sample, sigma):
        return sample / math.sqrt(sigma**2 + self.data**2)


class DodeScheduler(SchedulerMixin, ConfigMixin):  # type: ignore[misc]  # both name their file
    """The solver, grid and coefficients of an exported result as a scheduler.

    The number of inference steps is the result's number of network evaluations; ``timesteps`` has one entry an
    evaluation, inner stages included, and may name a time twice or go back. The state is kept in float64 between the
    steps and handed out in the type of the pipeline's sample. ``clip_sample``, ``thresholding``, ``timestep_spacing``
    and the like of the scheduler that it replaces do not count: the result was measured without them.

    Args:
        result: the file that ``python -m dode export`` wrote, or its contents. The contents become a part of this
            scheduler's configuration, so that a saved pipeline holds them.
        num_train_timesteps, beta_start, beta_end, beta_schedule, trained_betas: the schedule that the pipeline's
            network was trained on, as of ``DDPMScheduler``.
        prediction_type: what the network outputs: ``"epsilon"``, ``"v_prediction"`` or ``"sample"``.
        sigma_data: given, the network is under EDM's preconditioning instead (``EDMEulerScheduler``).
        round_timesteps: whether the network is given the nearest whole timestep, as one with a table of embeddings
            needs; the state stays at its noise level. By default the timestep is fractional where the level falls
            between two.

    Raises:
        ValueError: for a bad result, a noise level outside of the schedule's, an unknown ``prediction_type``, one of
            the authors' recipes for another kind of model, or ``round_timesteps`` with ``sigma_data``.
    """

    order = 1

    @register_to_config
    def __init__(
        self,
        result: str | dict[str, Any] | None = None,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: list[float] | np.ndarray | None = None,
        prediction_type: str = "epsilon",
        sigma_data: float | None = None,
        rescale_betas_zero_snr: bool = False,
        round_timesteps: bool = False,
    ):
        _check_values(
            num_train_timesteps=num_train_timesteps,
            beta_start=beta_start,
            beta_end=beta_end,
            beta_schedule=beta_schedule,
            prediction_type=prediction_type,
            sigma_data=sigma_data,
            rescale_betas_zero_snr=rescale_betas_zero_snr,
            round_timesteps=round_timesteps,
        )
        if result is None:
            raise ValueError("DodeScheduler needs result=, a file that `python -m dode export` wrote")
        self.sampler = load(result)
        self.register_to_config(result=self.sampler.record)
        if rescale_betas_zero_snr:
            raise ValueError(
                "rescale_betas_zero_snr: the schedule begins at an infinite noise level, which is not supported"
            )
        kind = _VariancePreserving if sigma_data is None else _VarianceExploding
        self.coordinates = kind(self.config, self.sampler.facts)
        if prediction_type not in self.coordinates.estimates:
            known = self.coordinates.estimates
            raise ValueError(f"prediction_type: {unknown('kind', prediction_type, known)}")
        self.levels = self.sampler.evaluated
        self.sampler.check_prediction(self.coordinates.prediction)
        lowest, highest = self.coordinates.lowest, self.coordinates.highest
        for level in self.levels:
            if not lowest * (1 - 1e-6) <= level <= highest * (1 + 1e-6):
                raise ValueError(
                    f"the result calls the network at the noise level {level:.6g}, but the model's schedule goes "
                    f"from {lowest:.6g} to {highest:.6g}"
                )
        self.sigmas = self.sampler.sigmas
        # The first state in the pipeline's coordinates, which are of the level that the network is told.
        first = self.coordinates.prior_std(float(self.sigmas[0]))
        self.init_noise_sigma = self.coordinates.from_state(first, self.levels[0])
        self.set_timesteps()

    @classmethod
    def from_config(  # type: ignore[override]
        cls, config: Any = None, **options: Any
    ) -> DodeScheduler | tuple[DodeScheduler, dict[str, Any]]:
        """From the configuration of the pipeline's present scheduler, with ``result=``; see diffusers.

        Raises:
            ValueError: for a scheduler of another family, such as flow matching, whose network is of another kind.
        """
        # A value that was that scheduler's default would be taken for this one's default.
        known, own = _declared(config, options), set(inspect.signature(cls.__init__).parameters) - {"self"}
        return super().from_config(config, **{**{key: known[key] for key in own & set(known)}, **options})

    def set_timesteps(self, num_inference_steps: int | None = None, device: str | torch.device | None = None) -> None:
        """Begin a run; ``num_inference_steps`` is the result's NFE, or left out."""
        if num_inference_steps not in (None, self.sampler.nfe):
            raise ValueError(
                f"num_inference_steps: the result has {self.sampler.nfe} network evaluations, not {num_inference_steps}"
            )
        self.num_inference_steps = self.sampler.nfe
        times = torch.tensor([self.coordinates.timestep(level) for level in self.levels], device=device)
        self.timesteps = times.long() if self.coordinates.round else times
        self._run: Evaluations | None = None
        self._due: Evaluation | None = None
        self._returned: torch.Tensor | None = None
        self._index = 0

    def scale_model_input(self, sample: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        """The network's input at the present evaluation."""
        return self.coordinates.network_input(sample, self.levels[min(self._index, len(self.levels) - 1)])

    def step(
        self,
        model_output: torch.Tensor,
        timestep: float | torch.Tensor,
        sample: torch.Tensor,
        eta: float = 0.0,
        use_clipped_model_output: bool | None = None,
        generator: Any = None,
        variance_noise: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> SchedulerOutput | tuple[torch.Tensor]:
        """Answer the pending evaluation with the network's output; returns the state of the next one.

        Args:
            model_output: at ``sample`` and ``timestep``, guided where the pipeline guides; channels beyond the sample's
                are ignored.
            timestep: the entry of ``timesteps`` that is due.
            sample: in the first step unit-normal noise times ``init_noise_sigma``, then what the last step returned.
            eta, use_clipped_model_output, generator, variance_noise: pipelines pass them; the ODE has no noise.

        Raises:
            ValueError: out of turn, for a sample that was changed between the steps, or for noise (``eta``).
        """
        self._check(timestep, sample, eta, use_clipped_model_output)
        # Differences of half-precision states would not reach the coefficients' accuracy.
        latents = sample if sample.dtype in (torch.float32, torch.float64) else sample.float()
        if self._run is None or self._due is None:
            of_network = ("prediction", "prior_std", "shift", "index_factor")
            model = {key: getattr(self.coordinates, key) for key in of_network}
            self._run = self.sampler.evaluations(latents / self.init_noise_sigma, **model)
            self._due = next(self._run)
        x, sigma = self._due
        output = model_output[:, : sample.shape[1]].to(x.dtype)
        denoised = self.coordinates.denoised(self.config["prediction_type"], x, float(sigma), output)
        self._index += 1
        try:
            x, sigma = self._due = self._run.send(denoised)
            state = self.coordinates.from_state(x, float(sigma))
        except StopIteration as end:
            state, self._run = end.value, None
        self._returned = state.to(sample.dtype)
        return SchedulerOutput(prev_sample=self._returned) if return_dict else (self._returned,)

    def _check(self, timestep, sample, eta, clipped):
        if self._index == len(self.levels):
            raise ValueError("the run has ended; set_timesteps starts another one")
        expected = float(self.timesteps[self._index])
        if not math.isclose(float(timestep), expected, rel_tol=1e-5, abs_tol=1e-4):
            raise ValueError(
                f"timestep: {float(timestep):g} is out of order: {expected:g} is next (set_timesteps starts again)"
            )
        if self._index and sample is not self._returned and not torch.equal(sample, self._returned):
            raise ValueError(
                "sample: it was changed after the last step, but a solver of several evaluations goes on from its own "
                "state; pipelines that paint over the state (inpainting) are not supported"
            )
        if eta or clipped:
            raise ValueError(
                "eta and use_clipped_model_output: the result solves the ODE, which adds no noise; leave them out"
            )

    def __len__(self) -> int:
        return self.config["num_train_timesteps"]
