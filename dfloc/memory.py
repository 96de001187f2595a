"""What processes hold of the memory that they may use, read from the kernel in a millisecond."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

GIB = 1 << 30
FULL = 0.8
CGROUPS = Path("/sys/fs/cgroup")


class MemoryUse(NamedTuple):
    """Memory in bytes: of some processes, and of all that there is for them.

    Attributes:
        held: what only they hold, and the most that one of them shares.
        total: of the machine, or the limit of a control group (a container, a batch job) that is lower.
        kills: how often the kernel has ended a process of the group because it was full.
        free: of the machine.
    """

    held: int
    total: int
    kills: int = 0
    free: int = 0

    def describe_kill(self, before: int) -> str:
        """Return what it says of a process that was killed.

        Args:
            before: `kills` at the start.
        """
        words = f"when it and its workers held {self.held / GIB:.1f} of {self.total / GIB:.1f} GiB"
        if self.kills > before:
            return f"{words}: memory ran out"
        tight = self.held >= FULL * self.total or self.free <= (1 - FULL) * self.total / 2
        return f"{words}: memory may have run out" if tight else f"{words}, not for want of memory as it seems"


def descendants(pid: int) -> list[int]:
    """Return the processes below one.

    With those that have ended and were not asked about yet: where one has threads, its first may seem to have ended
    while it still has children.
    """
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 (a thousand Paths a second are not thin)
        if entry.isdecimal() and (parent := _parent(entry)):
            children.setdefault(parent, []).append(int(entry))
    found, below = list[int](), [pid]
    while below:
        below = [child for one in below for child in children.get(one, [])]
        found += below
    return found


def look(pids: Iterable[int]) -> MemoryUse:
    """Return what processes hold now."""
    machine = _kib(Path("/proc/meminfo"))
    status = [_kib(Path(f"/proc/{pid}/status")) for pid in pids]
    held = sum(one.get("RssAnon", 0) for one in status) + max((one.get("RssShmem", 0) for one in status), default=0)
    limits = list(_limits())
    total = min([machine["MemTotal"], *(limit for limit, _ in limits if limit)])
    kills = next((number for _, number in limits if number is not None), 0)  # those around it count others', too
    return MemoryUse(held, total, kills, machine.get("MemAvailable", machine["MemTotal"]))


def _limits() -> Iterator[tuple[int, int | None]]:
    """Yield limit (0: none) and kills (None: not told) of each control group around this process, its own first."""
    for line in _lines(Path("/proc/self/cgroup")):
        _, names, below = line.split(":", 2)
        if names and "memory" not in names.split(","):
            continue
        root = CGROUPS / names if names else CGROUPS
        group = root / below.lstrip("/")
        files = ("memory.limit_in_bytes", "memory.oom_control") if names else ("memory.max", "memory.events")
        for folder in (group, *group.parents):
            text = "".join(_lines(folder / files[0])).strip()
            events = dict(line.split() for line in _lines(folder / files[1]) if len(line.split()) == 2)
            yield int(text) if text.isdecimal() else 0, int(events["oom_kill"]) if "oom_kill" in events else None
            if folder == root:
                break


def _parent(pid: str) -> int:
    """Return the parent of a process; 0: it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def _kib(path: Path) -> dict[str, int]:
    """Return what a file of the kernel names in KiB, in bytes."""
    lines = (line.split() for line in _lines(path))
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if words[2:] == ["kB"]}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:  # not there in this kernel, or gone with its process
        return []
