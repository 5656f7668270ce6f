"""Write a cell of a finished benchmark as one small file, to be used on another model (docs/using-a-result.md)."""

import argparse
import sys

from dode import texts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The cell, or how to choose it."""
    parser.add_argument("results", help="folder of a finished benchmark, results/<benchmark>")
    parser.add_argument("dataset", help="id of the dataset")
    parser.add_argument("solver", nargs="?", help="id of the solver; leave it out with --best")
    parser.add_argument("evaluations", nargs="?", type=int, metavar="nfe", help="number of network evaluations")
    parser.add_argument(
        "--best", metavar="METRIC", help="export the solver that the page recommends by this metric, such as paired_fid"
    )
    parser.add_argument("--nfe", type=int, help="the same as an option; with --best, the largest number of evaluations")
    parser.add_argument(
        "--output", help="the file to write, - for standard output (default <dataset>-<solver>-nfe<nfe>.json)"
    )


def run(options: argparse.Namespace) -> None:
    """Choose, write, say what was written."""
    nfe = options.nfe if options.evaluations is None else options.evaluations
    if (options.solver is None) == (options.best is None) or nfe is None:
        raise ValueError("name the solver and the nfe (ddim 5), or --best METRIC and --nfe N")
    if None not in (options.nfe, options.evaluations) and options.nfe != options.evaluations:
        raise ValueError(f"--nfe {options.nfe}, but the cell's nfe is {options.evaluations}; leave one of them out")
    from dode.names import CellName
    from dode.report.finished import Finished

    finished = Finished(options.results)
    from dode import portable
    from dode.benchmark import export

    solver, ties = options.solver, list[str]()
    if options.best:
        solver, nfe, ties = export.best(finished, options.dataset, options.best, nfe)
    record = export.record(finished, options.dataset, solver, nfe)
    path = options.output or f"{options.dataset}-{solver}-nfe{nfe}.json"
    portable.write(path, record)
    said = [f"{path}: {record['cell']}"]
    if ties:
        said.append(f"Cannot be told apart from it by {options.best}: {', '.join(ties)}")
        name = str(CellName(options.dataset, solver, nfe))
        if left_open := export.left_open(finished, options.best, name, ties):
            said.append(f"Two seeds cannot separate it from {', '.join(left_open)}; a third would, if it is like them")
    # What goes on where the result itself is written would be a part of it.
    aside = sys.stderr if path in ("-", "/dev/stdout") else sys.stdout
    print(*map(texts.shown, said + record["citation"]), sep="\n", file=aside)
