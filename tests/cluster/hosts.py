"""Hosts as namespaces of this machine: each has its own address, processes, mounts, name, home and token.

A process per host holds its namespaces, and one holds those of a switch, from which the hosts are reached by ssh as
from a user's laptop. Everything is tied to the life of these processes, and they to that of the test: nothing is left
behind, not even after kill -9.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.command import Result, wait

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent
TOOLS = ("ip", "mount", "nsenter", "rsync", "setpriv", "ssh", "ssh-keygen", "sshd", "unshare")
NETWORK = "10.77.0"
TOKEN = "~/.ray/auth_token"
SECONDS = 300

_SSHD = """
HostKey {folder}/key
AuthorizedKeysFile {folder}/key.pub
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
{keep}
mount --rbind {folder}/home {home}
mkdir -p /tmp/ray && mount --bind {folder}/ray /tmp/ray
mount -t tmpfs tmpfs /run && mkdir /run/sshd
exec {sshd} -D -f {folder}/sshd_config
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
        pid: of its first process, sshd, which holds its namespaces.
    """

    name: str
    address: str
    folder: Path
    pid: int

    @property
    def home(self) -> Path:
        """Its home, seen from outside."""
        return self.folder / "home"

    def mount(self, *args: str) -> None:
        """Mount something that only this host sees."""
        _call("nsenter", f"--target={self.pid}", "--mount", "--pid", "mount", *args)

    def unmount(self, path: Path) -> None:
        _call("nsenter", f"--target={self.pid}", "--mount", "--pid", "umount", "--lazy", str(path))

    def processes(self) -> list[psutil.Process]:
        """Return what runs on it, from sshd down."""
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
    """Some hosts on one network.

    Args:
        names: of the hosts.
        folder: for their homes and keys.
        kept: folders that every host sees, also where they lie below the home.
    """

    def __init__(self, names: Sequence[str], folder: Path, kept: Sequence[Path] = ()):
        self._processes: list[subprocess.Popen[bytes]] = []
        self._folder = folder
        self._kept = [ROOT, Path(sys.prefix), Path(sys.base_prefix), *kept]
        try:
            self._switch = self._hold("unshare", "--net", "sleep", "infinity")
            self._in_switch("ip", "link", "add", "bridge", "type", "bridge")
            self._in_switch("ip", "address", "add", f"{NETWORK}.254/24", "dev", "bridge")
            for link in ("lo", "bridge"):
                self._in_switch("ip", "link", "set", link, "up")
            _call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key"))
            self.all = [self._host(name, f"{NETWORK}.{place}") for place, name in enumerate(names, 1)]
            for host in self.all:
                wait(lambda host=host: self.ssh(host, "true").code == 0, 20)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End every process of every host; its namespaces end with it."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()

    def ssh_command(self, host: Host, command: str) -> list[str]:
        """Return what runs a command on a host by ssh, from the switch."""
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")
        flags = [part for option in options for part in ("-o", option)]
        return [*self._enter, "ssh", "-i", str(self._folder / "key"), *flags, f"root@{host.address}", command]

    def ssh(self, host: Host, command: str, seconds: float = SECONDS) -> Result:
        """Run a command on a host to its end."""
        done = subprocess.run(self.ssh_command(host, command), capture_output=True, text=True, timeout=seconds)
        return Result(done.returncode, done.stdout, done.stderr)

    @property
    def _enter(self) -> list[str]:
        return ["nsenter", f"--target={self._switch}", "--net"]

    def _in_switch(self, *args: str) -> None:
        _call(*self._enter, *args)

    def _host(self, name: str, address: str) -> Host:
        folder = self._folder / name
        for part in ("home", "ray"):
            (folder / part).mkdir(parents=True)
        for part in ("key", "key.pub"):
            shutil.copy2(self._folder / part, folder / part)
        (folder / "sshd_config").write_text(_SSHD.format(folder=folder))
        spaces = ("--net", "--mount", "--pid", "--uts", "--fork", "--kill-child")
        outer = psutil.Process(self._hold("unshare", *spaces, "bash", "-c", self._script(name, folder)))
        wait(lambda: bool(outer.children()), 10)
        host = Host(name, address, folder, outer.children()[0].pid)
        peer = f"port{address.rpartition('.')[2]}"
        self._in_switch("ip", "link", "add", peer, "type", "veth", "peer", "name", "eth0", "netns", str(host.pid))
        self._in_switch("ip", "link", "set", peer, "master", "bridge", "up")
        for args in (
            ("link", "set", "lo", "up"),
            ("address", "add", f"{address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("route", "add", "default", "via", f"{NETWORK}.254"),
        ):
            _call("nsenter", f"--target={host.pid}", "--net", "ip", *args)
        return host

    def _script(self, name: str, folder: Path) -> str:
        home = Path("~root").expanduser()
        keep = []
        for path in (path for path in self._kept if path.is_relative_to(home)):
            inside = folder / "home" / path.relative_to(home)
            inside.mkdir(parents=True, exist_ok=True)
            keep.append(f"mount --bind {shlex.quote(str(path))} {shlex.quote(str(inside))}")
        return _START.format(name=name, keep="\n".join(keep), folder=folder, home=home, sshd=_which("sshd"))

    def _hold(self, *args: str) -> int:
        """Start a process that holds namespaces, and dies with this one; return its id once it has them."""
        log = (self._folder / "hosts.log").open("ab")
        process = subprocess.Popen(["setpriv", "--pdeathsig", "SIGKILL", *args], stdout=log, stderr=log)
        log.close()
        self._processes.append(process)
        mine = _network(os.getpid())
        wait(lambda: process.poll() is not None or _network(process.pid) != mine, 10)
        assert process.poll() is None, (self._folder / "hosts.log").read_text()
        return process.pid


def _which(tool: str) -> str | None:
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _network(pid: int) -> str:
    return str(Path(f"/proc/{pid}/ns/net").readlink())


def _call(*args: str) -> None:
    done = subprocess.run([_which(args[0]) or args[0], *args[1:]], capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(args)}: {done.stderr}"
