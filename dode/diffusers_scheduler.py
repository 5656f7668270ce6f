"""A result as a scheduler of diffusers: ``pipeline.scheduler = DodeScheduler.from_config(..., result="my.json")``.

A pipeline calls its network itself and hands the output to ``step``. So each ``step`` answers one evaluation of
:func:`dode.sampling.evaluations`, and gives the pipeline the state of the next one. Needs diffusers (``dode[hub]``).
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from dode import calls
from dode.diffusers_config import KINDS, check_values, declared, schedule_of
from dode.grids import spellings
from dode.models import torchvision_operators
from dode.models.hub.coordinates import FlowMatching, VarianceExploding, VariancePreserving
from dode.portable import load
from dode.registry import unknown
from dode.sampling import Evaluation, Evaluations

torchvision_operators.declare()
try:
    from diffusers import ConfigMixin
    from diffusers.configuration_utils import register_to_config
    from diffusers.schedulers.scheduling_utils import SchedulerMixin, SchedulerOutput
except ImportError as error:
    raise ModuleNotFoundError(f"DodeScheduler needs diffusers ({error}): python -m pip install 'dode[hub]'") from error

log = logging.getLogger(__name__)

FROM_THE_START = (
    "a fitted solver runs from its first noise level alone, so image-to-image pipelines work with strength=1 only"
)


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
        prediction_type: what the network outputs: ``"epsilon"``, ``"v_prediction"`` or ``"sample"``;
            ``"flow_prediction"`` with ``use_flow_sigmas``. A card's names of these are taken too.
        sigma_data: given, the network is under EDM's preconditioning instead (``EDMEulerScheduler``).
        rescale_betas_zero_snr: whether the schedule begins at pure noise, where sigma is infinite
            (:data:`dode.solvers.formulas.PURE_NOISE`).
        round_timesteps: whether the network is given the nearest whole timestep, as one with a table of embeddings
            needs; the state stays at its noise level. By default the timestep is fractional where the level falls
            between two.
        use_flow_sigmas: whether the network is of flow matching, as ``DPMSolverMultistepScheduler`` says it; of the
            schedule ``num_train_timesteps`` alone counts then. The shift, be it of the image's size or not, is part of
            the result's noise levels.

    Raises:
        ValueError: for a value of another kind than its key (:data:`dode.diffusers_config.KINDS`), a bad result, a
            noise level outside of the schedule's, an unknown ``prediction_type`` or one that cannot be on the schedule,
            one of the authors' recipes for another kind of model, or ``round_timesteps`` with ``sigma_data``.
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
        use_flow_sigmas: bool = False,
    ):
        if result is None:
            raise ValueError("DodeScheduler needs result=, a file that `python -m dode export` wrote")
        check_values({"result": result, **{key: getattr(self.config, key) for key in KINDS if key != "result"}})
        self.sampler = load(result)
        prediction_type = spellings.of_diffusers(prediction_type)
        self.register_to_config(result=self.sampler.record, prediction_type=prediction_type)
        kind = FlowMatching if use_flow_sigmas else VariancePreserving if sigma_data is None else VarianceExploding
        if prediction_type not in kind.estimates:
            raise ValueError(f"prediction_type: {unknown('kind', prediction_type, kind.estimates)}")
        schedule: Any = None if kind is VarianceExploding else schedule_of(self.config)
        self.coordinates: Any = kind(self.config, self.sampler.facts, schedule)
        self.levels = self.sampler.evaluated
        self.sampler.check_prediction(self.coordinates.prediction)
        lowest, highest = self.coordinates.lowest, self.coordinates.highest
        for level in self.levels:
            if not lowest * (1 - 1e-6) <= level <= highest * (1 + 1e-6):
                raise ValueError(
                    f"the result calls the network at the noise level {level:.6g}, but the model's schedule goes "
                    f"from {lowest:.6g} to {highest:.6g}"
                )
        self.sampler.check_model(self.coordinates.said)
        self.sigmas = self.coordinates.shown(self.sampler.sigmas)
        first = float(self.sampler.sigmas[0])
        self.init_noise_sigma = self.coordinates.unit(first)
        # Its first input has another size where it is told another level than that of the first state, or where an
        # analytic step is before it.
        size = self.sampler.first_size(self.coordinates.prior_std)
        told = self.coordinates.from_state(size, self.levels[0])
        factor = told / self.init_noise_sigma
        self._told_factor = 1.0 if math.isclose(factor, 1) else factor
        self.set_timesteps()

    @classmethod
    def from_config(  # type: ignore[override]
        cls, config: Any = None, return_unused_kwargs: bool = False, **options: Any
    ) -> DodeScheduler | tuple[DodeScheduler, dict[str, Any]]:
        """From the configuration of the pipeline's present scheduler, with ``result=``; see diffusers.

        Raises:
            ValueError: for a scheduler of another family, such as a consistency model's, whose network is of another
                kind.
        """
        # A value that was that scheduler's default would be taken for this one's default.
        known, own = declared(config, options), set(inspect.signature(cls.__init__).parameters) - {"self"}
        taken = {**{key: known[key] for key in own & set(known)}, **options}
        found = super().from_config(taken, return_unused_kwargs=return_unused_kwargs, **options)
        # Pipelines read more than is used here, and the scheduler that was replaced may come back.
        others = {key: value for key, value in known.items() if key not in {*own, *options} and not key.startswith("_")}
        (found[0] if isinstance(found, tuple) else found).register_to_config(**others)
        return found

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        *,
        sigmas: Sequence[float] | None = None,
        mu: float | None = None,
    ) -> None:
        """Begin a run.

        Args:
            num_inference_steps: the result's NFE, or left out.
            device: of ``timesteps``.
            sigmas: what pipelines such as FLUX's give in place of a number; only how many they are counts, as the
                result has its own.
            mu: the shift by the image's size, which is not used, as the result's levels have theirs.

        Raises:
            ValueError: for another number than the result's.
        """
        for count in (num_inference_steps, None if sigmas is None else len(sigmas)):
            if count not in (None, self.sampler.nfe):
                raise ValueError(
                    f"num_inference_steps: the result has {self.sampler.nfe} network evaluations, not {count}"
                )
        if sigmas is not None and not np.allclose(sigmas, np.arange(len(sigmas), 0, -1) / len(sigmas), atol=1e-4):
            log.warning("sigmas: they are not used, as the result has its own noise levels")
        self.num_inference_steps = self.sampler.nfe
        times = torch.tensor([self.coordinates.timestep(level) for level in self.levels], device=device)
        self.timesteps = times.long() if self.coordinates.round else times
        self._run: Evaluations | None = None
        self._due: Evaluation | None = None
        self._returned: torch.Tensor | None = None
        self._first_input: torch.Tensor | None = None
        self._index = 0
        # A run cannot be copied, but can be repeated: from its noise and what was answered so far.
        self._noise: torch.Tensor | None = None
        self._answers: list[torch.Tensor] = []

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_run": None, "_due": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._noise is not None:
            self._begin(self._noise)
            for answer in self._answers:
                self._due = self._run.send(answer)  # type: ignore[union-attr]  # it has begun

    def _begin(self, noise):
        self._noise, own = noise, self.coordinates
        self._run = self.sampler.evaluations(
            noise, prior_std=own.prior_std, shift=own.shift, index_factor=own.index_factor
        )
        self._due = next(self._run)

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Image-to-image pipelines call it with the evaluation to begin at: 0, for a strength of 1.

        Raises:
            ValueError: for another, as the coefficients of a fit hold from its first evaluation on.
        """
        if begin_index:
            raise ValueError(f"begin_index: {begin_index} is not allowed; {FROM_THE_START}")

    @property
    def begin_index(self) -> int:
        """The evaluation that a run begins at."""
        return 0

    @property
    def step_index(self) -> int:
        """The evaluation that is due."""
        return self._index

    def add_noise(self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Clean images with the noise of ``timesteps``, in the pipeline's coordinates.

        ``x_0 + sigma n`` with the model's noise level at the timestep; on a schedule times ``1 / sqrt(1 + sigma^2)``,
        in flow matching times ``1 / (1 + sigma)``.

        Args:
            original_samples: (B, C, H, W).
            noise: the same shape, unit normal.
            timesteps: (B,), or a single one for all. One of the run's first evaluation gives a state to begin with.

        Raises:
            ValueError: for a timestep outside of the schedule, or another number of them.
        """
        times, images = torch.as_tensor(timesteps).flatten().tolist(), len(original_samples)
        if len(times) not in (1, images):
            raise ValueError(f"timesteps: 1 or {images} are needed, one per image, not {len(times)}")
        size = images if len(times) == 1 else 1
        parts = zip(original_samples.split(size), noise.split(size), times, strict=True)
        return torch.cat([self._noised(*part) for part in parts])

    def scale_noise(self, sample: torch.Tensor, timestep: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """:meth:`add_noise` under the name and in the order of flow-matching pipelines."""
        return self.add_noise(sample, noise, timestep)

    def scale_model_input(self, sample: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        """The network's input at the present evaluation; a copy, which the network may write to."""
        sample = calls.noise(sample)
        found = self.coordinates.network_input(sample, self.levels[min(self._index, len(self.levels) - 1)])
        if self._index == 0 and self._told_factor != 1:
            found = found * self._told_factor
            self._first_input = found.clone()
        return found

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
                are ignored. An output object of diffusers is taken too.
            timestep: the entry of ``timesteps`` that is due.
            sample: in the first step unit-normal noise times ``init_noise_sigma``, then what the last step returned.
                That is not kept, but may not be changed in between.
            eta, use_clipped_model_output, generator, variance_noise: pipelines pass them; the ODE has no noise.

        Raises:
            ValueError: out of turn, for a sample that was changed between the steps, even in place, for a first one of
                another standard deviation, or for noise (``eta``).
            NonFiniteError: where the network's output is NaN or infinite; the step can be tried again.
        """
        sample = calls.noise(sample)
        self._check(timestep, sample, eta, use_clipped_model_output)
        if self._run is None:
            sample = self._begun(sample)
            calls.check_unit(sample, "sample", float(self.init_noise_sigma))
        output = calls.tensor(model_output, sample)
        if output.shape != (len(sample), *output.shape[1:2], *sample.shape[2:]) or output.shape[1] < sample.shape[1]:
            raise ValueError(
                f"model_output: its shape {tuple(output.shape)} is not that of the sample, {tuple(sample.shape)}, but "
                "for more channels"
            )
        output = output[:, : sample.shape[1]]
        if not calls.finite(output):
            raise calls.breakdown(output, sample, self._where(), [output.dtype])
        if self._run is None:
            # Differences of half-precision states would not reach the coefficients' accuracy.
            exact = sample if sample.dtype in (torch.float32, torch.float64) else sample.float()
            self._begin(self._unpacked(exact / self.init_noise_sigma))
        x, sigma = self._due  # type: ignore[misc]  # it has begun
        output = output.to(x.dtype).reshape(x.shape)
        answer = self.coordinates.denoised(self.config["prediction_type"], x, float(sigma), output)
        try:
            x, sigma = self._due = self._run.send(answer)  # type: ignore[union-attr]
            state = self.coordinates.from_state(x, float(sigma))
            self._answers.append(answer)
        except StopIteration as end:
            state, self._run, self._noise, self._answers = end.value, None, None, []
        self._index += 1
        # What is handed out may be painted over: the next step compares it with a copy that nobody else has.
        self._returned = state.to(sample.dtype).reshape(sample.shape)
        handed_out = self._returned.clone()
        return SchedulerOutput(prev_sample=handed_out) if return_dict else (handed_out,)

    def _begun(self, sample):
        """The noise that a run begins with, of what a pipeline hands to the first step."""
        if self._told_factor == 1:
            return sample
        if self._first_input is None:
            raise ValueError(
                "the result's network is told another noise level than that of the first state, so that its first "
                "input must be scaled, but this pipeline does not call scale_model_input; allowed here: a plain "
                "solver, or a fit of the family 'directions' or 'levels'"
            )
        # DiT's pipeline goes on with what it gave to the network.
        return sample / self._told_factor if torch.equal(sample, self._first_input) else sample

    def _unpacked(self, noise):
        """Noise in the shape of the result's images where a pipeline keeps its latents as rows of patches, as FLUX's.

        Solvers do the same to every entry, so that their order does not matter.
        """
        shape = self.sampler.record["model"]["image_shape"]
        packed = noise.ndim == 3 and noise[0].numel() == math.prod(shape)
        return noise.reshape(len(noise), *shape) if packed else noise

    def _where(self):
        level, timestep = self.levels[self._index], float(self.timesteps[self._index])
        place = f"evaluation {self._index + 1} of {len(self.levels)}"
        return f"{place} (noise level {level:.6g}, timestep {timestep:.6g})"

    def _noised(self, image, noise, timestep):
        """Images with the noise of one timestep."""
        level = self.coordinates.level(timestep)
        if timestep == float(self.timesteps[0]):  # the run's own first state, whose network may be told another level
            level = float(self.sampler.sigmas[0])
        x = torch.add(image.double(), noise.double(), alpha=level)
        return self.coordinates.from_state(x, level).to(image.dtype)

    def _check(self, timestep, sample, eta, clipped):
        if self._index == len(self.levels):
            raise ValueError("the run has ended; set_timesteps starts another one")
        expected = float(self.timesteps[self._index])
        if not math.isclose(float(timestep), expected, rel_tol=1e-5, abs_tol=1e-4):
            if not self._index and float(timestep) in self.timesteps[1:].tolist():
                raise ValueError(f"timestep: {float(timestep):g} is not the first one; {FROM_THE_START}")
            raise ValueError(
                f"timestep: {float(timestep):g} is out of order: {expected:g} is next (set_timesteps starts again)"
            )
        if self._returned is not None and not torch.equal(sample, self._returned.to(sample)):
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
