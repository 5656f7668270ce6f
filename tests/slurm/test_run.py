"""The literal command of docs/cluster.md on a real SLURM."""

import csv
import json
import time

import watch
from site_files import COMMAND, GROUPED, ONE_JOB_A_RULE, adapt
from workspace import Workspace


def metrics(workspace):
    """Metrics of every score.json by its path below results."""
    paths = sorted(workspace.results.rglob("score.json"))
    return {str(path.relative_to(workspace.results)): json.loads(path.read_text())["metrics"] for path in paths}


def table(workspace):
    with (workspace.results / "table.csv").open() as file:
        return list(csv.reader(file))


def check_results(workspace, local):
    assert table(workspace) == table(local)
    assert metrics(workspace) == metrics(local)
    assert len(metrics(local)) == 4
    samples = workspace.contents("results/**/samples.npy")
    assert samples == local.contents("results/**/samples.npy")
    assert len(samples) == 4


def requests(cluster):
    """What each job asked for: partition, GPUs, megabytes."""
    found = {}
    for job in cluster.jobs():
        shown = cluster.command("scontrol", "show", "job", "--oneliner", job["id"])
        words = dict(word.split("=", 1) for word in shown.split() if "=" in word)
        asked = dict(entry.split("=") for entry in words["TRES"].split(","))
        found[job["id"]] = {
            "partition": words["Partition"],
            "gpus": int(words.get("TresPerJob", "gres:gpu:0").rsplit(":", 1)[1]),
            "mem_mb": _megabytes(asked["mem"]),
        }
    return found


def _megabytes(text):
    return float(text[:-1]) * {"M": 1, "G": 1024}[text[-1]]


def at_once(ran):
    """The most scripts of one job of the cluster that were at work at one time."""
    return max(sum(other["began"] <= one["began"] < other["ended"] for other in ran) for one in ran)


def check_jobs(workspace, cluster):
    jobs, asked = cluster.jobs(), requests(cluster)
    assert {job["state"] for job in jobs} == {"COMPLETED"}
    assert {job["workdir"] for job in jobs} == {str(workspace.folder)}
    assert all(job["name"].startswith("dode_") for job in jobs)
    assert min(request["mem_mb"] for request in asked.values()) >= 600
    ran = [script for script in watch.journal(workspace.folder) if script["SLURM_JOB_ID"]]
    assert all(script["ended"] for script in ran)
    networks = [script for script in ran if script["log"].split("/")[0] in ("sample", "score", "distill", "teacher")]
    assert {asked[script["SLURM_JOB_ID"]]["partition"] for script in networks} == {"gpu"}
    assert {asked[script["SLURM_JOB_ID"]]["gpus"] for script in networks} == {1}
    assert {script["SLURMD_NODENAME"] for script in networks} <= {"n1", "n2"}
    assert {script["CUDA_VISIBLE_DEVICES"] for script in networks} <= {"0", "1"}
    for job in jobs:
        own = [script for script in ran if script["SLURM_JOB_ID"] == job["id"]]
        assert at_once(own) == 1
    assert all(request["partition"] == "cpu" for request in asked.values() if not request["gpus"])
    return ran


def timed(workspace):
    began = time.monotonic()
    workspace.snakemake(*COMMAND)
    return time.monotonic() - began


def test_short_cells_go_together_with_accounting(accounting_cluster, local, tmp_path, capsys):
    workspace = adapt(Workspace.fresh(tmp_path / "repository"), accounting_cluster, **GROUPED)
    seconds = timed(workspace)
    check_results(workspace, local)
    ran = check_jobs(workspace, accounting_cluster)
    cells = [script for script in ran if script["log"].startswith(("sample/digits-edm/d", "sample/digits-edm/heun"))]
    assert len(cells) == 3
    assert len({script["SLURM_JOB_ID"] for script in cells}) == 1
    with capsys.disabled():
        print(f"\ngrouped, with accounting: {len(accounting_cluster.jobs())} jobs in {seconds:.0f} s")


def test_every_rule_is_a_job_without_accounting(cluster, local, tmp_path, capsys):
    workspace = adapt(Workspace.fresh(tmp_path / "repository"), cluster, **ONE_JOB_A_RULE, shards=3)
    seconds = timed(workspace)
    check_results(workspace, local)
    ran = check_jobs(workspace, cluster)
    assert len(ran) == len(cluster.jobs())
    assert sum(script["log"].startswith("sample/") for script in ran) == 12
    with capsys.disabled():
        print(f"\na job a rule, without accounting: {len(ran)} jobs in {seconds:.0f} s")


def test_dry_run_plans_the_papers_grid(tmp_path):
    workspace = Workspace.fresh(tmp_path / "repository")
    said = workspace.snakemake("--profile", "slurm", "--dry-run", "--quiet", "rules", "reason")
    jobs = dict(line.split() for line in said.splitlines() if len(line.split()) == 2)
    assert int(jobs["sample"]) > int(jobs["gather"]) == int(jobs["score"]) > 500
