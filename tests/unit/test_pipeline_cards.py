"""Cards of pipelines, completed from the configurations in their folders, and what contradicts these. No weights."""

import math
import re
import types

import pytest
import yaml

from checkouts import Checkout
from dode.benchmark import digests
from dode.benchmark.cells import Benchmark
from dode.benchmark.dependencies import Dependencies
from dode.benchmark.planning import plan
from dode.fetching import cards, checksums, downloads, pipelines
from dode.pipelines import manifests
from dode.validation import ConfigError
from pipeline_folders import ENOUGH, card, configured, make
from workspace import REPOSITORY


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def test_what_a_card_leaves_out_is_read_from_the_folder(checkout):
    make(checkout.folder / "pipe")
    found = checkout.read(card())
    assert found["prediction"] == "flow"
    assert found["schedule"] == {"name": "flow", "steps": 1000}
    assert found["sampling"] == {"grid": {"name": "flow-linear", "options": {"shift": 3.0}}}
    assert found["image_shape"] == [3, 16, 16]
    assert found["latent_shape"] == [4, 8, 8]
    assert found["pipeline"] == {
        "source": "file:pipe",
        "class": "StableDiffusion3Pipeline",
        "guidance": "classifier-free",
    }
    assert len(yaml.safe_dump(card()).splitlines()) <= 10


def test_stable_diffusion_is_of_noise_on_its_schedule(checkout):
    make(checkout.folder / "pipe", "sd")
    found = checkout.read(card())
    assert found["prediction"] == "noise"
    assert found["schedule"] == {"name": "scaled_linear", "steps": 1000, "beta_min": 0.00085, "beta_max": 0.012}
    assert found["sampling"]["grid"] == {"name": "timesteps", "options": {"spacing": "leading", "steps_offset": 1}}
    mine = {"name": "karras", "options": {}}
    assert checkout.read({**card(), "sampling": {"grid": mine}})["sampling"]["grid"] == mine


@pytest.mark.parametrize(("name", "way"), [("flux", "embedded"), ("schnell", "never")])
def test_a_networks_configuration_says_how_it_is_guided(checkout, name, way):
    make(checkout.folder / "pipe", name)
    assert "the key 'image_shape' is missing" in checkout.refusal(card())
    found = checkout.read({**card(), "image_shape": [3, 32, 16]})
    assert found["pipeline"]["guidance"] == way
    assert found["latent_shape"] == [4, 16, 8]
    # At the times that the pipeline gives its scheduler, t = 1 to 1/N.
    assert found["sampling"]["grid"] == {"name": "flow-linear", "options": {"shift": 3.0, "spacing": "trailing"}}


def test_a_key_that_says_nothing_of_guidance_elsewhere_takes_none_away(checkout):
    make(checkout.folder / "pipe", "sana", network={"guidance_embeds": False})  # as diffusers saves Sana's
    assert checkout.read(card())["pipeline"]["guidance"] == "classifier-free"


def test_a_shift_by_the_images_size_is_that_of_the_cards_images(checkout):
    dynamic = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}
    make(checkout.folder / "pipe", "flux", scheduler=dynamic, decoder={"block_out_channels": [8] * 4})
    options = {pixels: checkout.read(shaped(pixels))["sampling"]["grid"]["options"] for pixels in (256, 1024)}
    assert options[256] == {"shift": pytest.approx(math.exp(0.5)), "spacing": "trailing"}  # 16 x 16 tokens
    assert options[1024]["shift"] == pytest.approx(math.exp(1.15))  # 64 x 64, as config/models/flux1-dev.yaml has it


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"base_shift": "0.5"}, "base_shift must be a finite number, not '0.5'"),
        ({"base_image_seq_len": 4096}, "base_image_seq_len and max_image_seq_len must differ, and both are 4096"),
        ({"base_shift": 1e9, "max_shift": 2e9}, "the shift of 4096 tokens must be a finite number above 0"),
    ],
)
def test_a_shift_that_is_none_is_refused(checkout, changes, says):
    scheduler = {"use_dynamic_shifting": True, **changes}
    make(checkout.folder / "pipe", "flux", scheduler=scheduler, decoder={"block_out_channels": [8] * 4})
    assert says in checkout.refusal(shaped(1024))


def shaped(pixels):
    return {**card(), "image_shape": [3, pixels, pixels]}


@pytest.mark.parametrize(
    ("family", "changes", "says"),
    [
        (
            "sd",
            {"_class_name": "EulerDiscreteScheduler", "interpolation_type": "log_linear"},
            "interpolation_type 'log_l",
        ),
        (
            "sana",
            {"use_dynamic_shifting": True},
            "the shift depends on the size of the image (use_dynamic_shifting), and",
        ),
    ],
)
def test_a_card_without_a_grid_is_told_why(refusal, family, changes, says):
    without = {**ENOUGH, "datasets[0].grid": None}
    said = refusal(family, without, scheduler=changes)
    assert "datasets[0].grid: the key is missing, and the card 'mine' has no sampling.grid: " in said
    assert says in said


def test_a_pipeline_without_encoders_has_classes(checkout):
    make(checkout.folder / "pipe", "dit")
    assert checkout.read(card())["classes"] == 10


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"image_shape": [1, 16, 16]}, "image_shape: [1, 16, 16], but vae/config.json says out_channels 3"),
        ({"image_shape": [3, 15, 16]}, "image_shape: [3, 15, 16], but height and width must be multiples of 2"),
        (
            {"latent_shape": [4, 4, 4]},
            "[4, 4, 4], but for images [3, 16, 16] vae/config.json says [4, 8, 8]",
        ),
        ({"prediction": "noise"}, "prediction: noise, but scheduler_config.json"),
        ({"schedule": {"name": "flow", "steps": 10}}, "schedule: {'name': 'flow', 'steps': 10}, but"),
        ({"classes": 10}, "classes: 10, but model_index.json has text encoders"),
        ({"urls": ["file:x"]}, "urls: the card is of a pipeline, which has no such key; leave it out"),
        ({"network": {"name": "adm-unet", "options": {}}}, "network: the card is of a pipeline"),
        ({"role": "features"}, "role: 'features' is not allowed"),
        ({"pipeline": {"source": "file:none"}}, "none has no model_index.json, so it is no pipeline of diffusers"),
        (
            {"pipeline": {"source": "http://x"}},
            "http://x is not allowed; allowed: file:folder, hf:owner",
        ),
        (
            {"pipeline": {"source": "file:pipe", "class": "FluxPipeline"}},
            "but model_index.json says Stable",
        ),
        ({"pipeline": {"source": "file:pipe", "guidance": "never"}}, None),
        (
            {"pipeline": {"source": "file:pipe", "guidance": "embedded"}},
            "but transformer/config.json says gui",
        ),
        ({"pipeline": {"source": "file:pipe", "variant": "fp16"}}, "'fp16' is not allowed for"),
        ({"pipeline": {}}, "pipeline: the key 'source' is missing, or no text; allowed: file:folder, hf:owner"),
        ({"pipeline": {"source": "file:pipe", "sorce": 1}}, "unknown key 'sorce' (did you mean 'source'?)"),
    ],
)
def test_a_card_that_contradicts_its_folder_is_refused(checkout, changes, says):
    make(checkout.folder / "pipe")
    if says is None:
        assert checkout.read({**card(), **changes})
    else:
        assert says in checkout.refusal({**card(), **changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"index": {"_class_name": "MagicPipeline"}}, "; docs/pipelines.md says how to add one"),
        ({"index": {"_class_name": "MagicPipeline"}}, "known: DiTPipeline, FluxPipeline"),
        ({"index": {"_class_name": None}}, "unknown class 'None'"),
        ({"scheduler": {"num_train_timesteps": "many"}}, "config/models/mine.yaml: "),
        (
            {"weights": "diffusion_pytorch_model.bin"},
            "no safetensors of the variant that is asked for; it has diff",
        ),
        ({"weights": "diffusion_pytorch_model.fp16.safetensors"}, "it has diffusion_pytorch_model.fp16.safetensors"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_before_any_job(checkout, changes, says):
    make(checkout.folder / "pipe", **changes)
    assert says in checkout.refusal(card())


def test_only_files_that_are_needed_are_chosen(tmp_path):
    folder = make(tmp_path / "pipe")
    for name in ("README.md", "vae/diffusion_pytorch_model.bin", "other/model.safetensors", "vae/x.fp16.safetensors"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    weights = {"transformer": "", "vae": ""}
    assert [name for name in pipelines.needed(folder, None) if name.endswith(".safetensors")] == [
        "text_encoder/model.safetensors",
        *(f"{place}/diffusion_pytorch_model.safetensors" for place in weights),
    ]
    with_variant = pipelines.needed(folder, "fp16")
    assert {"vae/x.fp16.safetensors", "transformer/diffusion_pytorch_model.safetensors"} <= set(with_variant)
    assert "vae/diffusion_pytorch_model.safetensors" not in with_variant
    assert not {"README.md", "vae/diffusion_pytorch_model.bin"} & {*with_variant, *pipelines.needed(folder, None)}


def test_a_manifest_is_of_contents_and_jobs_notice_another_size(checkout, tmp_path):
    folder = make(checkout.folder / "pipe")
    checkout.read(card())
    target = tmp_path / "resources/pipelines/mine.json"
    target.parent.mkdir(parents=True)
    how = {"root": checkout.root, "folder": checkout.folder}
    pipelines.obtain("mine", checkout.read(card()), target, **how)
    first = target.read_bytes()
    assert set(manifests.checked(target)["files"]) == set(pipelines.needed(folder, None))
    assert manifests.folder_of(target).resolve() == folder.resolve()
    pipelines.obtain("mine", checkout.read(card()), target, **how)
    assert target.read_bytes() == first
    (folder / "vae/diffusion_pytorch_model.safetensors").write_bytes(b"longer than it was before")
    with pytest.raises(ValueError, match=r"vae/.* has 25 bytes, but had 14 as it was fetched; delete .*mine.json"):
        manifests.checked(target)


class Hub:
    """What of huggingface_hub is called, of one repository."""

    def __init__(self, folder):
        self.folder, self.error, self.patterns = folder, None, None

    def HfApi(self):
        return self

    def model_info(self, name, revision):
        if self.error:
            raise self.error
        assert (name, revision) == ("owner/name", "1a2b")
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return types.SimpleNamespace(
            siblings=[types.SimpleNamespace(rfilename=path.relative_to(self.folder).as_posix()) for path in files]
        )

    def hf_hub_download(self, name, file, revision, cache_dir):
        return self.folder / file

    def snapshot_download(self, name, revision, allow_patterns, cache_dir):
        self.patterns = allow_patterns
        return self.folder


@pytest.fixture
def hub(tmp_path, monkeypatch):
    made = Hub(make(tmp_path / "hub"))
    monkeypatch.setattr(downloads, "optional", lambda name, url: made)

    def small(name, file, revision, *, online):
        return made.folder / file if (made.folder / file).is_file() else None

    monkeypatch.setattr(downloads, "of_the_hub", small)
    return made


def test_a_pipeline_of_the_hub_is_fetched_with_what_is_needed_and_locked(checkout, hub, tmp_path):
    own = checkout.read(card("hf:owner/name@1a2b"))
    assert own["latent_shape"] == [4, 8, 8]
    target, said = tmp_path / "resources/mine.json", []
    target.parent.mkdir()
    how = {"root": checkout.root, "folder": checkout.folder, "announce": said.append}
    pipelines.obtain("mine", own, target, **how)
    assert said == ["Pipeline mine: Licence: none"]
    assert hub.patterns == pipelines.needed(hub.folder, None)
    entry = checksums.read(checkout.root)["mine/mine.json"]
    assert entry["url"] == "hf:owner/name@1a2b"
    (hub.folder / "vae/diffusion_pytorch_model.safetensors").write_bytes(b"weights of it!")
    with pytest.raises(ValueError, match=f"sha256 is .*, config/checkpoints.lock says {entry['sha256']}"):
        pipelines.obtain("mine", own, target, **how)


def test_a_gated_repository_says_what_to_do(checkout, hub, tmp_path):
    hub.error = type("GatedRepoError", (Exception,), {})("403 Client Error\n\nCannot access gated repo")
    own = checkout.read(card("hf:owner/name@1a2b"))
    with pytest.raises(
        OSError, match=r"^hf:owner/name@1a2b: the repository is gated: accept .*/owner/name, .*HF_TOKEN$"
    ):
        pipelines.obtain("mine", own, tmp_path / "mine.json", root=checkout.root, folder=checkout.folder)


def test_a_card_that_says_everything_needs_no_network(checkout, monkeypatch):
    def asked(*arguments, online):
        assert not online

    monkeypatch.setattr(downloads, "of_the_hub", asked)
    whole = {"prediction": "flow", "schedule": {"name": "flow"}, "image_shape": [3, 16, 16], "latent_shape": [4, 8, 8]}
    kind = {"class": "FluxPipeline", "guidance": "embedded"}
    assert checkout.read({**card("hf:owner/name", **kind), **whole})["pipeline"]["guidance"] == "embedded"


GUIDED = {"name": "classifier-free", "scale": 3.0}


@pytest.fixture
def benchmark(checkout, tmp_path, monkeypatch):
    """``benchmark(family, changes)``: the checked configuration of a pipeline in the place of the tiny one's model."""
    monkeypatch.chdir(tmp_path)
    return lambda family, changes, **files: Benchmark(configured(checkout, family, changes, **files), checkout.root)


@pytest.fixture
def refusal(benchmark):
    """``refusal(family, changes)``: how a configuration of a pipeline is refused, None where it is not."""

    def said(family, changes, **files):
        try:
            benchmark(family, changes, **files)
        except ConfigError as error:
            return str(error)
        return None

    return said


@pytest.mark.parametrize(
    ("family", "changes", "says"),
    [
        ("sd3", ENOUGH, None),
        ("sd3", {**ENOUGH, "datasets[0].guidance": {**GUIDED, "interval": [0.3, 5], "rescale": 0.7}}, None),
        ("sd3", {**ENOUGH, "datasets[0].guidance": GUIDED, "datasets[0].negative_prompt": "blurred"}, None),
        ("flux", {**ENOUGH, "datasets[0].guidance": {"name": "embedded", "scale": 3.5}}, None),
        ("schnell", ENOUGH, None),
        ("dit", {"datasets[0].grid": {"name": "uniform-index"}, "datasets[0].labels": "balanced"}, None),
        ("sd3", {}, "prompts: the key is missing; the model 'mine' makes images of prompts"),
        ("sd3", {"datasets[0].prompts": {"file": "few.txt"}}, "has 45 prompts, but 46 are needed: 30 .* and 16 more"),
        ("sd3", {"datasets[0].prompts": {"file": "no.txt"}}, r"datasets\[0\]\.prompts: there is no file 'no.txt'"),
        ("sd3", {"datasets[0].prompts": {"file": "few.txt", "colum": "x"}}, r"unknown key 'colum' \(did you mean"),
        ("sd3", {**ENOUGH, "datasets[0].labels": "uniform"}, r"datasets\[0\]\.labels: model 'mine' has no classes"),
        ("sd3", {**ENOUGH, "datasets[0].negative_prompt": "x"}, "negative_prompt: without classifier-free guidance"),
        (
            "sd3",
            {**ENOUGH, "datasets[0].guidance": {"name": "embedded", "scale": 2.0}},
            "guidance.name: 'embedded' is not allowed for 'mine'; allowed: 'classifier-free'",
        ),
        (
            "sd3",
            {**ENOUGH, "datasets[0].guidance": {**GUIDED, "interval": [5, 0.3]}},
            r"guidance.interval: \[5, 0.3\] is not allowed; allowed: two noise levels, the lower first",
        ),
        ("sd3", {**ENOUGH, "solvers[0].grid": {"name": "released"}}, "'released' is not allowed for a pipeline"),
        ("flux", ENOUGH, "guidance: the key is missing; .* takes its scale as an input: {name: embedded, scale: ...}"),
        (
            "flux",
            {**ENOUGH, "datasets[0].guidance": GUIDED},
            "distilled for guidance and takes its scale as an input",
        ),
        ("schnell", {**ENOUGH, "datasets[0].guidance": GUIDED}, "distilled to need no guidance; leave the key out"),
        (
            "dit",
            {"datasets[0].grid": {"name": "uniform-index"}, **ENOUGH},
            r"datasets\[0\]\.prompts: the model 'mine' has images of classes; leave the key out",
        ),
    ],
)
def test_what_images_are_of_is_checked_before_any_job(refusal, family, changes, says):
    found = refusal(family, changes)
    assert (
        found is None if says is None else re.search(says.replace("datasets[0].prompts: the", r"prompts: the"), found)
    )


def test_prompts_for_another_model_are_refused(refusal):
    changes = {"datasets[0].model": "digits-edm", "datasets[0].data": "digits", **ENOUGH}
    assert "prompts: the model 'digits-edm' has no text encoders; leave the key out" in refusal("sd3", changes)
    embedded = {"datasets[0].guidance": {"name": "embedded", "scale": 2.0}}
    changes = {"datasets[0].model": "digits-edm", "datasets[0].data": "digits", **embedded}
    assert "'embedded' is not allowed for 'digits-edm', which is no pipeline" in refusal("sd3", changes)


def test_a_plan_counts_passes_prompts_and_decoded_latents(benchmark):
    made = benchmark("sd3", {**ENOUGH, "datasets[0].guidance": GUIDED})
    found = plan(made).loc["all"]
    assert found["passes"] == 2 * found["evaluations"]
    assert found["encoded"] == 30 + 16
    assert found["decoded"] == 4 * 60  # three solvers and the reference, two seeds of 30 images
    without = plan(benchmark("sd3", ENOUGH)).loc["all"]
    assert without["passes"] == without["evaluations"] == found["evaluations"]


def test_a_guidance_scale_of_1_is_none(benchmark):
    made = benchmark("sd3", {**ENOUGH, "datasets[0].guidance": {**GUIDED, "scale": 1}})
    assert "guidance" not in made.datasets["digits-edm"]


def test_a_cell_depends_on_the_code_of_its_own_family_alone(benchmark, monkeypatch):
    """And one of another kind of model on none of it."""
    codes = []
    monkeypatch.setattr(digests, "code_digest", lambda script, *parts: codes.append(digests.code_of(script, *parts)))
    changes = {"datasets[0].model": "digits-edm", "datasets[0].data": "digits", "datasets[0].grid": {"name": "karras"}}
    for own in (ENOUGH, changes):
        made = benchmark("sd3", own)
        depends = Dependencies(made)
        monkeypatch.setattr(made, "root", REPOSITORY)
        depends.cell_code("sample.py", made.reference("digits-edm"))
    pipeline, other = (
        {path.relative_to(REPOSITORY / "dode").as_posix() for path in each if "dode" in path.parts} for each in codes
    )
    assert {"pipelines/stable_diffusion_3.py", "pipelines/family.py", "benchmark/pipeline_jobs.py"} <= pipeline
    assert not {"pipelines/flux.py", "pipelines/dit.py"} & pipeline
    assert not {path for path in other if path.startswith("pipelines/") or "pipeline" in path}


def test_cards_of_pipelines_have_the_name_of_their_repository():
    assert cards.file_name(card("hf:owner/name@1a2b")) == "hf:owner/name"
