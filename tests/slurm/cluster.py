"""A real SLURM on this machine: munged, slurmctld, three slurmd, and on demand slurmdbd with MariaDB."""

import os
import pwd
import random
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

import cluster_files

COMMANDS = ["sbatch", "srun", "squeue", "sacct", "scancel", "sinfo", "scontrol", "sacctmgr", "sshare"]
# Debian puts daemons where an ordinary user's PATH does not lead.
DAEMON_PATH = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
LAST_RESORT = 3600  # seconds: what is waited for comes in one or a few minutes, also on a busy machine
FIELDS = {"id": "%i", "name": "%j", "state": "%T", "node": "%N", "comment": "%k", "workdir": "%Z", "reason": "%r"}
ENDED = {
    "COMPLETED",
    "CANCELLED",
    "FAILED",
    "TIMEOUT",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "BOOT_FAIL",
    "DEADLINE",
}


class Daemon:
    """A child process in the foreground; ``ready`` is the port or the socket at which it answers."""

    def __init__(self, name, command, ready, log, environment):
        self.name, self.command, self.ready, self.log, self.environment = name, command, ready, log, environment
        self.process = None

    def start(self, seconds=LAST_RESORT):
        """Start it and wait until it answers; RuntimeError with the end of its log if it does not."""
        assert not self.running(), f"{self.name} runs"
        if isinstance(self.ready, Path):
            self.ready.unlink(missing_ok=True)
        # Where the process of the tests is killed, its daemons end too.
        command = ["setpriv", "--pdeathsig", "TERM", *self.command]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + seconds
        while not (self.running() and self._answers()):
            if not self.running() or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.name} does not start: {self.log.read_text()[-3000:]}")
            time.sleep(0.1)

    def _answers(self):
        if isinstance(self.ready, Path):
            return self.ready.exists()
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", self.ready)) == 0

    def running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """SIGKILL: it has no time to tell anyone."""
        self.process.kill()
        self.process.wait()

    def stop(self, seconds=120):
        """SIGTERM, and SIGKILL where that is not enough."""
        if not self.running():
            return
        self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()


class Cluster:
    """Nodes n1 and n2 with two GPUs each in the partition ``gpu``, n3 without in ``cpu``, the default partition.

    A job in the partition ``urgent``, of all nodes, takes the place of one that is in its way.

    Runs as root or as an ordinary user, whose jobs alone it then runs. All state is in one temporary folder, every
    listener on the loopback address; leaving the context ends all jobs and daemons, and removes the folder.

    ``accounting``: with slurmdbd, so that ``sacct`` answers. ``environment``: for subprocesses that use this SLURM.
    """

    START_SECONDS = LAST_RESORT  # within which all nodes must be idle

    def __init__(self, accounting=False):
        self.accounting = accounting
        self.daemons = {}

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.slurm_conf = self.folder / "etc" / "slurm.conf"
        try:
            self._prepare()
            for name in self.daemons:
                self.start(name)
                if name == "slurmdbd":
                    self.command("sacctmgr", "--immediate", "add", "cluster", cluster_files.NAME)
            self.wait_until(lambda: set(self.nodes().values()) == {"idle"}, self.START_SECONDS)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception):
        self.close()

    def _prepare(self):
        for name in (
            "etc",
            "state",
            "log",
            "run",
            "bin",
            "dev",
            "db",
            *(f"spool/{node}" for node in cluster_files.NODES),
        ):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)  # munged wants its socket within everybody's reach
        # A GPU is a character device to SLURM, whichever.
        for name, device in zip(cluster_files.GPUS, ("/dev/null", "/dev/zero"), strict=True):
            (self.folder / "dev" / name).symlink_to(device)
        user = _user()
        ports = dict(zip(cluster_files.LISTENERS, free_ports(len(cluster_files.LISTENERS)), strict=True))
        _write_secret(self.folder / "etc" / "munge.key", secrets.token_bytes(128))
        for name, text in cluster_files.files(self.folder, ports, user, self.accounting).items():
            _write_secret(self.folder / "etc" / name, text.encode())
        # The executor plugin's job step takes every SLURM_* out of its environment before it calls srun.
        for name in COMMANDS:
            wrapper = self.folder / "bin" / name
            wrapper.write_text(f'#!/bin/sh\nSLURM_CONF="{self.slurm_conf}" exec {shutil.which(name)} "$@"\n')
            wrapper.chmod(0o755)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SNAKEMAKE"))}
        self.environment = {**kept, "PATH": f"{self.folder / 'bin'}{os.pathsep}{kept['PATH']}"}
        environment = {**kept, "PATH": DAEMON_PATH, "SLURM_CONF": str(self.slurm_conf)}
        if self.accounting:
            self._database(environment)
        for name, (command, ready) in cluster_files.daemons(self.folder, ports, user, self.accounting).items():
            self.daemons[name] = Daemon(name, command, ready, self.folder / "log" / f"{name}.log", environment)

    def _database(self, environment):
        command = ["mariadb-install-db", "--no-defaults", f"--datadir={self.folder / 'db'}", "--skip-test-db"]
        command += ["--auth-root-authentication-method=normal", f"--user={_user()}"]
        subprocess.run(command, env=environment, check=True, capture_output=True)

    def close(self):
        """End all jobs and daemons, the last that started first; also after a start that failed halfway."""
        try:
            self._end_jobs()
        finally:
            for daemon in reversed(self.daemons.values()):
                daemon.stop()
            left = self.processes()
            for process in left:
                process.kill()
            psutil.wait_procs(left, timeout=60)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _end_jobs(self):
        controller = self.daemons.get("slurmctld")
        if controller is None or not controller.running():
            return
        try:
            self.command("scancel", "--quiet", "--user", _user())
            self.wait_until(lambda: all(job["state"] in ENDED for job in self.jobs()), 15)
        except (subprocess.SubprocessError, TimeoutError):
            pass  # their processes are killed below

    def processes(self):
        """Everything at work with this cluster's configuration: daemons, job steps, jobs; as ``psutil.Process``."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("SLURM_CONF") == str(self.slurm_conf):
                    found.append(process)
            except psutil.Error:
                continue  # it has ended, or is another user's
        return found

    def command(self, *arguments, seconds=LAST_RESORT):
        """The standard output of a SLURM command; CalledProcessError where it fails."""
        return subprocess.run(
            arguments, env=self.environment, check=True, capture_output=True, text=True, timeout=seconds
        ).stdout

    def submit(self, script, *options):
        """The id of a job that runs ``script`` with the shell."""
        return self.command("sbatch", "--parsable", *options, "--wrap", script).strip()

    def jobs(self):
        """Every job, ended ones too: id, name, state, node, comment, workdir, reason why it waits."""
        layout = "\t".join(FIELDS.values())
        lines = self.command("squeue", "--states=all", "--noheader", f"--format={layout}").splitlines()
        return [dict(zip(FIELDS, line.split("\t"), strict=True)) for line in lines]

    def job(self, identifier):
        """One of ``jobs()``."""
        return next(job for job in self.jobs() if job["id"] == str(identifier))

    def nodes(self):
        """State of each node, ``{"n1": "idle", ...}``."""
        return dict(
            line.split() for line in self.command("sinfo", "--noheader", "--Node", "--format=%N %T").splitlines()
        )

    def cancel(self, identifier):
        self.command("scancel", str(identifier))

    def start(self, daemon):
        """``munged``, ``mariadbd``, ``slurmdbd``, ``slurmctld``, ``slurmd-n1`` ...: start it, wait until it answers."""
        self.daemons[daemon].start()

    def stop(self, daemon):
        self.daemons[daemon].stop()

    def kill(self, daemon):
        self.daemons[daemon].kill()

    def drain(self, node):
        """No new job comes to the node."""
        self.command("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")

    def resume(self, node):
        self.command("scontrol", "update", f"NodeName={node}", "State=RESUME")

    def wait_until(self, predicate, seconds=LAST_RESORT):
        """The first true value of ``predicate()``; TimeoutError with all jobs if none comes."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                value = predicate()
            except subprocess.CalledProcessError:
                value = None  # slurmctld is not there, or not yet
            if value:
                return value
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds} s; jobs: {self._described()}")
            time.sleep(0.2)

    def _described(self):
        try:
            return [*self.jobs(), self.nodes()]
        except (subprocess.SubprocessError, ValueError) as error:
            return f"unknown: {error}"


def _user():
    return pwd.getpwuid(os.geteuid()).pw_name


def _write_secret(path, content):
    path.touch(0o600)
    path.write_bytes(content)


def free_ports(count):
    """Ports of the loopback address that nobody listens at, below those that outgoing connections are given."""
    ports = set()
    while len(ports) < count:
        port = random.randrange(20000, 32000)
        with socket.socket() as candidate:
            if candidate.connect_ex(("127.0.0.1", port)) != 0:
                ports.add(port)
    return list(ports)
