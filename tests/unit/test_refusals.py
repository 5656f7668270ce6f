"""Jobs whose input was set aside as damaged are not tried again, and the run says last what to do."""

from types import SimpleNamespace

import pytest

from dode.benchmark import records, refusals


@pytest.fixture
def classes():
    """``(Job, GroupJob)`` as Snakemake has them, as far as is used, and what was refused."""

    class Job:
        restart_times = property(lambda job: job.rule.restart_times)

        def __init__(self, *inputs, times=2):
            self.input, self.rule = inputs, SimpleNamespace(restart_times=times)

    class GroupJob:
        restart_times = property(lambda group: max(job.restart_times for job in group.jobs))

        def __init__(self, *jobs):
            self.jobs = jobs

    return Job, GroupJob, refusals.end_at_once(Job, GroupJob)


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "0-of-2.npy"
    path.write_bytes(b"whole")
    records.write(path, None)
    return path


def damage(path):
    path.write_bytes(b"half")
    with pytest.raises(records.DamagedError):
        records.check([path])


def test_a_job_whose_input_was_set_aside_is_not_tried_again(classes, shard):
    job_class, group_class, refused = classes
    job, other = job_class(str(shard)), job_class("other.npy")
    assert (job.restart_times, group_class(job, other).restart_times) == (2, 2)
    damage(shard)
    assert (job.restart_times, other.restart_times, group_class(other, job).restart_times) == (0, 2, 0)
    assert list(refused) == [str(shard)]
    assert f"make it again: the command of the run, and after it -- {shard}" in refusals.sentence(refused)


def test_a_job_whose_input_is_made_again_or_only_missing_is_tried_as_ever(classes, shard):
    job_class, _, refused = classes
    damage(shard)
    shard.write_bytes(b"made again")
    assert job_class(str(shard), str(shard.parent / "missing.npy")).restart_times == 2
    assert not refused


def test_it_is_done_once(classes):
    job_class, group_class, refused = classes
    times = job_class.restart_times
    assert refusals.end_at_once(job_class, group_class) is refused
    assert job_class.restart_times is times
