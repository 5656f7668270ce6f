"""Cards of scorers of images by their prompts: what they may say, their folders, and where a dataset names them."""

import copy
import json
import re

import pytest
import yaml

from checkouts import Checkout
from dode.benchmark import elsewhere, evaluations, provenance
from dode.benchmark.cells import Benchmark
from dode.benchmark.dependencies import Dependencies
from dode.benchmark.files import Files
from dode.benchmark.workloads import Workloads
from dode.fetching import checksums, downloads, pipelines, renewal
from dode.metrics.catalogue import METRICS
from dode.pipelines import manifests
from dode.report.archives import elsewhere as comparison
from dode.report.differences import differences
from dode.validation import ConfigError
from test_pipeline_cards import Hub
from test_pipeline_cards import card as pipeline_card
from test_pipeline_cards import make as make_pipeline
from workspace import TINY, change

FILES = ("config.json", "preprocessor_config.json", "tokenizer.json", "vocab.json", "merges.txt", "model.safetensors")
UNUSED = ("README.md", "pytorch_model.bin", "tf_model.h5", "onnx/model.onnx")


def make(folder, *others):
    """A folder as of a released CLIP; no weights."""
    for name in (*FILES, *others):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps({"model_type": "clip"}))
    return folder


def card(source="file:clip", **options):
    return {
        **{"role": "prompt-score", "licence": "MIT", "source": source},
        "network": {"name": "clip", "options": options},
    }


@pytest.fixture
def checkout(tmp_path):
    made = Checkout(tmp_path)
    make(made.folder / "clip", *UNUSED)
    return made


def test_a_card_of_a_folder_or_of_the_hub_needs_six_lines(checkout):
    assert checkout.read(card())["source"] == "file:clip"
    assert checkout.read(card("hf:openai/clip-vit-large-patch14@32bd642"))["precision"]["dtype"] == "float32"
    assert len(yaml.safe_dump(card(), default_flow_style=None).splitlines()) <= 6


@pytest.mark.parametrize("score", ["clip_score", "pick_score", "hps_v2"])
def test_every_score_is_in_the_catalogue(checkout, score):
    assert checkout.read(card(score=score))["network"]["options"] == {"score": score}
    assert score in METRICS
    assert not METRICS[score].lower_is_better


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"source": None}, "the key 'source' is missing"),
        ({"source": "https://example.org/clip"}, "source: 'https://example.org/clip' is not allowed"),
        ({"source": "file:clipp"}, "source: there is no folder .*clipp"),
        ({"network": None}, "the key 'network' is missing"),
        (
            {"network.name": "clipp"},
            r"network.name: unknown prompt scorer 'clipp' \(did you mean 'clip'\?\); known: clip",
        ),
        ({"network.options": {"score": "clip"}}, "network.options.score: 'clip' is not one of clip_score, pick_score"),
        ({"network.options": {"mode": "clean"}}, "network.options: unknown key 'mode'; known: score"),
        ({"format": "torch"}, "format: 'torch' is not allowed; allowed: 'safetensors'"),
        ({"urls": ["file:x"]}, "urls: the card is of a folder, which has no such key; leave it out"),
        ({"sha256": "0" * 64}, "sha256: the card is of a folder, which has no such key; leave it out"),
        ({"precision": {"decoder": "float16"}}, "precision.decoder: the card is of no pipeline; leave it out"),
        (
            {"role": "features", "urls": ["file:x"]},
            "source: the card is of the role 'features', which has urls; leave it",
        ),
    ],
)
def test_a_card_that_says_something_else_is_refused(checkout, changes, says):
    own = card()
    for key, value in changes.items():
        change(own, key, value)
    assert re.search(says, checkout.refusal(own))


@pytest.mark.parametrize(
    ("gone", "says"),
    [
        ("config.json", "source: .*clip: it has no config.json; a folder needs"),
        ("preprocessor_config.json", "it has no preprocessor_config.json; .*the CLIP that it was trained from"),
        ("model.safetensors", "source: .*clip has no safetensors .*it has pytorch_model.bin; other files are not read"),
    ],
)
def test_a_folder_that_lacks_a_file_is_refused_before_any_job(checkout, gone, says):
    (checkout.folder / "clip" / gone).unlink()
    assert re.search(says, checkout.refusal(card()))


def test_a_tokenizer_of_either_form_will_do(checkout):
    (checkout.folder / "clip/tokenizer.json").unlink()
    checkout.read(card())
    (checkout.folder / "clip/vocab.json").unlink()
    assert "it has no tokenizer.json or vocab.json" in checkout.refusal(card())


def test_a_scorer_of_the_hub_is_fetched_with_what_is_needed_and_locked(checkout, tmp_path, monkeypatch):
    hub = Hub(make(tmp_path / "hub", *UNUSED))
    monkeypatch.setattr(downloads, "optional", lambda name, url: hub)
    own, target, said = checkout.read(card("hf:owner/name@1a2b")), tmp_path / "resources/mine.json", []
    target.parent.mkdir()
    how = {"root": checkout.root, "folder": checkout.folder, "announce": said.append}
    pipelines.obtain("mine", own, target, **how)
    assert said == ["Model mine: Licence: MIT"]
    assert set(hub.patterns) == set(FILES)
    assert set(manifests.checked(target)["files"]) == set(FILES)
    entry = checksums.read(checkout.root)["mine/mine.json"]
    (hub.folder / "model.safetensors").write_text("other weights of it")
    with pytest.raises(ValueError, match=f"sha256 is .*, config/checkpoints.lock says {entry['sha256']}"):
        pipelines.obtain("mine", own, target, **how)


def test_a_repository_without_a_preprocessor_is_refused_before_its_weights_come(checkout, tmp_path, monkeypatch):
    """As those that are published without the processor of the CLIP that they were trained from."""
    hub = Hub(make(tmp_path / "hub"))
    (hub.folder / "preprocessor_config.json").unlink()
    monkeypatch.setattr(downloads, "optional", lambda name, url: hub)
    own = checkout.read(card("hf:owner/name@1a2b"))
    with pytest.raises(ValueError, match=r"^source: hf:owner/name@1a2b: it has no preprocessor_config.json; a folder"):
        pipelines.obtain("mine", own, tmp_path / "mine.json", root=checkout.root, folder=checkout.folder)
    assert hub.patterns is None


def test_only_a_scorer_of_the_hub_needs_an_entry_of_the_lock_file(checkout, monkeypatch):
    monkeypatch.chdir(checkout.root)  # the working directory may have cards of its own
    checkout.read(card("hf:owner/name@1a2b"))
    assert set(renewal.unlocked(checkout.root)) == {"mine/mine.json"}
    checkout.read(card())
    assert not renewal.unlocked(checkout.root)


@pytest.fixture
def benchmark(checkout, tmp_path, monkeypatch):
    """``benchmark(changes)``: the tiny one's configuration with a pipeline, prompts and the scorers ``a`` and ``b``."""
    monkeypatch.chdir(tmp_path)
    for name in ("digits-classifier.yaml", "digits-edm.yaml"):
        (checkout.folder / name).write_text((TINY.parents[3] / "config/models" / name).read_text())
    make_pipeline(checkout.folder / "pipe")
    (checkout.folder / "mine.yaml").write_text(yaml.safe_dump(pipeline_card()))
    for name, own in (("a", card()), ("b", card(score="pick_score")), ("c", card())):
        (checkout.folder / f"{name}.yaml").write_text(yaml.safe_dump(own))
    (tmp_path / "prompts.txt").write_text("".join(f"a cat {number}\n" for number in range(46)))

    def make_it(changes):
        config = yaml.safe_load(TINY.read_text())
        prompts = {"datasets[0].prompts": {"file": "prompts.txt"}}
        own = {"datasets[0].model": "mine", "datasets[0].grid": {"name": "flow-linear"}, **prompts, **changes}
        for key, value in own.items():
            if value is not None:
                change(config, key, value)
        return Benchmark(config, checkout.root)

    return make_it


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"datasets[0].prompt_scores": ["z"]}, r"datasets\[0\].prompt_scores\[0\]: unknown card 'z'"),
        ({"datasets[0].prompt_scores": []}, r"datasets\[0\].prompt_scores: .*"),
        (
            {"datasets[0].prompt_scores": ["a", "digits-classifier"]},
            r"prompt_scores\[1\]: card 'digits-classifier' has the role 'features', not 'prompt-score'",
        ),
        (
            {"datasets[0].prompt_scores": ["a", "c"]},
            r"prompt_scores\[1\]: 'c' gives the clip_score, as 'a' does; leave one of them out",
        ),
        (
            {
                **{"datasets[0].model": "digits-edm", "datasets[0].prompts": None},
                "datasets[0].prompt_scores": ["a"],
            },
            r"datasets\[0\].prompt_scores: the model 'digits-edm' has no text encoders; leave the key out",
        ),
        ({"datasets[0].features": "a"}, r"features: card 'a' has the role 'prompt-score', not 'features'"),
    ],
)
def test_a_dataset_with_other_scorers_is_refused(benchmark, changes, says):
    with pytest.raises(ConfigError, match=says):
        benchmark(changes)


def test_each_cell_has_a_job_and_a_file_for_each_scorer(benchmark):
    without, found = benchmark({}), benchmark({"datasets[0].prompt_scores": ["a", "b"]})
    cell = found.cells_of("digits-edm")[0]
    assert Files(found).prompt_scores(cell) == [f"results/tiny/{cell}/prompt-scores/{name}.json" for name in "ab"]
    assert Files(found).checkpoint("a") == "resources/scorers/a.json"
    assert Workloads(found).jobs(cell)["prompt_score"] == 2
    assert "prompt_score" not in Workloads(without).jobs(without.cells_of("digits-edm")[0])
    assert all(evaluations.count(found, rule, cell) == 0 for rule in ("prompt_score", "score_pipeline"))


def test_the_record_that_archives_are_compared_with_has_the_scorers_and_their_checksums(benchmark, monkeypatch):
    monkeypatch.setattr(Dependencies, "code", lambda depends, *parts: "a digest")
    found = benchmark({"datasets[0].prompt_scores": ["a", "b"]})
    record = elsewhere.record(found)
    scorers = record["datasets"]["digits-edm"]["scorers"]
    assert {metric: own["card"] for metric, own in scorers.items()} == {"clip_score": "a", "pick_score": "b"}
    assert set(record["checkpoints"]) == {"mine", "digits-classifier", "a", "b"}
    assert elsewhere.manifests(found) == {
        **{name: f"resources/scorers/{name}.json" for name in "ab"},
        "mine": "resources/pipelines/mine.json",
    }
    known = copy.deepcopy(record)
    known["checkpoints"]["a"]["sha256"] = "0" * 64
    grounds = [comparison.ground(each, "digits-edm") for each in (record, known)]
    assert [key for key, *_ in differences(*grounds)] == ["scorers.clip_score.checkpoint"]
    assert "scorers" not in elsewhere.record(benchmark({}))["datasets"]["digits-edm"]
    by = [{"scoring": Dependencies(found).prompt_score("digits-edm", name)} for name in "ab"]
    made = {"cell": {"model": {}}, "samples": {}, "code": {}, "scoring": {"card": {}, "real": None}}
    score = {"software": {}, "machine": {}, "samples": [], "made": made, "prompt_scores": by}
    named = provenance.names(found)
    written = provenance.completed(named, found.root, dict.fromkeys(named["labels"], score), {})
    assert written["datasets"]["digits-edm"]["scorers"] == scorers


def test_scores_depend_on_the_card_and_on_the_prompts_of_scored_images(benchmark, tmp_path):
    def made(name):
        return Dependencies(benchmark({"datasets[0].prompt_scores": ["a", "b"]})).prompt_score("digits-edm", name)

    first = made("a")
    assert first != made("b")
    rows = (tmp_path / "prompts.txt").read_text().splitlines()
    for row, same in ((29, False), (30, True)):  # 30 images are scored
        (tmp_path / "prompts.txt").write_text("\n".join([*rows[:row], "a dog", *rows[row + 1 :]]) + "\n")
        assert (made("a") == first) == same
