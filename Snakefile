from pathlib import Path

from snakemake.dag import DAG
from snakemake.jobs import GroupJob, Job
from snakemake.scheduling.job_scheduler import JobScheduler
from snakemake.script import PythonScript
from snakemake.utils import min_version

from dode import locks
from dode.benchmark import beforehand, forked_jobs, refusals, surroundings, turns
from dode.fetching import places

min_version("9.0")
with surroundings.told_alone(logger):
    ROOT = surroundings.root(workflow)
    surroundings.check(workflow, ROOT)


# A configuration given on the command line replaces this one; it is not laid over it.
if not workflow.overwrite_configfiles:

    configfile: str(places.default_configuration(ROOT))


include: "rules/common.smk"
include: "rules/checkpoints.smk"
include: "rules/precision.smk"
include: "rules/teacher.smk"
include: "rules/fine_ends.smk"
include: "rules/prepare.smk"
include: "rules/distill.smk"
include: "rules/sample.smk"
include: "rules/pipelines.smk"
include: "rules/score.smk"
include: "rules/pipeline_scores.smk"
include: "rules/elsewhere.smk"
include: "rules/report.smk"


# Methods that must be prepared, a file each.
for path in sorted(ROOT.glob("rules/solvers/*.smk")):

    include: path


report: "report/workflow.rst"


reruns.ignore_clocks(DAG)
turns.look_again_where_held_back(JobScheduler)
if workflow.is_main_process:
    reruns.decide_by_records(DAG, Job, ROOT)
    refused = refusals.end_at_once(Job, GroupJob)


onerror:
    if workflow.is_main_process and refused:
        refusals.say_last(refused)


onstart:
    if not workflow.local_exec:  # or else the cluster's jobs would have no more cores than this machine
        workflow.resource_settings.cores = None
    with surroundings.told_alone(logger, (locks.Busy, OSError, ValueError)):
        workflow.dode_lock = runs.begin(
            executor=workflow.executor_plugin.name,
            settings=workflow.executor_settings,
            shared_folder=workflow.storage_settings.assume_common_workdir,
            logger=logger,
        )
        local = workflow.executor_plugin.name == "local"
        beforehand.check(BENCH, local=local, say=logger.info)
        if local and EXECUTION["forked_jobs"] and forked_jobs.are_possible(EXECUTION["device"]):
            modules = [*forked_jobs.MODULES, *(forked_jobs.OF_PIPELINES if BENCH.in_latents() else [])]
            forked_jobs.begin(PythonScript, ROOT / "scripts", modules)


rule all:
    default_target: True
    input:
        rules.page.output,
        # That of the other workflow, where this one is a module, has its jobs too.
        [] if surroundings.is_module(workflow) else rules.workflow_report.output,
        rules.figures.input,
        # What a cell leaves behind is asked for by itself: what was deleted is made again.
        FILES.kept(),
    localrule: True
