"""Solvers turned inside out, their points answered by a program's own network."""


def driven(run, denoise):
    """End state of a run whose points are answered by ``denoise``, and the points."""
    answer, points = None, []
    while True:
        try:
            point = run.send(answer)
        except StopIteration as end:
            return end.value, points
        points.append(point)
        answer = denoise(*point)
