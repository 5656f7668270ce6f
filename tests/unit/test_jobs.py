"""Files that one job hands to another."""

from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open

from dode import grids, solvers, storage
from dode.benchmark import fit_jobs, jobs, software
from dode.models.guidance import ClassifierFree
from dode.sampling import Student


def test_a_teachers_states_are_read_as_written_with_what_they_were_made_on(tmp_path):
    path, made = tmp_path / "teacher.safetensors", software.environment()
    states = [
        (80.0, torch.randn(3, 1, 2, 2, dtype=torch.float64)),
        (1 / 3, torch.zeros(3, 1, 2, 2)),
        (0.0, torch.ones(1)),
    ]
    fit_jobs.write_states(path, states, made)
    assert fit_jobs.read_made(path) == made
    for (level, state), (wanted, other) in zip(fit_jobs.read_states(path), states, strict=True):
        assert level == wanted
        assert torch.equal(state, other.float())
    with safe_open(path, framework="pt") as file:  # the order of several is another in every process
        assert len(file.metadata()) == 1


def test_a_cell_reads_no_student_of_another_number_of_evaluations(tmp_path):
    cell = SimpleNamespace(
        solver=solvers.create("ddim"), sigmas=grids.karras(steps=2), trajectory=SimpleNamespace(nfe=2)
    )
    assert jobs.read_student(cell, None).nfe == 2
    coefficients = [[80.0, 0.0], [1.0, 0.5]]
    values = {"family": "s4s", "coefficients": coefficients, "levels": [80.0, 0.0], "told": None}
    storage.write_json(tmp_path / "lambdas.json", values)
    with pytest.raises(ValueError, match=r"lambdas.json makes 1 evaluations, but the cell is of NFE 2"):
        jobs.read_student(cell, tmp_path / "lambdas.json")


@pytest.mark.parametrize(
    ("scale", "interval", "expected"), [(1.0, None, 3), (1.0, (0.5, 2.0), 3), (3.0, None, 6), (3.0, (0.5, 2.0), 6)]
)
def test_passes_of_a_solver_with_levels_by_image_are_at_most_those_of_guidance(scale, interval, expected):
    cell = SimpleNamespace(denoise=ClassifierFree(SimpleNamespace(), scale=scale, interval=interval))
    student = Student(solvers.create("amed"), grids.karras(steps=2))
    assert jobs.CellJob.passes(cell, student) == expected
