"""What is mended of the executor plugin, without a cluster: queries that fail, jobs that are forgotten."""

import asyncio
import concurrent.futures
import contextlib
import logging
import signal
import subprocess
import threading
import types
from pathlib import Path

import pytest

from dode.benchmark import slurm, submissions

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
        f"SLURM has not reported on its jobs for {minutes} min (neither sacct nor squeue answers). They keep "
        "running, and it will be asked again."
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


def test_a_forgotten_job_is_noticed_too_where_the_controller_alone_is_asked(clock):
    status = slurm.Status(Answers(squeue=[{"7": "RUNNING"}, {}, {}, None]), None)
    ask = lambda: asyncio.run(status("squeue --name dode_1", logging.getLogger("plugin")))[0]  # noqa: E731
    assert ask() == {"7": "RUNNING"}
    assert ask() == {}
    clock.now = slurm.LOST_AFTER + 1
    assert ask() == {"7": "FAILED"}
    assert ask() == {}


@pytest.mark.parametrize(("status", "asked"), [(0, "sacct"), (1, "squeue"), (None, "squeue")])
def test_the_accounting_is_asked_only_where_there_is_one(mended, monkeypatch, status, asked):
    def answer(*command):
        if status is None:
            raise FileNotFoundError
        return types.SimpleNamespace(returncode=status)

    monkeypatch.setattr(slurm, "_answer", answer)
    slurm.has_accounting.cache_clear()
    assert mended.Executor.get_status_command(None) == asked


@pytest.fixture
def mended(monkeypatch):
    """The plugin, mended for one test."""
    import snakemake_executor_plugin_slurm as plugin

    for name in ("query_job_status", "get_submit_command", "set_gres_string", "validate_account", "subprocess"):
        monkeypatch.setattr(plugin, name, getattr(plugin, name))
    for name in ("cancel_jobs", "get_status_command", "report_job_error"):
        monkeypatch.setattr(plugin.Executor, name, getattr(plugin.Executor, name))
    slurm.mend(logging.getLogger("plugin"))
    return plugin


def test_mending_twice_is_mending_once(mended):
    once = mended.query_job_status
    slurm.mend(logging.getLogger("plugin"))
    assert mended.query_job_status is once
    assert isinstance(once, slurm.Status)
    assert mended.validate_account("nobody", None) == "nobody"


def test_gpus_are_asked_for_as_the_site_wants_them(mended):
    class Job:
        def __init__(self, **resources):
            self.resources = resources

    assert mended.set_gres_string(Job(gpu=1)).strip() == "--gpus=1"
    assert mended.set_gres_string(Job(gpu=1, gpu_option="--gres=gpu:a100:{gpu}")).strip() == "--gres=gpu:a100:1"
    assert mended.set_gres_string(Job(gpu=0, gpu_option="--gres=gpu:{gpu}")).strip() == ""
    assert mended.set_gres_string(Job(gpu=1, gpu_option="--x; rm -rf {gpu}")).strip() == "'--x; rm -rf 1'"


def test_a_job_that_slurm_does_not_start_again_failed_once_the_controller_says_so(clock, caplog):
    stopped = {"7": "PREEMPTED", "8": "NODE_FAIL"}
    controller = [None, {"7": "PREEMPTED", "8": "PENDING"}, {"8": "RUNNING"}]
    ask = status_of(sacct=[stopped] * 5, squeue=controller)
    assert ask() == stopped
    clock.now = slurm.STOPPED_AFTER
    assert ask() == stopped
    clock.now = slurm.STOPPED_AFTER + 1
    assert ask() == stopped  # the controller does not answer
    assert ask() == {"7": "FAILED", "8": "NODE_FAIL"}
    assert "does not restart job 7 (PREEMPTED)" in caplog.text
    assert ask() == {"7": "FAILED", "8": "NODE_FAIL"}  # 7 is not known any more


@pytest.mark.parametrize("known", [{}, {"7": "PREEMPTED"}], ids=["forgotten", "known"])
def test_a_job_that_is_given_up_is_said_to_be_once_and_asked_about_no_more(clock, caplog, known):
    ask = status_of(sacct=[{"7": "PREEMPTED"}] * 4, squeue=[known])
    for second in (0, slurm.STOPPED_AFTER + 1, slurm.STOPPED_AFTER + 2, slurm.LOST_AFTER + 99):
        clock.now = second
        assert ask() == ({"7": "FAILED"} if second else {"7": "PREEMPTED"})
    assert len(caplog.records) == 1


def test_a_job_that_is_given_up_is_not_lost_besides(clock, caplog):
    """First the accounting knows it, then only a controller that has forgotten it."""
    ask = status_of(sacct=[{"7": "PREEMPTED"}] * 2 + [None] * 2, squeue=[{}] * 3)
    for second in (0, slurm.STOPPED_AFTER + 1, 100, 101 + slurm.LOST_AFTER):
        clock.now = second
        assert ask() == ({"7": "FAILED"} if second else {"7": "PREEMPTED"})
    assert len(caplog.records) == 1


@pytest.fixture
def cancelled(monkeypatch):
    """What is cancelled; the first time SLURM does not answer."""
    found = []

    def answer(*command):
        found.append(command)
        if len(found) == 1:
            raise TimeoutError

    monkeypatch.setattr(slurm, "_answer", answer)
    return found


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "REQUEUED"])
def test_a_job_that_slurm_starts_after_it_is_given_up_is_cancelled_and_stays_failed(clock, caplog, cancelled, state):
    """Snakemake has submitted it anew."""
    sacct = [{"7": "NODE_FAIL"}] * 2 + [{"7": state, "9": "RUNNING"}] * 2 + [{"7": "COMPLETING", "9": "RUNNING"}]
    ask = status_of(sacct=sacct, squeue=[{}])
    assert ask() == {"7": "NODE_FAIL"}
    clock.now = slurm.STOPPED_AFTER + 1
    assert ask() == {"7": "FAILED"}
    for _ in range(3):
        assert ask() == {"7": "FAILED", "9": "RUNNING"}
    assert cancelled == [("scancel", "7")] * 2
    assert [record.message for record in caplog.records][1:] == [
        "SLURM has restarted jobs that Snakemake had resubmitted; they are cancelled: 7"
    ]


def test_a_lost_job_that_is_found_again_too_late_is_cancelled(clock, cancelled):
    ask = status_of(sacct=[None] * 4, squeue=[{"7": "RUNNING"}, {}, {}, {"7": "RUNNING"}])
    for second, state in ((0, {"7": "RUNNING"}), (1, {}), (slurm.LOST_AFTER + 2, {"7": "FAILED"})):
        clock.now = second
        assert ask() == state
    assert ask() == {"7": "FAILED"}
    assert cancelled == [("scancel", "7")]


def test_a_stopped_job_that_the_accounting_knows_to_wait_again_is_not_asked_for(clock):
    ask = status_of(sacct=[{"7": "PREEMPTED"}, {"7": "PENDING"}, {"7": "PREEMPTED"}], squeue=[])
    for second in (0, slurm.STOPPED_AFTER + 1, slurm.STOPPED_AFTER + 2):
        clock.now = second
        assert ask() in ({"7": "PREEMPTED"}, {"7": "PENDING"})


def test_the_controllers_own_word_is_enough_for_a_stopped_job(clock):
    status = slurm.Status(Answers(squeue=[{"7": "PREEMPTED"}] * 2), None)
    ask = lambda: asyncio.run(status("squeue --name dode_1", logging.getLogger("plugin")))[0]  # noqa: E731
    assert ask() == {"7": "PREEMPTED"}
    clock.now = slurm.STOPPED_AFTER + 1
    assert ask() == {"7": "FAILED"}


@pytest.fixture
def queue(monkeypatch):
    """``queue(scancel=[...], squeue=[...])``: answers of SLURM, errors are raised; what happens, in order."""

    def scripted(**scripts):
        happened = []

        def answer(command, *arguments):
            happened.append(command)
            found = scripts[command].pop(0)
            if isinstance(found, Exception):
                raise found
            lines = "".join(f"{job}|dode_1|{Path.cwd()}\n" for job in found)
            return types.SimpleNamespace(returncode=0, stdout=lines)

        def sleep(seconds):
            happened.append(seconds)

        monkeypatch.setattr(slurm, "_answer", answer)
        monkeypatch.setattr(slurm, "time", types.SimpleNamespace(sleep=sleep, monotonic=lambda: 0.0))
        return happened

    return scripted


DOWN = OSError("scancel: cannot be run")


@pytest.mark.parametrize("refused", [DOWN, TimeoutError("scancel does not answer")])
def test_a_pause_comes_between_two_attempts_to_cancel_what_a_killed_run_left(queue, refused):
    """Though SLURM refuses at once: first the cancelling, then the question what is still there."""
    happened = queue(scancel=[refused, [], []], squeue=[["7", "8"], ["7", "8"], DOWN, []])
    said = []
    slurm.cancel_leftovers(Path.cwd(), said.append)
    assert happened == ["squeue", "scancel", 1, "squeue", "scancel", 2, "squeue", "scancel", 4, "squeue"]
    assert said == [
        "Cancelling 2 jobs that a killed run has left behind: 7, 8",
        "Waiting for 7, 8 to end, for 0 min so far",
    ]


def test_a_command_that_is_not_there_is_named():
    with pytest.raises(OSError, match="SLURM's command no-such-command is not on the PATH of this machine"):
        slurm._answer("no-such-command")


def test_waiting_for_the_controller_can_be_given_up(monkeypatch):
    given_up = threading.Event()

    def unreachable(*command):
        given_up.set()
        raise TimeoutError

    monkeypatch.setattr(slurm, "_answer", unreachable)
    said = []
    with pytest.raises(SystemExit):
        slurm.wait_for_controller(said.append, given_up)
    assert said == ["SLURM's controller has not answered for 0 min; jobs will be submitted once it does."]


def test_sigterm_ends_the_wait_at_the_start_alone():
    kept = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), slurm.ended_by_sigterm():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is kept


def test_an_interrupt_cancels_all_jobs_of_the_run_and_submits_no_more(mended, monkeypatch):
    """Not those alone that Snakemake names: while their status is asked for it names none."""
    cancelled, submitted = [], []
    monkeypatch.setattr(slurm, "leftovers", lambda folder: ["7", "8"])
    monkeypatch.setattr(slurm, "_answer", lambda *command: cancelled.append(command))
    started, may_go_on = threading.Event(), threading.Event()

    class Pool(concurrent.futures.ThreadPoolExecutor):
        def shutdown(self, wait, cancel_futures):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            may_go_on.set()
            super().shutdown(wait=wait)

    pool = Pool(1)
    executor = types.SimpleNamespace(_job_submission_executor=pool)
    pool.submit(lambda: (started.set(), may_go_on.wait(), submitted.append(1)))
    pool.submit(submitted.append, 2)
    started.wait()
    mended.Executor.cancel_jobs(executor, [])
    assert submitted == [1]
    assert cancelled == [("scancel", "7", "8")]
    with pytest.raises(SystemExit):
        mended.get_submit_command(None, None)


def test_an_interrupt_without_a_controller_ends_and_says_what_becomes_of_the_jobs(mended, monkeypatch, caplog):
    def unreachable(folder):
        raise OSError("squeue: down")

    monkeypatch.setattr(slurm, "leftovers", unreachable)
    executor = types.SimpleNamespace(_job_submission_executor=concurrent.futures.ThreadPoolExecutor(1))
    mended.Executor.cancel_jobs(executor, [])
    assert "cannot be asked to cancel them (squeue: down)" in caplog.text


class Sbatch:
    """The module ``subprocess``, as far as it is used: answers of ``sbatch``, ``(status, what it says)``, in turn."""

    PIPE, TimeoutExpired = subprocess.PIPE, subprocess.TimeoutExpired

    def __init__(self, *answers, queue=()):
        self.answers, self.queue, self.asked = list(answers), list(queue), []

    def Popen(self, command, **options):
        self.asked.append("sbatch" if command.startswith("sbatch") else command)
        status, said = self.answers.pop(0)
        out, err = (said, "") if status == 0 else ("", said)
        process = types.SimpleNamespace(returncode=status, communicate=lambda input=None: (out, err))
        return contextlib.nullcontext(process)

    def run(self, command, **options):
        self.asked.append("squeue")
        found = self.queue.pop(0)
        if isinstance(found, Exception):
            raise found
        return types.SimpleNamespace(returncode=0, stdout=found)


class NoPauses(threading.Event):
    """Nobody waits for it, and how long one would have is kept."""

    def __init__(self):
        super().__init__()
        self.pauses = []

    def wait(self, timeout=None):
        self.pauses.append(timeout)
        return self.is_set()


def submitted(*answers, queue=(), count=1):
    """``(status, out, err)`` of the last of so many submissions, with all that happened."""
    module, waits, said = Sbatch(*answers, queue=queue), NoPauses(), []
    owner = submissions.Submissions(module, said.append, waits)
    for _ in range(count):
        process = owner.Popen("sbatch --parsable --job-name 'dode_1' --comment 'rule_x'", shell=True)
        out, err = process.communicate()
    return process.returncode, out, err, module.asked, waits.pauses, said


DRAINED = "sbatch: error: Batch job submission failed: Required partition not available (inactive or drain)\n"
LIMIT = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"


@pytest.mark.parametrize(
    "said",
    [
        DRAINED,
        f"sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: {LIMIT}",
        f"sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: {LIMIT}",
        f"sbatch: error: Batch job submission failed: {LIMIT}",
        "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying",
        "sbatch: error: Batch job submission failed: Resource temporarily unavailable",
        "sbatch: error: Batch job submission failed: Required node not available (down, drained or reserved)",
    ],
)
def test_what_slurm_refuses_for_now_is_submitted_again_with_growing_pauses_and_said_once(said):
    status, out, _, asked, pauses, told = submitted(*[(1, said)] * 6, (0, "7\n"))
    assert (status, out) == (0, "7\n")
    assert asked == ["sbatch"] * 7
    assert pauses == [5, 10, 20, 40, 60, 60]
    (sentence,) = told
    assert sentence.startswith("SLURM refuses a job for now (")
    assert "sbatch: error" not in sentence


@pytest.mark.parametrize(
    "said",
    [
        "sbatch: error: Memory specification can not be satisfied\n"
        "sbatch: error: Batch job submission failed: Requested node configuration is not available",
        "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
        "sbatch: error: Batch job submission failed: Invalid partition name specified",
        "sbatch: error: Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)",
        f"sbatch: error: QOSMaxWallDurationPerJobLimit\nsbatch: error: Batch job submission failed: {LIMIT}",
        "sbatch: error: Unable to open file job.sh",
    ],
)
def test_what_slurm_refuses_for_good_is_not_submitted_again(said):
    status, _, err, asked, pauses, told = submitted((1, said))
    assert (status, err, asked, pauses, told) == (1, said, ["sbatch"], [], [])


def test_each_reason_is_said_once_for_all_jobs():
    refusals = [(1, DRAINED), (1, DRAINED), (0, "7\n"), (1, DRAINED), (1, LIMIT), (0, "8\n")]
    *_, told = submitted(*refusals, count=2)
    assert ["drain" in sentence for sentence in told] == [True, False]


LOST = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"


@pytest.mark.parametrize(
    ("queue", "asked", "out"),
    [
        (["5|rule_y\n6|rule_x\n"], ["sbatch", "squeue"], "6\n"),
        (["5|rule_y\n"], ["sbatch", "squeue", "sbatch"], "7\n"),
        ([OSError(), ""], ["sbatch", "squeue", "squeue", "sbatch"], "7\n"),
    ],
    ids=["in the queue", "not there", "not known at first"],
)
def test_a_job_whose_submission_was_not_answered_is_looked_for_before_it_is_submitted_again(queue, asked, out):
    """Two jobs would write the same files."""
    found = submitted((1, LOST), (0, "7\n"), queue=queue)
    assert (found[1], found[3]) == (out, asked)


def test_a_job_of_an_earlier_attempt_is_not_taken_for_the_lost_one():
    found = submitted((0, "6\n"), (1, LOST), (0, "7\n"), queue=["6|rule_x\n"], count=2)
    assert found[1] == "7\n"


def test_patience_has_an_end(monkeypatch):
    monkeypatch.setattr(submissions, "PATIENCE", -1)
    status, _, err, *_ = submitted((1, DRAINED))
    assert (status, err) == (1, DRAINED)


def test_waiting_to_submit_ends_with_the_run():
    module, waits = Sbatch((1, DRAINED)), NoPauses()
    waits.set()
    process = submissions.Submissions(module, print, waits).Popen("sbatch x", shell=True)
    with pytest.raises(SystemExit):
        process.communicate()


def test_other_commands_of_the_plugin_are_run_as_they_are(mended):
    with mended.subprocess.Popen("echo sbatch", shell=True, text=True, stdout=mended.subprocess.PIPE) as process:
        assert process.communicate()[0] == "sbatch\n"
    assert mended.subprocess.check_output(["echo", "a"]) == b"a\n"


@pytest.mark.parametrize("before", ["SLURM status is: 'FAILED'.", None])
def test_of_a_job_that_failed_the_end_of_slurms_log_is_shown(mended, monkeypatch, tmp_path, before):
    log, said = tmp_path / "7.log", []
    log.write_bytes(b"".join(b"line %d\n" % i for i in range(90)) + b"\n\x1b[31msrun: error: task 0: Killed \xff\n")
    executor = types.SimpleNamespace(
        print_job_error=lambda job, msg, **kwargs: said.append(msg),
        workflow=types.SimpleNamespace(scheduler=types.SimpleNamespace(error_callback=said.append)),
    )
    mended.Executor.report_job_error(executor, types.SimpleNamespace(job="job", aux={"slurm_logfile": log}), msg=before)
    message, job = said
    assert job == "job"
    lines = message.splitlines()
    assert lines[-1] == "    \\x1b[31msrun: error: task 0: Killed \ufffd"
    assert lines[-61:-59] == [f"The end of SLURM's log ({log}):", "    line 31"]
    assert lines[0] == (before or lines[-61])


@pytest.mark.parametrize("log", [None, "absent.log", "empty.log"])
def test_without_slurms_log_nothing_is_added(tmp_path, log):
    (tmp_path / "empty.log").touch()
    assert slurm.last_lines(log and tmp_path / log) == ""
