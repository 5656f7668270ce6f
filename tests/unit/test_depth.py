"""Which evaluations must wait for one another: declared by a solver, or read off its coefficients."""

import pytest
import torch

import variants
from dode import grids, sampling, solvers
from dode.distillation.linear_form import linear_form
from dode.grids.facts import ModelFacts
from dode.report.page.views import Page, View
from dode.solvers.non_stationary import NonStationary


def of(*rows):
    return NonStationary(rows).depth(len(rows) - 1)


def test_depth_is_the_longest_chain_of_outputs():
    chain = [[80.0], [1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0]]
    assert of(*chain) == 3
    # Two evaluations at once between a first and a last one.
    diamond = [[80.0], [1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.5, 0.5], [1.0, 0.0, 0.0, 0.0, 1.0]]
    assert of(*diamond) == 3
    assert of([80.0], [1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.4, 0.3, 0.3]) == 1
    assert of([80.0], [0.0, 1.0]) == 1
    # The first two wait for nothing, the third for the second alone.
    assert of([80.0], [1.0, 0.0], [1.0, 0.0, 1.0], [1.0, 0.2, 0.2, 0.2]) == 2


def test_a_student_has_the_depth_of_its_solver():
    rows = [[80.0], [1.0, 0.0], [1.0, 0.5, 0.5]]
    student = sampling.Student(NonStationary(rows), torch.tensor([80.0, 1.0, 0.0]))
    assert (student.nfe, student.depth) == (2, 1)
    heun = sampling.Student(solvers.create("heun"), grids.karras(steps=3))
    assert heun.nfe == heun.depth == 5


@pytest.mark.parametrize("name", variants.SHARED_NAMES)
def test_a_solver_declares_the_depth_of_its_linear_form(name):
    solver = solvers.create(name)
    student = sampling.Student(solver, grids.karras(steps=max(6, solver.steps(solver.nfe(6)))))
    form = linear_form(student, ModelFacts())
    assert of(*form.coefficients.tolist()) == student.depth


def test_the_page_says_it_where_it_differs():
    cells = [("epd", 6, 4), ("epd", 10, 6), ("ddim", 6, 6), ("old", 6, None)]
    view = object.__new__(View)
    view.page = object.__new__(Page)
    view.page.solvers = {name: {"label": name.upper()} for name, _, _ in cells}
    view.measured = [{"solver": name, "nfe": nfe, "depth": depth} for name, nfe, depth in cells]
    assert view.depth == "4 of 6 and 6 of 10 with EPD"
    view.measured = view.measured[2:]
    assert view.depth == ""
