"""An audit samples images of an archive again, at a small share of a cell's cost, and finds those that are others."""

import base64
import copy
import shutil

import numpy as np
import pytest
import yaml

import forged_archives
from dode import storage
from dode.__main__ import main
from dode.benchmark import audit
from dode.report.archives import evidence, format
from forged_archives import DEMO, ROOT

DDIM, D_DDIM, J_IPNDM = (f"digits-edm/{name}/nfe5" for name in ("ddim", "d-ddim", "j-ipndm"))


def weights(name, card):
    return ROOT / "config" / "models" / f"{name}.safetensors"


def audited(path, cell, *, images=6, seed=0, root=ROOT, device="cpu"):
    return audit.audit(
        format.read(path), cell, images=images, seed=seed, root=root, weights=weights, device=device, batch_size=4
    )


@pytest.mark.parametrize("cell", [DDIM, D_DDIM, J_IPNDM, "digits-ddpm/d-ddim-refined/nfe10", "digits-edm/d-heun/nfe5"])
def test_images_of_the_demo_come_out_again(cell):
    """To the byte on the machine that made it; on any other within the tolerance."""
    found = audited(DEMO, cell)
    assert len(found.images) == 6
    assert found.others == []
    assert all(image.distance < found.tolerance / 10 for image in found.images)


def test_which_images_are_audited_is_drawn():
    first, same, other = (audited(DEMO, DDIM, seed=seed).images for seed in (1, 1, 2))
    assert first == same
    assert [image[:2] for image in first] != [image[:2] for image in other]
    assert len({image[:2] for image in first}) == 6
    every = audited(DEMO, DDIM, images=10**6)
    assert len(every.images) == 3 * 32
    assert {image.block for image in every.images} == {0, 1, 2}


def test_an_audit_of_a_cell_of_50000_images_costs_less_than_a_hundredth_of_it(tmp_path):
    """In network evaluations, as the command audits by default; the rest is the start of a process."""

    def larger(found):
        for own in (found["provenance.json"]["cells"], *(score["made"] for score in found["scores.json"].values())):
            for each in own.values() if own is found["provenance.json"]["cells"] else [own]:
                each["samples"]["images"] = 50000
        for own in (*found["facts.json"]["cells"], *found["facts.json"]["datasets"], *found["scores.json"].values()):
            own["images"] = 50000

    found = audited(forged_archives.edited(tmp_path / "large.zip", larger), DDIM, images=32)
    assert found.whole == 3 * 50000 * 5
    assert found.evaluations == 32 * 5
    assert found.evaluations <= 0.01 * found.whole / 3  # of one seed


def scaled(found):
    fit = found["fits.json"][D_DDIM]
    fit["lambdas"] = [[1.05 * value for value in row] for row in fit["lambdas"]]


def of_another_cell(found):
    """A forger who has sampled DDIM and says that it was iPNDM."""
    found["evidence.json"]["digits-edm/ipndm/nfe5"] = found["evidence.json"][DDIM]


def one_wrong(found):
    """One image of 96."""
    own = found["evidence.json"][DDIM]
    sketches = np.frombuffer(base64.b64decode(own["sketches"]), "<f4").copy()
    digests = bytearray(base64.b64decode(own["digests"]))
    sketches[40 * evidence.DIRECTIONS] += 1
    digests[40 * evidence.DIGEST] ^= 1
    own["sketches"], own["digests"] = (
        base64.b64encode(part.tobytes() if part is sketches else part).decode() for part in (sketches, digests)
    )


@pytest.mark.parametrize(
    ("edit", "cell", "count"),
    [(scaled, D_DDIM, 96), (of_another_cell, "digits-edm/ipndm/nfe5", 96), (one_wrong, DDIM, 1)],
)
def test_images_that_do_not_come_from_there_are_found(tmp_path, edit, cell, count, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = forged_archives.edited(tmp_path / "forged.zip", edit)
    found = audited(path, cell, images=96)
    assert len(found.others) == count
    assert main(["audit", str(path), cell, "--images", "96", "--device", "cpu"]) == 1
    said = capsys.readouterr().out
    assert f"WRONG: {count} of 96" in said
    assert said.count("OTHER: image") == count


def test_rounding_is_within_the_tolerance(tmp_path):
    """As of another machine: other bytes, but no sketch moves far."""

    def rounded(found):
        own = found["evidence.json"][DDIM]
        sketches = np.frombuffer(base64.b64decode(own["sketches"]), "<f4")
        rng = np.random.default_rng(0)
        # Of 64 pixels, an RMS of a tenth of the tolerance.
        moved = sketches + rng.normal(0, np.sqrt(64) * 1e-4, sketches.shape)
        own["sketches"] = base64.b64encode(moved.astype("<f4").tobytes()).decode()
        own["digests"] = base64.b64encode(bytes(len(base64.b64decode(own["digests"])))).decode()

    found = audited(forged_archives.edited(tmp_path / "rounded.zip", rounded), DDIM, images=20)
    assert found.same == 0
    assert found.others == []


def test_the_command_says_what_it_found_and_what_it_cost(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the checkpoint is put
    assert main(["audit", str(DEMO)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "digits-ddpm/ddim/nfe5"
    assert main(["audit", str(DEMO), DDIM, "--images", "4", "--seed", "3"]) == 0
    said = capsys.readouterr().out
    assert f"{DDIM}: 4 images (--seed 3)" in said
    assert "20 network evaluations, 0.05% of the cell's" in said
    assert "Right: they are the images that the archive speaks of." in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([DDIM[:-1] + "4"], "unknown cell 'digits-edm/ddim/nfe4' (did you mean 'digits-edm/ddim/nfe5'?)"),
        ([DDIM, "--images", "0"], "--images: 0 is not allowed; allowed: at least 1"),
        ([DDIM, "--device", "tpu"], "--device: 'tpu' is not allowed"),
        ([DDIM, "--seed", "-1"], "--seed: -1 is not allowed; allowed: at least 0"),
    ],
)
def test_a_bad_request_is_one_sentence(arguments, says, capsys):
    assert main(["audit", str(DEMO), *arguments]) == 1
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1


def test_another_card_here_is_refused_with_what_differs(tmp_path):
    root = tmp_path / "checkout"
    shutil.copytree(ROOT / "config", root / "config")
    path = root / "config" / "models" / "digits-edm.yaml"
    card = yaml.safe_load(path.read_text())
    card["sigma_max"] = 40.0
    path.write_text(yaml.safe_dump(card))
    with pytest.raises(
        ValueError, match=r"another model than that of the archive: model.sigma_max is 80.0 there and 40.0 here"
    ):
        audited(DEMO, DDIM, root=root)


def run_of(found, cell):
    """The parameters of a cell, in both places where an archive has them."""
    return [found["provenance.json"]["cells"][cell]["run"], found["scores.json"][cell]["made"]["cell"]]


def facts_of(found, cell):
    """What tables say of a cell."""
    return next(own for own in found["facts.json"]["cells"] if own["name"] == cell)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda run: run["grid"]["options"].update(prepared="/dev/zero"), "'prepared' follows from the workflow"),
        (
            lambda run: run["grid"].update(
                name="searched", options={"over": {"name": "karras", "options": {"prepared": "/x"}}}
            ),
            "'prepared' follows",
        ),
        (lambda run: run["grid"].update(name="no-such"), "unknown grid"),
        (lambda run: run["grid"]["options"].update(rho="x"), "rho"),
        (lambda run: run.update(solver="no-such"), "unknown solver"),
        (lambda run: run.update(shell="rm"), "unknown parameter 'shell'"),
        (
            lambda run: run.update(guidance={"name": "classifier", "classifier": {"network": {}}}),
            "no card in config/models",
        ),
    ],
)
def test_parameters_that_no_configuration_can_have_are_refused(tmp_path, change, says):
    def edit(found):
        for run in run_of(found, DDIM):
            change(run)
        run, facts = run_of(found, DDIM)[0], facts_of(found, DDIM)
        facts |= {"method": run["solver"], "distilled": run["grid"]["name"] == "searched"}

    with pytest.raises(ValueError, match=says) as caught:
        audited(forged_archives.edited(tmp_path / "forged.zip", edit), DDIM)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda fit: fit.update(lambdas=[[1.0, 2.0, 3.0, 4.0]] * 5),
        lambda fit: fit.update(directions={"differences": "many"}),
        lambda fit: fit.update(directions=None),
        lambda fit: fit.update(lambdas=[[1e308]] * 5),
        lambda fit: fit.update(coefficients=[[1.0]]),
        lambda fit: fit.update(told=[1.0]),
    ],
)
def test_numbers_that_are_no_fit_are_refused(tmp_path, change):
    path = forged_archives.edited(tmp_path / "forged.zip", lambda found: change(found["fits.json"][D_DDIM]))
    with pytest.raises(ValueError, match=r"\w") as caught:
        audited(path, D_DDIM)
    assert "\n" not in str(caught.value)


def test_a_searched_grid_is_that_of_the_levels_in_the_archive(tmp_path):
    """Whose search is not run again."""
    levels = [80.0, 10.0, 3.0, 1.0, 0.2, 0.0]
    grid = {"name": "searched", "options": {}}

    def edit(found):
        for run in run_of(found, DDIM):
            run["grid"] = copy.deepcopy(grid)
        facts_of(found, DDIM)["distilled"] = True
        found["evidence.json"][DDIM]["levels"] = levels

    path = forged_archives.edited(tmp_path / "searched.zip", edit)
    searched = audited(path, DDIM, images=3)
    storage.write_json(tmp_path / "levels.json", {"sigmas": levels})
    assert len(searched.others) == 3  # they are not what was sampled on the other grid
    explicit = {"name": "explicit", "options": {"sigmas": levels}}

    def same(found):
        edit(found)
        for run in run_of(found, DDIM):
            run["grid"] = copy.deepcopy(explicit)
        facts_of(found, DDIM)["distilled"] = False

    expected = audited(forged_archives.edited(tmp_path / "explicit.zip", same), DDIM, images=3)
    assert [image.distance for image in searched.images] == [image.distance for image in expected.images]


def test_a_pipeline_is_refused(tmp_path):
    def edit(found):
        dataset = found["provenance.json"]["datasets"]["digits-edm"]
        dataset["model"]["pipeline"] = {"class": "X"}
        for name, score in found["scores.json"].items():
            score["made"]["cell"]["model"]["pipeline"] = {"class": "X"}
            if name in found["fits.json"]:
                found["fits.json"][name]["cell"]["model"]["pipeline"] = {"class": "X"}

    with pytest.raises(ValueError, match="is a pipeline, whose cells cannot be audited"):
        audited(forged_archives.edited(tmp_path / "pipeline.zip", edit), DDIM)
