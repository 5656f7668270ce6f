"""The process of :mod:`forked_python` that forks: ``python -P fork_server.py KIND FOLDER``."""

import atexit
import contextlib
import gc
import importlib
import marshal
import multiprocessing.connection
import os
import pkgutil
import runpy
import signal
import socket
import sys
from pathlib import Path

SCRIPT = "jsonschema pandas pooch safetensors.torch scipy.linalg seaborn sklearn.datasets snakemake.script torch"
SCRIPT += " torch._dynamo"  # which takes a second, and which a tensor on the device `meta` imports
#: What is imported for Snakemake, which does without torch, for the scripts of its jobs, and for those of pipelines.
IMPORTED = {
    "snakemake": "jsonschema pandas snakemake.cli snakemake.report.html_reporter snakemake_executor_plugin_slurm",
    "script": SCRIPT,
    "pipelines": f"{SCRIPT} torchvision diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3",
}


def serve(kind, folder):
    """Fork for each connection and answer it with the exit status, until the standard input ends."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{folder}/{kind}")
    listener.listen()
    print("ready", flush=True)
    if sys.stdin in multiprocessing.connection.wait([listener, sys.stdin]):
        return
    for name in IMPORTED[kind].split():
        if name == "torchvision":  # what it lacks beside a torch for the CPU
            declared = runpy.run_path(f"{Path(__file__).parents[2]}/dode/models/torchvision_operators.py")
            declared["declare"]()
        importlib.import_module(name)
    assert not {"dode", *["torch"] * (kind == "snakemake")} & set(sys.modules)
    gc.freeze()  # or a collection in a forked process copies every page that has an object
    fork, running = multiprocessing.get_context("fork"), {}
    watched = [listener, sys.stdin]
    while sys.stdin not in (
        ready := multiprocessing.connection.wait([*watched, *running, *(asked for _, asked in running.values())])
    ):
        for sentinel, (process, connection) in list(running.items()):
            if connection in ready:  # who asked has been killed
                _kill(process)
            if {sentinel, connection} & set(ready):
                del running[sentinel]
                process.join()
                with connection, contextlib.suppress(OSError):
                    connection.sendall(b"%d\n" % process.exitcode)
        if listener in ready:
            connection, _ = listener.accept()
            _, streams, _, _ = socket.recv_fds(connection, 1, 3)
            command = marshal.load(connection.makefile("rb"))
            process = fork.Process(target=_carry_out, args=(streams, *command))
            process.start()
            running[process.sentinel] = process, connection
            for stream in streams:
                os.close(stream)
    for process, _ in running.values():  # of a test that was interrupted
        _kill(process)


def _kill(process):
    """The process and its group, which it may not have made yet."""
    process.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _carry_out(streams, client, arguments, folder, environment):
    """``python *arguments`` in a forked process."""
    os.setpgid(0, 0)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.executable, sys.orig_argv = client, [client, *arguments]
    as_module = arguments[0] == "-m"
    added = [*filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.path[:0] = [folder if as_module else str(Path(arguments[0]).parent), *added]
    sys.argv = arguments[as_module:]
    try:
        for path in added:  # as Python does when it starts
            if (Path(path) / "sitecustomize.py").exists():
                importlib.import_module("sitecustomize")
        if as_module:
            if sys.argv[0] == "snakemake":  # what it notes as it is imported
                sys.modules["snakemake.workflow"].Workflow._rundir = folder
                registry = sys.modules["snakemake_interface_executor_plugins.registry"].ExecutorPluginRegistry()
                for package in pkgutil.iter_modules(added):
                    if package.name.startswith("snakemake_executor_plugin_"):
                        registry.register_plugin(package.name, importlib.import_module(package.name))
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # a process of multiprocessing leaves them out


if __name__ == "__main__":
    serve(*sys.argv[1:])
