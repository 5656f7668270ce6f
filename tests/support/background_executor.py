"""An executor plugin of Snakemake whose jobs are processes of this machine that outlive the run, as a cluster's do.

Snakemake finds it where ``install`` copies it to: a workspace's folder is on the PYTHONPATH of its runs.
"""

import os
import shutil
import signal
import subprocess
from pathlib import Path

from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.settings import CommonSettings

common_settings = CommonSettings(non_local_exec=True, implies_no_shared_fs=False, job_deploy_sources=False)


def install(folder):
    package = Path(folder) / "snakemake_executor_plugin_background"
    package.mkdir()
    shutil.copy2(__file__, package / "__init__.py")


class Executor(RemoteExecutor):
    def run_job(self, job):
        script = self.get_jobscript(job)
        self.write_jobscript(job, script)
        quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        process = subprocess.Popen(["sh", script], start_new_session=True, **quiet)
        self.report_job_submission(SubmittedJobInfo(job, str(process.pid), {"process": process}))

    async def check_active_jobs(self, active_jobs):
        for submitted in active_jobs:
            status = submitted.aux["process"].poll()
            if status is None:
                yield submitted
            elif status == 0:
                self.report_job_success(submitted)
            else:
                self.report_job_error(submitted)

    def cancel_jobs(self, active_jobs):
        for submitted in active_jobs:
            os.killpg(submitted.aux["process"].pid, signal.SIGTERM)
