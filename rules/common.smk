# The checked configuration as cells, and the parts that all rules repeat.

from dode import names
from dode.benchmark import digests, elsewhere, reruns, runs, scripting
from dode.benchmark.cells import Benchmark
from dode.benchmark.facts import Facts
from dode.benchmark.files import Files
from dode.benchmark.dependencies import Dependencies, computed
from dode.benchmark.workloads import Workloads

scripting.prepare_environment(ROOT)
digests.keep(digests.KEPT)
with surroundings.told_alone(logger):
    BENCH = Benchmark(config, ROOT)
    FILES, DEPENDS, FACTS, WORK = Files(BENCH), Dependencies(BENCH), Facts(BENCH), Workloads(BENCH)

RESULTS = BENCH.results
CELL = f"{RESULTS}/{names.WILDCARDS}"
LOGS = f"{RESULTS}/logs"
FIGURES = f"{RESULTS}/figures"
ENV = "../envs/dode.yaml"
# Scripts read it from here and not from params: what is in params reruns a job when it changes.
EXECUTION = config["execution"] = BENCH.config["execution"]
cell = BENCH.cell
# The datasets of pipelines, those of them without features, and the others, as patterns.
IN_LATENTS = names.any_of(BENCH.in_latents())
IN_PIXELS = f"(?!({IN_LATENTS})/)[^/]+"
WITHOUT_FEATURES = names.any_of(name for name in BENCH.datasets if not BENCH.has_features(name))


wildcard_constraints:
    card="[^/]+",
    dataset="[^/]+",
    solver="[^/]+",
    nfe="[0-9]+",
    part="[0-9]+",
    shard="[0-9]+",
    shards="[0-9]+",


def of_cell(function):
    return lambda wildcards: function(cell(wildcards))


def params_of(function):
    return lambda wildcards: function(cell(wildcards)).params()


def first_of(wildcards):
    """The first of the cells that are jointly fitted to the same end states."""
    return BENCH.with_fine_ends(wildcards.dataset, int(wildcards.images), int(wildcards.seed))[0]


def group(rule):
    return lambda wildcards: WORK.group(rule, cell(wildcards))


def runtime(rule):
    return lambda wildcards, attempt: WORK.runtime(rule, cell(wildcards), attempt)


def real_of(wildcards):
    dataset = BENCH.datasets[wildcards.dataset]
    made = rules.published_statistics.output[0] if "statistics" in dataset else rules.real_statistics.output.statistics
    return made.format(**BENCH.real(dataset)) if BENCH.has_real(wildcards.dataset) else []


def features_of(wildcards):
    return BENCH.datasets[wildcards.dataset]["features"]


def halves(wildcards):
    return [rules.real_statistics.output.halves.format(**BENCH.real(dataset)) for dataset in BENCH.with_data()]


def figure(name, category, caption, labels=None, **own):
    """PNG for the page, PDF for the paper."""
    page = report(f"{FIGURES}/{name}.png", category=category, caption=f"../report/{caption}.rst", labels=labels or own)
    return [page, f"{FIGURES}/{name}.pdf"]
