"""The process of :mod:`forked_python` that forks: :mod:`dode.benchmark.fork_server`, called as Python is.

What it forks is a group of its own, so that who kills it has killed all that it has started.
"""

import importlib
import importlib.util
import os
import pkgutil
import runpy
import socket
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def by_path(name):
    """A module of ``dode.benchmark`` that imports nothing else of this repository, without its packages."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "dode" / "benchmark" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


forked_jobs, server = by_path("forked_jobs"), by_path("fork_server")
OF_SNAKEMAKE = (
    *("docutils.languages.en", "docutils.readers.standalone", "docutils.writers.html4css1", "jsonschema", "nbformat"),
    *("pandas", "pooch", "pygments", "smart_open", "snakemake.benchmark", "snakemake.cli", "snakemake.profiles"),
    *("snakemake.report.html_reporter", "snakemake.storage", "snakemake_executor_plugin_slurm", "symtable", "xxhash"),
)
#: What is imported for Snakemake, which does without torch, for the scripts of its jobs, and for those of pipelines.
IMPORTED = {
    "snakemake": OF_SNAKEMAKE,
    "script": forked_jobs.MODULES,
    "pipelines": [*forked_jobs.MODULES, *forked_jobs.OF_PIPELINES],
}


def run(arguments):
    """``python ARGUMENT...``, where the first may be the ``python`` that was called."""
    os.setpgid(0, 0)
    if Path(arguments[0]).name.startswith("python-"):
        sys.executable, sys.orig_argv = arguments[0], arguments
        arguments = arguments[1:]
    added = [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.path[:0] = added
    for path in added:  # as Python does when it starts
        if (Path(path) / "sitecustomize.py").exists():
            importlib.import_module("sitecustomize")
    if arguments[:2] == ["-P", "-c"]:
        sys.argv = ["-c", *arguments[3:]]
        exec(arguments[2], {"__name__": "__main__"})
        return
    if arguments[0] != "-m":
        server.run_script(arguments)
        return
    sys.path.insert(0, os.getcwd())
    sys.argv = arguments[1:]
    if sys.argv[0] == "snakemake":  # what it notes as it is imported
        sys.modules["snakemake.workflow"].Workflow._rundir = os.getcwd()
        registry = sys.modules["snakemake_interface_executor_plugins.registry"].ExecutorPluginRegistry()
        for package in pkgutil.iter_modules(added):
            if package.name.startswith("snakemake_executor_plugin_"):
                registry.register_plugin(package.name, importlib.import_module(package.name))
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    server.serve(socket.socket(fileno=int(sys.argv[1])), sys.stdin, sys.argv[2:], run)
