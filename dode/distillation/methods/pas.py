"""PAS: a few coordinates of each slope on a basis of the image's own slopes so far."""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from dode.distillation.fit_checks import check_basis
from dode.distillation.learned import Expense, Span, Task, fit
from dode.registry import finite
from dode.solvers.base import Solver

if TYPE_CHECKING:
    from dode.sampling import Student

FLAT = 1e-5  # a change of the loss that counts as none


def _check(images: int, nfe: int, **options: Any) -> None:
    for name in ("components", "epochs", "patience", "batch"):
        value = options[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"fit 'pas': {name} must be an integer of at least 1, not {value!r}")
    if options["components"] > 4:
        raise ValueError(f"fit 'pas': components must be at most 4, not {options['components']}")
    if options["loss"] not in ("L1", "L2"):
        raise ValueError(f"fit 'pas': loss must be 'L1' or 'L2', not {options['loss']!r}")
    for name in ("rate", "tau"):
        if not finite(options[name]) or options[name] < 0:
            raise ValueError(f"fit 'pas': {name} must be a finite number of at least 0, not {options[name]!r}")


def _takes(solver: Solver, span: Span, *, components: int, **options: Any) -> None:
    check_basis(components, "pas", solver, span.steps, solver.nfe(span.steps, end=1.0))


@fit(
    "pas",
    source="Wang et al. 2025, arXiv:2411.06503, Alg. 1",
    expense=lambda images, nfe, **options: Expense(images * nfe),
    follows="states",
    images=5000,
    check=_check,
    takes=_takes,
)
def pas(
    task: Task,
    *,
    components: int = 4,
    loss: str = "L1",
    rate: float = 0.01,
    tau: float = 1e-4,
    epochs: int = 1000,
    patience: int = 10,
    batch: int = 64,
) -> "Student":
    """Coordinates c_k of each slope, ``x' = x + h sum_k c_k u_k`` instead of ``x + h d``, shared by all images.

    Wang et al. 2025, arXiv 2411.06503, Alg. 1, for solvers that end a step at every evaluation (``ddim``, ``ipndm`` of
    order 3 and the like): step by step, Adam of the learning ``rate`` on the mean ``loss`` between the state after the
    step and the teacher's, over batches of ``batch`` images, from ``c = (mean |d|, 0, ...)`` until it has changed by
    less than 1e-5 for ``patience`` epochs. A step is kept as it is unless its loss falls by more than ``tau``
    (adaptive search). ``components``, 1 to 4, is the size of the basis, :class:`dode.directions.Slopes`; as in the
    authors' code, the first step, which has two, is left alone where there are four. The coordinates are those of
    directions with a basis, and the drift, of coefficient -1 where a slope is replaced. No gradient flows through the
    network.
    """
    import torch

    from dode import calls, driver, sampling
    from dode.directions import Directions, History

    directions = Directions(differences=0, basis=components, drift=True, outputs="noise")
    state = task.checkpoint.read() or {"outputs": [], "lambdas": []}
    outputs, lambdas, history = state["outputs"], state["lambdas"], History(directions)
    targets, evaluated = dict(task.states or ()), 0

    def denoise(x, sigma):
        """The network's outputs, or those that an interrupted fit has kept."""
        nonlocal evaluated
        evaluated += 1
        if evaluated > len(outputs):
            output = calls.evaluate(task.denoise, x, sigma, task.latents.dtype, to=torch.float64)
            outputs.append(output.to("cpu", task.latents.dtype))
        return outputs[evaluated - 1].to(x)

    denoise.facts = getattr(task.denoise, "facts", None)  # type: ignore[attr-defined]
    denoise.prior_std = getattr(task.denoise, "prior_std", None)  # type: ignore[attr-defined]

    def advance(step):
        found = history.at(step)
        columns = [found[place] for place in range(components) if place in found]
        if step.index == len(lambdas):
            row = torch.zeros(directions.count, dtype=torch.float64)
            target = targets[float(step.proposal.sigma)].to(step.x)
            own = sum(bool(column.any()) for column in columns)  # those that some image has
            enough = own >= min(components, 3) and not (components == 4 and step.index == 0)
            with torch.enable_grad():
                chosen = (
                    _coordinates(step, columns, target, loss, rate, tau, epochs, patience, batch) if enough else None
                )
            if chosen is not None:
                row[: len(columns)], row[-1] = chosen, -1.0
            lambdas.append(row)
            task.checkpoint.write(state)
        x = step.proposal.x
        row = lambdas[step.index]
        if row[-1] != 0:
            x = step.x + sum(float(own) * column for own, column in zip(row, columns, strict=False))
        return x

    driver.drive(driver.steps(task.solver, denoise, task.latents, task.sigmas), advance)
    return sampling.Student(task.solver, task.sigmas, torch.stack(lambdas), directions)


def _coordinates(step, columns, target, loss, rate, tau, epochs, patience, batch):
    """The coordinates of a step, None where they gain no more than tau."""
    import torch

    h = float(step.proposal.sigma - step.sigma)
    measure = torch.nn.L1Loss() if loss == "L1" else torch.nn.MSELoss()
    slope = (step.proposal.x - step.x) / h
    parts = list(
        zip(
            torch.stack(columns, dim=1).split(batch),
            step.x.split(batch),
            target.split(batch),
            step.proposal.x.split(batch),
            strict=True,
        )
    )
    before = sum(float(measure(proposed, aim)) for *_, aim, proposed in parts) / len(parts)
    coordinates = torch.zeros(len(columns), dtype=torch.float64, device=step.x.device)
    coordinates[0] = torch.linalg.vector_norm(slope.flatten(1), dim=1).mean()
    coordinates.requires_grad_()
    optimiser, losses = torch.optim.Adam([coordinates], lr=rate), []
    for _ in range(epochs):
        total = 0.0
        for basis, x, aim, _ in parts:
            optimiser.zero_grad()
            error = measure(x + torch.einsum("k,bk...->b...", coordinates, basis), aim)
            error.backward()
            optimiser.step()
            total += error.item()
        losses.append(total / len(parts))
        recent = losses[-patience:]
        if len(recent) == patience and all(abs(a - b) <= FLAT for a, b in pairwise(recent)):
            break
    return coordinates.detach().cpu() if before - losses[-1] > tau else None
