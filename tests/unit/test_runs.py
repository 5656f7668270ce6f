"""The beginning of a run, by executor: what is refused, what is asked of SLURM, whose jobs are waited for."""

import logging
import os
import types

import pytest

from dode import locks
from dode.benchmark import runs, scripting, slurm

OTHERS = ["local", "cluster-generic", "lsf"]


@pytest.fixture(autouse=True)
def asked(tmp_path, monkeypatch):
    """What is asked of SLURM, in the working directory of a run."""
    found = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(scripting.RUN, "of an outer run")
    monkeypatch.setattr(slurm, "mend", lambda logger: found.append("mend"))
    monkeypatch.setattr(slurm, "wait_for_controller", lambda warn: found.append("wait"))
    monkeypatch.setattr(slurm, "cancel_leftovers", lambda folder, say: found.append("cancel"))
    return found


def begin(executor, prefix=slurm.PREFIX, shared_folder=True):
    settings = types.SimpleNamespace(jobname_prefix=prefix) if executor == "slurm" else None
    logger = logging.getLogger("run")
    return runs.begin(executor=executor, settings=settings, shared_folder=shared_folder, logger=logger)


def test_slurm_is_mended_and_what_a_killed_run_left_there_is_cancelled(asked):
    begin("slurm").close()
    assert asked == ["mend", "wait", "cancel"]


@pytest.mark.parametrize("executor", OTHERS)
def test_of_another_executor_slurm_is_not_asked(executor, asked):
    begin(executor).close()
    assert asked == []


@pytest.mark.parametrize("executor", ["slurm", *OTHERS])
def test_local_jobs_know_whose_they_are(executor):
    with begin(executor) as lock:
        lock.seek(0)
        expected = lock.read() if executor == "local" else None
        assert os.environ.get(scripting.RUN) == expected


@pytest.mark.parametrize(("here", "expected"), [(True, ["cancel"]), (False, [])])
@pytest.mark.parametrize("executor", OTHERS)
def test_jobs_of_an_earlier_run_on_slurm_are_cancelled_where_it_can_be_asked(
    executor, here, expected, asked, monkeypatch
):
    runs.SLURM_LOGS.mkdir(parents=True)
    monkeypatch.setattr(slurm, "is_here", lambda: here)
    begin(executor).close()
    assert asked == expected


@pytest.mark.parametrize("executor", ["slurm", *OTHERS])
def test_jobs_of_a_killed_run_are_waited_for_whatever_the_executor(executor, monkeypatch, capsys):
    waited = []

    def wait(path, notice):
        waited.append(path)
        notice()

    monkeypatch.setattr(locks, "wait_for_shared", wait)
    begin(executor).close()
    assert waited == [scripting.JOBS_LOCK]
    assert "Waiting for a job that a killed run has left behind" in capsys.readouterr().err


def test_an_executor_whose_jobs_do_not_see_the_folder_is_refused_in_a_sentence(asked, tmp_path):
    with pytest.raises(ValueError, match=r"^executor: 'kubernetes' is not allowed, because .*; allowed: "):
        begin("kubernetes", shared_folder=False)
    assert list(tmp_path.iterdir()) == []


def test_slurm_jobs_of_another_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^slurm-jobname-prefix: 'mine' is not allowed; allowed: dode$"):
        begin("slurm", prefix="mine")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("version", ["2.7.1", "2.9.0", "3.0.0"])
def test_another_version_of_the_plugin_is_refused_with_both_versions_and_the_way_out(version, monkeypatch, asked):
    monkeypatch.setattr(slurm.importlib.metadata, "version", {"snakemake-executor-plugin-slurm": version}.get)
    with pytest.raises(ValueError, match=rf"plugin-slurm {version} is installed, .* only 2\.8\.0: ") as caught:
        begin("slurm")
    assert str(caught.value).endswith("python -m pip install snakemake-executor-plugin-slurm==2.8.0")
    assert asked == []
