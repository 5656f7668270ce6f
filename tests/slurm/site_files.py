"""A workspace made to run on a cluster of these tests, as a site would: by its configuration and its profile."""

import yaml

import watch

COMMAND = ["--profile", "slurm", "--configfile", "config/config.yaml"]
# How often the queue is asked, and how many jobs are in it at once, on a machine of two cores.
PROFILE = {"slurm-init-seconds-before-status-checks": 5, "jobs": 6, "latency-wait": 20}
ONE_JOB_A_RULE = {"device": "cpu", "batch_size": 10, "threads": 1, "gpus": 1, "mem_mb": 700, "runtime": 5}
GROUPED = {**ONE_JOB_A_RULE, "shards": "auto", "evaluations_per_second": 1000, "features_per_second": 1000}


def adapt(workspace, cluster, **execution):
    """Have the workspace run on ``cluster`` with these settings ``execution``; its jobs are watched."""
    workspace.environment = cluster.environment
    workspace.config({"execution": execution})
    profile = workspace.folder / "profiles" / "slurm" / "config.yaml"
    profile.write_text(yaml.safe_dump({**yaml.safe_load(profile.read_text()), **PROFILE}))
    watch.install(workspace.folder)
    return workspace
