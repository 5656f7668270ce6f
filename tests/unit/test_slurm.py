"""What is mended of the executor plugin, without a cluster: queries that fail, jobs that are forgotten."""

import asyncio
import logging

import pytest

from dode import slurm

SACCT = "sacct -X --parsable2 --noheader --format=JobIdRaw,State --name dode_1"


class Answers:
    """Queries are answered from a script: ``{"sacct": [...], "squeue": [...]}``, an answer a query, None a failure."""

    def __init__(self, **scripts):
        self.scripts = {name: list(script) for name, script in scripts.items()}

    async def __call__(self, command, logger):
        answer = self.scripts[command.split()[0]].pop(0)
        return (None, None) if answer is None else (dict(answer), 0.1)


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

    monkeypatch.setattr(slurm.time, "monotonic", lambda: Clock.now)
    return Clock


def status_of(**scripts):
    status = slurm.Status(Answers(**scripts), lambda name: f"squeue --name {name}")
    return lambda: asyncio.run(status(SACCT, logging.getLogger("plugin")))[0]


def test_the_accounting_is_asked_first():
    assert status_of(sacct=[{"7": "RUNNING"}], squeue=[])() == {"7": "RUNNING"}


def test_without_accounting_the_controller_is_asked():
    assert status_of(sacct=[None], squeue=[{"7": "PENDING"}])() == {"7": "PENDING"}


def test_no_answer_is_no_news_and_said_once_a_minute(clock, caplog):
    ask = status_of(sacct=[None] * 4, squeue=[None] * 3 + [{"7": "COMPLETED"}])
    for second in (0, 30, 70):
        clock.now = second
        assert ask() == {}
    assert [record.message for record in caplog.records] == [
        f"SLURM has not said for {minutes} min what its jobs do (neither sacct nor squeue answers). They go on, and it "
        "will be asked again."
        for minutes in (0, 1)
    ]
    assert ask() == {"7": "COMPLETED"}


def test_a_state_is_one_word():
    assert status_of(sacct=[{"7": "CANCELLED by 1000", "8": "CANCELLED+"}], squeue=[])() == {
        "7": "CANCELLED",
        "8": "CANCELLED",
    }


def test_a_job_that_the_controller_has_forgotten_failed_after_a_while(clock, caplog):
    ask = status_of(sacct=[None] * 4, squeue=[{"7": "RUNNING", "8": "COMPLETED"}, {}, {}, {}])
    assert ask() == {"7": "RUNNING", "8": "COMPLETED"}
    assert ask() == {}
    clock.now = slurm.LOST_AFTER
    assert ask() == {}
    clock.now = slurm.LOST_AFTER + 1
    assert ask() == {"7": "FAILED"}
    assert "no longer knows job 7" in caplog.text


def test_a_job_that_comes_back_is_not_lost(clock):
    ask = status_of(sacct=[None] * 4, squeue=[{"7": "RUNNING"}, {}, {"7": "RUNNING"}, {}])
    for second in (0, 1, slurm.LOST_AFTER, slurm.LOST_AFTER + 2):
        clock.now = second
        assert ask() in ({"7": "RUNNING"}, {})


def test_mending_twice_is_mending_once():
    import snakemake_executor_plugin_slurm as plugin

    kept = {name: getattr(plugin, name) for name in ("query_job_status", "get_submit_command", "validate_account")}
    try:
        slurm.mend(logging.getLogger("plugin"))
        mended = plugin.query_job_status
        slurm.mend(logging.getLogger("plugin"))
        assert plugin.query_job_status is mended
        assert isinstance(mended, slurm.Status)
        assert plugin.validate_account("nobody", None) == "nobody"
    finally:
        for name, value in kept.items():
            setattr(plugin, name, value)


def test_gpus_are_asked_for_as_the_site_wants_them():
    import snakemake_executor_plugin_slurm as plugin

    class Job:
        def __init__(self, **resources):
            self.resources = resources

    kept = plugin.set_gres_string, plugin.query_job_status, plugin.get_submit_command, plugin.validate_account
    try:
        slurm.mend(logging.getLogger("plugin"))
        assert plugin.set_gres_string(Job(gpu=1)).strip() == "--gpus=1"
        assert plugin.set_gres_string(Job(gpu=1, gpu_option="--gres=gpu:a100:{gpu}")).strip() == "--gres=gpu:a100:1"
        assert plugin.set_gres_string(Job(gpu=0, gpu_option="--gres=gpu:{gpu}")).strip() == ""
        assert plugin.set_gres_string(Job(gpu=1, gpu_option="--x; rm -rf {gpu}")).strip() == "'--x; rm -rf 1'"
    finally:
        plugin.set_gres_string, plugin.query_job_status, plugin.get_submit_command, plugin.validate_account = kept
