"""What pyproject.toml cannot say: a wheel has the workflow, which lies beside the package here, as dode/workflow."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

WORKFLOW = ("Snakefile", "rules", "scripts", "config", "profiles", "report", "envs")


class BuildWithWorkflow(build_py):
    """Copies the workflow into the package that is built; an editable installation finds it where it is."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        for name in WORKFLOW:
            source, target = Path(name), Path(self.build_lib, "dode", "workflow", name)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)


setup(cmdclass={"build_py": BuildWithWorkflow})
