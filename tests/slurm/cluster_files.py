"""Configuration files and command lines of the daemons of a cluster."""

import socket

NAME = "test"
NODES = {"n1": "Gres=gpu:fake:2", "n2": "Gres=gpu:fake:2", "n3": ""}
GPUS = ["gpu0", "gpu1"]
LISTENERS = ["slurmctld", "slurmdbd", "mariadbd", *NODES]


def daemons(folder, ports, user, accounting):
    """Name -> (command in the foreground, port or socket at which it answers), in the order of their start."""
    run, log, etc = folder / "run", folder / "log", folder / "etc"
    munged = ["munged", "--foreground", f"--socket={run / 'munge.sock'}", f"--key-file={etc / 'munge.key'}"]
    munged += [f"--pid-file={run / 'munged.pid'}", f"--seed-file={folder / 'state' / 'munge.seed'}"]
    made = {"munged": ([*munged, f"--log-file={log / 'munged.log'}"], run / "munge.sock")}
    if accounting:
        mariadbd = ["mariadbd", "--no-defaults", f"--datadir={folder / 'db'}", f"--socket={run / 'mariadb.sock'}"]
        mariadbd += [f"--port={ports['mariadbd']}", "--bind-address=127.0.0.1", f"--user={user}"]
        mariadbd += ["--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M", "--innodb-lock-wait-timeout=900"]
        mariadbd += [f"--pid-file={run / 'mariadbd.pid'}", f"--init-file={etc / 'accounting.sql'}"]
        made["mariadbd"] = (mariadbd, ports["mariadbd"])
        made["slurmdbd"] = (["slurmdbd", "-D"], ports["slurmdbd"])
    made["slurmctld"] = (["slurmctld", "-D"], ports["slurmctld"])
    return made | {f"slurmd-{node}": (["slurmd", "-D", "-N", node], ports[node]) for node in NODES}


def files(folder, ports, user, accounting):
    """Text of each file of SLURM's configuration folder by name; for ``user`` and the jobs of that user."""
    made = {"slurm.conf": _slurm(folder, ports, user, accounting), "gres.conf": _gres(folder)}
    if accounting:
        made |= {"slurmdbd.conf": _slurmdbd(folder, ports, user), "accounting.sql": _DATABASE}
    return made


def _lines(settings):
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def _slurm(folder, ports, user, accounting):
    host, run, log = socket.gethostname(), folder / "run", folder / "log"
    settings = {
        "ClusterName": NAME,
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "SlurmctldPort": ports["slurmctld"],
        "CommunicationParameters": "NoInAddrAny,NoCtldInAddrAny",
        "SlurmUser": user,
        "SlurmdUser": user,
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={run / 'munge.sock'}",
        "StateSaveLocation": folder / "state",
        "SlurmdSpoolDir": folder / "spool" / "%n",
        "SlurmctldPidFile": run / "slurmctld.pid",
        "SlurmdPidFile": run / "slurmd-%n.pid",
        "SlurmctldLogFile": log / "slurmctld.log",
        "SlurmdLogFile": log / "slurmd-%n.log",
        "ProctrackType": "proctrack/linuxproc",
        "JobAcctGatherType": "jobacct_gather/linux",
        "JobAcctGatherFrequency": "task=1",
        # Without cgroups nothing else ends a job that takes more memory than it asked for.
        "JobAcctGatherParams": "OverMemoryKill",
        "SchedulerParameters": "batch_sched_delay=1,sched_interval=5",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core_Memory",
        # A request that no node can ever meet is refused and not left pending.
        "EnforcePartLimits": "ALL",
        "MpiDefault": "none",
        "ReturnToService": 2,
        "SlurmctldTimeout": 30,
        "SlurmdTimeout": 30,
        "KillWait": 5,
        "MinJobAge": 3600,
        "PreemptType": "preempt/partition_prio",
        "PreemptMode": "CANCEL",
        # The nodes have what is written here, not what this machine has.
        "SlurmdParameters": "config_overrides",
        "GresTypes": "gpu",
    }
    if accounting:
        settings |= {
            "AccountingStorageType": "accounting_storage/slurmdbd",
            "AccountingStorageHost": "127.0.0.1",
            "AccountingStoragePort": ports["slurmdbd"],
            "AccountingStoragePass": run / "munge.sock",
            "AccountingStorageTRES": "gres/gpu",
        }
    nodes = [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[node]} CPUs=4 RealMemory=8000 {gres}\n"
        for node, gres in NODES.items()
    ]
    partitions = [
        "PartitionName=cpu Nodes=n3 Default=YES MaxTime=1440 State=UP\n",
        "PartitionName=gpu Nodes=n1,n2 MaxTime=1440 State=UP\n",
        f"PartitionName=urgent Nodes={','.join(NODES)} PriorityTier=2 PreemptMode=OFF State=UP\n",
    ]
    return _lines(settings) + "".join(nodes + partitions)


def _gres(folder):
    files = ",".join(str(folder / "dev" / name) for name in GPUS)
    return f"AutoDetect=off\nNodeName=n[1-2] Name=gpu Type=fake File={files}\n"


def _slurmdbd(folder, ports, user):
    return _lines(
        {
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={folder / 'run' / 'munge.sock'}",
            "DbdHost": "localhost",
            "DbdAddr": "127.0.0.1",
            "DbdPort": ports["slurmdbd"],
            "CommunicationParameters": "NoInAddrAny",
            "SlurmUser": user,
            "LogFile": folder / "log" / "slurmdbd.log",
            "PidFile": folder / "run" / "slurmdbd.pid",
            "StorageType": "accounting_storage/mysql",
            "StorageHost": "127.0.0.1",
            "StoragePort": ports["mariadbd"],
            "StorageUser": "slurm",
            "StoragePass": "slurm",
            "StorageLoc": "slurm_acct_db",
        }
    )


_DATABASE = """\
create database if not exists slurm_acct_db;
create user if not exists 'slurm'@'127.0.0.1' identified by 'slurm';
create user if not exists 'slurm'@'localhost' identified by 'slurm';
grant all on slurm_acct_db.* to 'slurm'@'127.0.0.1';
grant all on slurm_acct_db.* to 'slurm'@'localhost';
"""
