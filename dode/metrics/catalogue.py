"""What each metric is in words: name, meaning, unit, direction, and how to read a value of it.

Tables, figures, captions and the page print what stands here and nothing of their own. No code that computes a score
imports this module, so that an edited sentence makes no score again.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

PIXELS = "images in [−1, 1]"
#: What one standard deviation of a score is taken over, by the word ``error_kind`` of a ``score.json``.
ERROR_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "seeds": "the sample standard deviation over seeds",
        "images": "the standard error over images",
        "subsets": "the standard error over subsets of images",
    }
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric; all sentences are plain text.

    Attributes:
        name: what tables and figures call it.
        latex: the same in LaTeX.
        tells: what a reader learns from it, in a few words; empty where the meaning says that.
        meaning: what it measures.
        scale: factor on the values where they are printed.
        range: of the unscaled values, in words.
        unit: of the printed values; empty where they have none.
        lower_is_better: its direction.
        tabled: whether Markdown and LaTeX have a table of it; the CSV has all.
        aim: whether it is against the fine-step solver.
        of_real: whether it is against real images.
        of_features: whether it is of what a network sees in images.
        of_scorer: whether it is by a scorer of prompts, of which a card says which.
        any_count: whether its expected value is the same for every number of images.
        count: how its value depends on the number of images, one sentence.
        bias: what it means for the metric where ``biased`` of a ``score.json`` names ``generated`` or ``real`` images.
        warning: why a solver should not be chosen by it alone; empty where it may.
    """

    name: str
    latex: str
    meaning: str
    tells: str = ""
    range: str = "≥ 0"
    unit: str = ""
    scale: float = 1.0
    lower_is_better: bool = True
    tabled: bool = True
    aim: bool = False
    of_real: bool = False
    of_features: bool = False
    of_scorer: bool = False
    any_count: bool = False
    count: str = ""
    bias: Mapping[str, str] = dataclasses.field(default_factory=lambda: MappingProxyType({}))
    warning: str = ""

    @property
    def direction(self) -> str:
        """``"lower is better"`` or ``"higher is better"``."""
        return f"{'lower' if self.lower_is_better else 'higher'} is better"

    @property
    def description(self) -> str:
        """What it tells and measures, its direction, and the warning."""
        tells = self.tells and f"Says {self.tells}."
        return " ".join(filter(None, (tells, self.meaning, f"{self.direction.capitalize()}.", self.warning)))

    def axis(self, separator: str = " ") -> str:
        """The label of an axis; ``separator`` stands before the direction."""
        return f"{', '.join(filter(None, (self.name, self.unit)))}{separator}({self.direction})"


_COUNTED = "{} depends on the number of images compared, so compare it only at the same number."
_UNBIASED = "The expected {} is the same for every number of images."
_MISLEADS = (
    "On its own it misleads: a blurred average is close to everything, and a solver that ends in another, equally good "
    "image is far away. Decide by paired FID where there is one."
)
_OF_PROMPTS = (
    "It does not see what the few steps cost, only how well the images still fit their prompts, and the fine solution "
    "need not have the best value. Decide by paired FID where there is one."
)
_FEW = MappingProxyType(
    {
        "generated": "There are no more generated images than features. Compare only cells with the same number of "
        "images; FID∞ removes a part of the bias.",
        "real": "There are no more real images than features. This affects all solvers equally, and neither more "
        "generated images nor FID∞ removes it.",
    }
)
#: The metrics in the order of the report; docs/scores.md has their definitions. The first one that is measured says
#: which solver to take.
METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "paired_fid": Metric(
            name="paired FID",
            of_features=True,
            latex="paired FID",
            tells="what the few steps cost",
            meaning="Distance between the features of a solver's images and of the fine-step solution's on the same "
            "noise; 0 where nothing is lost.",
            aim=True,
            count="Paired FID falls as the number of images grows, though far less than FID, so compare it only at the "
            "same number.",
            bias=MappingProxyType(
                {
                    "generated": "There are no more images than features. It may be too high by a part of the "
                    "solver's error, but not by sampling noise. Compare only cells with the same number of images."
                }
            ),
        ),
        "fid": Metric(
            name="FID",
            latex="FID",
            of_real=True,
            of_features=True,
            tells="how good the images are, model and solver together",
            meaning="Distance between the features of generated and of real images. One error may hide the other, so a "
            "solver can score better than its own teacher.",
            count="FID falls as the number of images grows, so compare it only at the same number.",
            bias=_FEW,
        ),
        "fid_infinity": Metric(
            name="FID∞",
            latex=r"FID$_\infty$",
            of_real=True,
            of_features=True,
            meaning="FID extrapolated to infinitely many generated images, for use where there are too few for FID.",
            range="about ≥ 0",
            count="FID∞ removes only the bias due to the number of generated images, and not all of that where there "
            "are fewer images than features.",
        ),
        "self_fid": Metric(
            name="self-FID",
            of_features=True,
            latex="self-FID",
            meaning="FID to the model's own fine-step samples on other noise: the solver's error without the model's.",
            aim=True,
            count="Self-FID falls as the number of images grows, so compare it only at the same number.",
        ),
        "kid": Metric(
            name="KID × 10³",
            latex=r"KID $\times\,10^3$",
            of_real=True,
            of_features=True,
            meaning="Distance between the features of generated and of real images by a kernel; being unbiased, it may "
            "be negative near 0.",
            range="about ≥ 0",
            scale=1e3,
            any_count=True,
            count=_UNBIASED.format("KID"),
        ),
        "precision": Metric(
            name="precision",
            latex="precision",
            of_real=True,
            of_features=True,
            meaning="Share of generated images that lie among the real ones: are they good?",
            range="0 to 1",
            lower_is_better=False,
            count=_COUNTED.format("Precision"),
        ),
        "recall": Metric(
            name="recall",
            latex="recall",
            of_real=True,
            of_features=True,
            meaning="Share of real images that lie among the generated ones: are all kinds of images there?",
            range="0 to 1",
            lower_is_better=False,
            count=_COUNTED.format("Recall"),
        ),
        "density": Metric(
            name="density",
            latex="density",
            of_real=True,
            of_features=True,
            meaning="How densely real images surround the generated ones; about 1 is best.",
            range="≥ 0, about 1 is best",
            lower_is_better=False,
            tabled=False,
            count=_COUNTED.format("Density"),
        ),
        "coverage": Metric(
            name="coverage",
            latex="coverage",
            of_real=True,
            of_features=True,
            meaning="Share of real images that have a generated image near them.",
            range="0 to 1",
            lower_is_better=False,
            tabled=False,
            count=_COUNTED.format("Coverage"),
        ),
        "trajectory_rmse": Metric(
            name="trajectory RMSE",
            latex="trajectory RMSE",
            meaning="Root-mean-square difference per pixel to the fine-step solver's image on the same noise, of a "
            "pipeline per entry of the latents; it needs no features.",
            unit="[−1, 1] or latents",  # short, as it stands beside an axis
            aim=True,
            any_count=True,
            count=_UNBIASED.format("trajectory RMSE"),
            warning=_MISLEADS,
        ),
        "trajectory_psnr": Metric(
            name="trajectory PSNR",
            latex="trajectory PSNR",
            meaning="Peak signal-to-noise ratio to the fine-step solver's image on the same noise; it needs no "
            "features.",
            range="",
            unit="dB",
            lower_is_better=False,
            tabled=False,
            aim=True,
            any_count=True,
            count=_UNBIASED.format("trajectory PSNR"),
            warning=_MISLEADS,
        ),
        "clip_score": Metric(
            name="CLIP score",
            latex="CLIP score",
            meaning="How well images fit their prompts by a CLIP: 100 times the cosine of the two embeddings.",
            range="0 to 100",
            lower_is_better=False,
            of_scorer=True,
            any_count=True,
            count=_UNBIASED.format("CLIP score"),
            warning=_OF_PROMPTS,
        ),
        "pick_score": Metric(
            name="PickScore",
            latex="PickScore",
            meaning="Which image people would prefer for the prompt, by a CLIP that was trained on their choices.",
            range="",
            lower_is_better=False,
            of_scorer=True,
            any_count=True,
            count=_UNBIASED.format("PickScore"),
            warning=_OF_PROMPTS,
        ),
        "hps_v2": Metric(
            name="HPS v2 × 100",
            latex=r"HPS v2 $\times\,100$",
            meaning="Which image people would prefer for the prompt, by a CLIP that was trained on their rankings.",
            range="−1 to 1",
            scale=100.0,
            lower_is_better=False,
            of_scorer=True,
            any_count=True,
            count=_UNBIASED.format("HPS v2"),
            warning=_OF_PROMPTS,
        ),
        "decoded_psnr": Metric(
            name="decoded PSNR",
            latex="decoded PSNR",
            meaning="Peak signal-to-noise ratio of a pipeline's decoded image to the fine-step solver's on the same "
            "noise and prompt; it needs no features.",
            range="",
            unit="dB",
            lower_is_better=False,
            aim=True,
            any_count=True,
            count=_UNBIASED.format("decoded PSNR"),
            warning=_MISLEADS,
        ),
        "decoded_ssim": Metric(
            name="decoded SSIM",
            latex="decoded SSIM",
            meaning="Structural similarity of a pipeline's decoded image to the fine-step solver's on the same noise "
            "and prompt: contrast and structure in small windows; 1 for equal images.",
            range="−1 to 1",
            lower_is_better=False,
            aim=True,
            any_count=True,
            count=_UNBIASED.format("decoded SSIM"),
            warning=_MISLEADS,
        ),
    }
)
