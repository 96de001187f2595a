"""Hosts as namespaces of this machine: each has its own address, processes, mounts, name, home, /tmp and token.

The first process of each holds its namespaces. Those of the laptop hold the network too, from which the others are
reached by ssh. All of it lives as long as these processes, and they as long as the test: nothing is left behind, not
even after kill -9.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.command import Result, wait

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent
TOOLS = ("ip", "mount", "nsenter", "rsync", "setpriv", "ssh", "ssh-keygen", "sshd", "unshare")
NETWORK = "10.77.0"
SECONDS = 300

_SSHD = """
HostKey {key}
AuthorizedKeysFile {key}.pub
PasswordAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
"""
_START = """
set -eu
hostname {name}
mount -t proc proc /proc
{mounts}
mount -t tmpfs tmpfs /run && mkdir /run/sshd
exec {run}
"""


def lacking() -> str | None:
    """Return why there can be no hosts here; None = there can."""
    if os.geteuid() != 0:
        return "namespaces need root"
    missing = [tool for tool in TOOLS if _which(tool) is None]
    if missing:
        return f"needs {', '.join(missing)} (apt-get install openssh-server rsync iproute2)"
    tried = subprocess.run(["unshare", "--net", "--mount", "--pid", "--uts", "--fork", "true"], capture_output=True)
    return None if tried.returncode == 0 else f"no namespaces here: {tried.stderr.decode().strip()}"


class Host(NamedTuple):
    """One host.

    Attributes:
        pid: of its first process.
    """

    name: str
    address: str
    folder: Path
    pid: int

    @property
    def home(self) -> Path:
        """Its home, seen from outside."""
        return self.folder / "home"

    def inside(self, *args: str) -> list[str]:
        """Return what runs a command on it, with all its namespaces."""
        return ["nsenter", f"--target={self.pid}", "--net", "--mount", "--pid", "--uts", *args]

    def mount(self, *args: str) -> None:
        """Mount something that only this host sees."""
        _call(*self.inside("mount", *args))

    def unmount(self, path: Path) -> None:
        _call(*self.inside("umount", "--lazy", str(path)))

    def processes(self) -> list[psutil.Process]:
        """Return what runs on it, its first process aside."""
        return psutil.Process(self.pid).children(recursive=True)

    def titles(self) -> list[str]:
        """Return the command of each of its processes; Ray writes there what a worker does."""
        found = []
        for process in self.processes():
            try:
                found.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        return found


class Hosts:
    """A laptop, and some hosts on its network.

    Args:
        names: of the hosts.
        folder: for their homes and keys.
        shared: a folder that every host sees.
    """

    def __init__(self, names: Sequence[str], folder: Path, shared: Path):
        self._processes: list[subprocess.Popen[bytes]] = []
        self._folder = folder
        self._kept = [ROOT, Path(sys.prefix), Path(sys.base_prefix), folder, shared]
        self.key = folder / "key"
        _call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key))
        (folder / "sshd_config").write_text(_SSHD.format(key=self.key))
        try:
            self.laptop = self._host("laptop", f"{NETWORK}.254", "sleep infinity")
            self._in_laptop("link", "add", "bridge", "type", "bridge")
            self._in_laptop("address", "add", f"{self.laptop.address}/24", "dev", "bridge")
            for link in ("lo", "bridge"):
                self._in_laptop("link", "set", link, "up")
            sshd = f"{_which('sshd')} -D -f {folder}/sshd_config"
            self.all = [self._host(name, f"{NETWORK}.{place}", sshd) for place, name in enumerate(names, 1)]
            for host in self.all:
                self._connect(host)
                wait(lambda host=host: self.ssh(host, "true").code == 0, 20)  # type: ignore[misc]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End every process of every host; its namespaces end with it."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()

    def ssh(self, host: Host, command: str, seconds: float = SECONDS) -> Result:
        """Run a command on a host, by ssh from the laptop, to its end."""
        done = subprocess.run(self.ssh_command(host, command), capture_output=True, text=True, timeout=seconds)
        return Result(done.returncode, done.stdout, done.stderr)

    def ssh_command(self, host: Host, command: str) -> list[str]:
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")
        flags = [part for option in options for part in ("-o", option)]
        return self.laptop.inside("ssh", "-i", str(self.key), *flags, f"root@{host.address}", command)

    def on_laptop(self, command: str) -> Result:
        """Run a command on the laptop, in the checkout."""
        args = self.laptop.inside("bash", "-c", f"cd {shlex.quote(str(ROOT))} && {command}")
        done = subprocess.run(args, capture_output=True, text=True, timeout=SECONDS)
        return Result(done.returncode, done.stdout, done.stderr)

    def _in_laptop(self, *args: str) -> None:
        _call(*self.laptop.inside("ip", *args))

    def _host(self, name: str, address: str, run: str) -> Host:
        folder = self._folder / name
        script = _START.format(name=name, mounts="\n".join(self._mounts(folder)), run=run)
        outer = self._hold("--net", "--mount", "--pid", "--uts", "--fork", "--kill-child", "bash", "-c", script)
        return Host(name, address, folder, outer.children()[0].pid)

    def _mounts(self, folder: Path) -> Iterator[str]:
        """Yield the commands that give a host its own home and /tmp, with what is kept where it was."""
        for name, place in (("home", Path("~root").expanduser()), ("tmp", Path("/tmp"))):
            inside = folder / name
            inside.mkdir(parents=True)
            for path in (path for path in self._kept if path.is_relative_to(place)):
                (inside / path.relative_to(place)).mkdir(parents=True, exist_ok=True)
                yield shlex.join(["mount", "--bind", str(path), str(inside / path.relative_to(place))])
            yield shlex.join(["mount", "--rbind", str(inside), str(place)])

    def _connect(self, host: Host) -> None:
        """Lay a cable from a host to the laptop's bridge."""
        port = f"to-{host.name}"
        self._in_laptop("link", "add", port, "type", "veth", "peer", "name", "eth0")
        _call("nsenter", f"--target={self.laptop.pid}", "--net", "ip", "link", "set", "eth0", "netns", str(host.pid))
        self._in_laptop("link", "set", port, "master", "bridge", "up")
        for args in (
            ("link", "set", "lo", "up"),
            ("address", "add", f"{host.address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("route", "add", "default", "via", self.laptop.address),
        ):
            _call(*host.inside("ip", *args))

    def _hold(self, *args: str) -> psutil.Process:
        """Start a process that holds namespaces, and dies with this one; return it once its first child runs."""
        with (self._folder / "hosts.log").open("ab") as log:
            process = subprocess.Popen(["setpriv", "--pdeathsig", "SIGKILL", "unshare", *args], stdout=log, stderr=log)
        self._processes.append(process)
        outer = psutil.Process(process.pid)
        wait(lambda: process.poll() is not None or _is_ready(outer), 10)
        assert process.poll() is None, (self._folder / "hosts.log").read_text()
        return outer


def _is_ready(outer: psutil.Process) -> bool:
    """Whether the first process of a host has made its mounts: it is no longer the shell."""
    return any(child.name() != "bash" for child in outer.children() if child.status() != psutil.STATUS_ZOMBIE)


def _which(tool: str) -> str | None:
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _call(*args: str) -> None:
    done = subprocess.run(args, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(args)}: {done.stderr}"
