import os
import subprocess
import sys
import time

import psutil
import pytest

from dfloc import memory
from dfloc.memory import GIB, MemoryUse


def test_what_is_held_is_said_with_what_it_means() -> None:
    plain = MemoryUse(2 * GIB, 24 * GIB, 3, 20 * GIB)
    words = "when it and its workers held 2.0 of 24.0 GiB"
    assert plain.describe_kill(before=3) == f"{words}, not for want of memory as it seems"
    assert plain.describe_kill(before=2) == f"{words}: memory ran out"
    assert (
        plain._replace(held=20 * GIB).describe_kill(before=3).endswith("held 20.0 of 24.0 GiB: memory may have run out")
    )
    assert plain._replace(free=GIB).describe_kill(before=3) == f"{words}: memory may have run out"


def test_children_of_children_are_counted_with_what_they_hold() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'x = bytearray(1 << 27); input()'])"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    try:
        until = time.monotonic() + 60
        while not (below := psutil.Process(child.pid).children()) or below[0].memory_info().rss < 1 << 27:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert memory.look(memory.descendants(os.getpid())).held >= 1 << 27
        assert {child.pid, below[0].pid} <= set(memory.descendants(os.getpid()))
    finally:
        child.communicate(b"\n")
    assert child.pid not in memory.descendants(os.getpid())


def test_what_is_below_a_process_is_found_when_its_first_thread_has_ended() -> None:
    code = f"""if True:
        import ctypes, subprocess, threading, time
        print(subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL).pid, flush=True)
        threading.Thread(target=time.sleep, args=(600,)).start()
        ctypes.CDLL(None).syscall({93 if os.uname().machine == "aarch64" else 60}, 0)
    """
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as one:
        assert one.stdout is not None
        below = None
        try:
            below = psutil.Process(int(one.stdout.readline()))
            until = time.monotonic() + 60
            while psutil.Process(one.pid).status() != psutil.STATUS_ZOMBIE:
                assert time.monotonic() < until
                time.sleep(0.05)
            assert below.pid in memory.descendants(os.getpid())
        finally:
            one.kill()
            if below:
                below.kill()


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        (
            ["0::/jobs/one"],
            {"jobs/one/memory.max": "max", "jobs/memory.max": "4096", "jobs/one/memory.events": "low 0\noom_kill 2"}
            | {"jobs/memory.events": "oom_kill 7"},
            [(0, 2), (4096, 7), (0, None)],
        ),
        (
            ["5:cpu:/x", "4:memory:/job"],
            {"memory/job/memory.limit_in_bytes": "8192", "memory/job/memory.oom_control": "under_oom 0\noom_kill 1"},
            [(8192, 1), (0, None)],
        ),
        ([], {}, []),
    ],
)
def test_the_limits_of_both_kinds_of_control_groups(
    groups: list[str], files: dict[str, str], expected: list[tuple[int, int | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {str(memory.CGROUPS / name): text.splitlines() for name, text in files.items()}
    there["/proc/self/cgroup"] = groups
    monkeypatch.setattr(memory, "_lines", lambda path: there.get(str(path), []))
    assert list(memory._limits()) == expected
    own = next((kills for _, kills in expected if kills is not None), 0)
    monkeypatch.setattr(memory, "_kib", lambda path: {"MemTotal": 1 << 30})
    assert memory.look([]).kills == own, "others' of the groups around it are not of this sweep"


def test_a_look_is_cheap() -> None:
    start = time.process_time()
    for _ in range(10):
        memory.look(memory.descendants(os.getpid()))
    assert time.process_time() - start < 1.0
