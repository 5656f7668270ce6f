"""Jobs of a local run that are forked from a process which has imported what they import.

Starting Python and importing torch takes most of a short job's time; what is left of it in a forked one is a tenth.
:mod:`dode.benchmark.fork_server` is the process, one for a run. It is there on Linux alone (elsewhere libraries do not
bear a fork), where no GPU is used, for jobs of one thread on this machine, in the Python of Snakemake itself; others
start a Python each. ``benchmarks/starts.py`` measures it.
"""

import atexit
import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: What the scripts import, and what that imports late: for tables, pages and downloads, and matplotlib as it draws.
MODULES = (
    *("jsonschema", "pandas", "pooch", "safetensors.torch", "scipy.linalg", "seaborn", "sklearn.datasets"),
    *("snakemake.script", "torch", "torch._dynamo"),  # the last is imported for a tensor on the device meta
    *("jinja2", "pyarrow.pandas_compat", "requests", "sklearn.datasets.data", "symtable", "tabulate", "yaml"),
    *("matplotlib.backends.backend_agg", "matplotlib.backends.backend_pdf", "PIL.BmpImagePlugin"),
    *("PIL.GifImagePlugin", "PIL.JpegImagePlugin", "PIL.PpmImagePlugin", "fontTools.ttLib.tables.G_D_E_F_"),
    *("fontTools.ttLib.tables.G_P_O_S_", "fontTools.ttLib.tables.G_S_U_B_", "fontTools.ttLib.tables._g_l_y_f"),
    "fontTools.ttLib.tables._k_e_r_n",
)
#: What those of pipelines import besides; torchvision may need a declaration first.
OF_PIPELINES = (
    str(Path(__file__).parents[1] / "models" / "torchvision_operators.py"),
    "torchvision",
    "diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3",
)
#: So many jobs start a Python each: a run of fewer would only wait for imports that they do not all need.
FIRST = 2
#: In the environment: the socket of a process that forks and that several runs share.
SHARED = "DODE_FORKED_JOBS"
_PROGRAM = Path(__file__).with_name("fork_server.py")
#: What Snakemake sets for a job to its threads, and libraries read as they are imported.
_OF_THREADS = ("OMP", "GOTO", "OPENBLAS", "MKL", "VECLIB", "NUMEXPR")
_GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # of NVIDIA, of AMD, in WSL


def are_possible(device: str) -> bool:
    """Whether jobs that compute on this device (``execution: device``) may be forked on this machine."""
    if sys.platform != "linux" or (device != "cpu" and any(map(os.path.exists, _GPUS))):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:  # before Linux 5.3
        return False
    return True


def begin(script_class: Any, scripts: Path, modules: Sequence[str] = MODULES) -> None:
    """From now on, have Snakemake (its class ``PythonScript``) fork the jobs whose scripts are in this folder.

    The process that forks starts with the first job that needs it, and ends with this one.
    """
    own, count, lock, scripts = script_class.execute_script, itertools.count(1), threading.Lock(), scripts.resolve()
    started: list[subprocess.Popen] = []
    path = Path(os.environ[SHARED]) if SHARED in os.environ else None

    def is_ours(script: Any) -> bool:
        elsewhere = script.conda_env or script.container_img or script.env_modules or not script.is_local
        return not elsewhere and script.threads == 1 and Path(script.local_path).resolve().parent == scripts

    def server() -> Path:
        nonlocal path
        with lock:
            if path is None:
                path = Path("none")
                with contextlib.suppress(OSError):  # the client finds no server then, and becomes the job
                    path = Path(tempfile.mkdtemp(prefix="dode-")) / "jobs"
                    atexit.register(shutil.rmtree, path.parent, ignore_errors=True)
                    started.append(start(path, modules))
            return path

    def execute_script(script: Any, fname: str, edit: bool = False) -> None:
        if not is_ours(script) or (path is None and next(count) <= FIRST):
            own(script, fname, edit)
            return
        command, client = "{python:q} -IS {client:q} {path:q} {fname:q}", Path(__file__).with_name("fork_client.py")
        script._execute_cmd(command, python=sys.executable, client=client, path=server(), fname=fname)

    script_class.execute_script = execute_script


def start(path: Path, modules: Sequence[str], program: Path = _PROGRAM, **options: Any) -> subprocess.Popen:
    """Start a process that forks.

    Args:
        path: of the socket where it is asked. Who may write there may run code as this user, and a client tells its
            environment to whoever has it.
        modules: what it imports as it is first asked.
        program: which calls :func:`dode.benchmark.fork_server.serve`.
        options: of ``subprocess.Popen``.

    Returns:
        The process, which ends as its standard input does, and removes its socket.

    Raises:
        OSError: where there can be no such socket.
    """
    one = {f"{library}_NUM_THREADS": "1" for library in _OF_THREADS}
    environment = {**options.pop("env", os.environ), **one}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        number = listener.fileno()
        command = [sys.executable, "-P", str(program), str(number), *modules]
        return subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[number], env=environment, **options)
