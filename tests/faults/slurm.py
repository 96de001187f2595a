"""A Slurm of one node, this machine, out of Debian's packages, with its daemons and files in one folder."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.command import fresh, wait

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "squeue")
CONF = """
ClusterName=faults
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
SlurmdPort={slurmd}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MpiDefault=none
KillWait=30
MinJobAge=600
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=2000
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def lacking() -> str:
    """Return why there can be no Slurm here; empty where there can."""
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing:
        return f"{', '.join(missing)} missing: apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "only root can start Slurm's daemons"


class Slurm:
    """The commands of a running one."""

    def __init__(self, folder: Path):
        self.folder = folder

    def call(self, *command: str, **environment: str) -> str:
        """Run a command of Slurm's; return what it says."""
        known = self.environment() | environment
        done = subprocess.run(command, capture_output=True, text=True, env=known, timeout=60)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def environment(self) -> dict[str, str]:
        return fresh() | {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def submit(self, script: Path, *options: str, **environment: str) -> str:
        """Queue a script; return the job's number."""
        return self.call("sbatch", "--parsable", *options, str(script), **environment).strip()

    def state(self, job: str) -> tuple[str, int]:
        """Return the state of a job and how often it was started again."""
        said = self.call("scontrol", "show", "job", job)
        state, restarts = (re.findall(rf"\b{name}=(\w+)", said)[0] for name in ("JobState", "Restarts"))
        return state, int(restarts)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Slurm]:
    """Start the daemons, and end them and what they have started."""
    folder.mkdir(mode=0o755, exist_ok=True)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().partition(".")[0]
    (folder / "slurm.conf").write_text(CONF.format(host=host, folder=folder, ctld=_port(), slurmd=_port()))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    files = {name: folder / f"munge.{name}" for name in ("socket", "pid", "log", "seed")}
    slurm, started = Slurm(folder), list[subprocess.Popen[bytes]]()
    munged = ["munged", "--foreground", "--force", f"--key-file={key}"]
    munged += [f"--{name}-file={files[name]}" for name in ("pid", "log", "seed")]
    commands = [[*munged, f"--socket={files['socket']}"], ["slurmctld", "-D", "-c"], ["slurmd", "-D", "-N", host]]
    try:
        for command in commands:
            with (folder / f"{command[0]}.out").open("wb") as out:
                started.append(subprocess.Popen(command, stdout=out, stderr=out, env=slurm.environment()))
            if command[0] == "munged":
                wait(files["socket"].exists, 60)
        wait(lambda: _idle(slurm), 60)
        yield slurm
    finally:
        _end(started)


def _idle(slurm: Slurm) -> bool:
    done = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, env=slurm.environment())
    return done.stdout.strip() == "idle"


def _end(started: list["subprocess.Popen[bytes]"]) -> None:
    for process in reversed(started):
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
