import errno
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from upath import UPath

from dfloc import lock, storage
from dfloc import owner as owners
from dfloc.errors import WorkspaceError
from dfloc.lock import DriverLock, driver
from dfloc.owner import Owner
from tests.command import wait

ELSEWHERE = {"boot": "11111111-2222-3333-4444-555555555555"}
OTHER_CONTAINER = {"namespace": "pid:[1]"}
DRIVE = """
import sys
from upath import UPath
from dfloc.lock import DriverLock
with DriverLock(UPath(sys.argv[1])):
    print("driving", flush=True)
    sys.stdin.read()
"""


def owner(**change: object) -> Owner:
    return Owner.me().model_copy(update=change)


def put(root: UPath, generation: int, who: Owner) -> None:
    storage.put_json(root / f"lock.{generation}", who.model_dump(mode="json"))


@pytest.fixture
def root(tmp_path: Path) -> UPath:
    return UPath(tmp_path)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.05)


@pytest.fixture
def other(root: UPath) -> Iterator[subprocess.Popen[str]]:
    """A driver that is another process."""
    command = [sys.executable, "-c", DRIVE, str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "driving\n"
        yield process
        process.kill()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def counter(root: UPath, generation: int = 1) -> int:
    return Owner.read(root / f"lock.{generation}").counter


def test_second_driver_is_refused_with_host_pid_and_start(root: UPath) -> None:
    with DriverLock(root), pytest.raises(WorkspaceError, match=r"host \S+, pid \d+, started 20\d\d-.*--wait"):
        DriverLock(root).__enter__()
    with DriverLock(root) as mine:
        assert mine.held()


def test_dead_owner_that_was_seen_here_is_taken_over_at_once(root: UPath) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    put(root, 7, owner(pid=gone.pid))
    start = time.monotonic()
    with DriverLock(root) as mine:
        assert (root / "lock.8").exists()
        assert mine.succeeds
    assert time.monotonic() - start < 5
    with DriverLock(root) as mine:
        assert not mine.succeeds, "the one before ended in order"


def test_what_a_driver_left_that_died_before_it_had_a_lock_goes(root: UPath) -> None:
    left = Path((root / ".lock.1.0123abcd.part").path)
    left.write_bytes(b"half")
    os.utime(left, (1, 1))
    with DriverLock(root) as mine:
        assert not mine.succeeds
    assert not left.exists()


def test_every_driver_clears_at_its_end_what_killed_writers_left(root: UPath) -> None:
    left = [
        "lists/.a.json.0123abcd.part",
        "settled/.b.json.0123abcd.part",
        f".seen-{'0' * 32}",
        "reports/x/.index.html.00000000.part",
        "sweeps/x/tune/t",
    ]
    kept = ["sweeps/x/plan.json", "mine/.a.0123abcd.part", ".a.part", "lists/.new.json.0123abcd.part"]
    for name in [*left, *kept]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
        os.utime((root / name).path, (0, 4e9 if "new" in name else 1000))
    with DriverLock(root) as mine:
        assert not mine.succeeds, "a worker dies alone, too: the driver before ended in order"
        assert all((root / name).exists() for name in left)
    assert [name for name in [*left, *kept] if (root / name).exists()] == kept


def test_pid_that_was_given_anew_is_no_owner(root: UPath) -> None:
    ticks = owner().ticks
    assert ticks
    put(root, 1, owner(ticks=ticks - 1))
    with DriverLock(root) as mine:
        assert mine.held()


def test_a_process_that_has_ended_and_was_not_waited_for_is_dead(root: UPath) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        ticks = int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19])
        who = owner(pid=child.pid, ticks=ticks)
        assert who.lives() is True
        child.kill()
        until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
        assert who.lives() is False


def test_a_name_with_blanks_and_parentheses_hides_no_start(tmp_path: Path) -> None:
    path = tmp_path / "a) S 1 2 (b"
    shutil.copy(shutil.which("sleep") or "", path)
    with subprocess.Popen([path, "60"]) as child:
        until(lambda: "S 1 2" in Path(f"/proc/{child.pid}/stat").read_text())
        start = psutil.boot_time() + (owners._start(child.pid) or 0) / os.sysconf("SC_CLK_TCK")
        assert abs(start - time.time()) < 30
        child.kill()


@pytest.mark.parametrize("change", [{"started": 5.0}, {"host": "renamed"}, {"started": time.time() + 7200}])
def test_neither_clock_nor_host_name_takes_over_a_live_driver(
    root: UPath, change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(root, 1, owner(**change))
    monkeypatch.setattr(time, "time", lambda: 4e9)
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: 4e9)
    assert driver(root)
    with pytest.raises(WorkspaceError, match="another driver owns"):
        DriverLock(root, stale_seconds=0.2).__enter__()


@pytest.mark.skipif(not shutil.which("faketime"), reason="Debian's faketime is not installed")
def test_a_clock_that_was_set_takes_over_nothing(root: UPath) -> None:
    code = "import sys; from dfloc.lock import DriverLock; from upath import UPath; DriverLock(UPath(sys.argv[1]), stale_seconds=.5).__enter__()"  # noqa: E501
    with DriverLock(root):
        for step in ("-5 hours", "+5 hours"):
            command = ["faketime", "-f", step.replace(" hours", "h"), sys.executable, "-c", code, str(root)]
            said = subprocess.run(command, capture_output=True, text=True, check=False)
            assert "another driver owns" in said.stderr, said.stderr


@pytest.mark.parametrize("change", [ELSEWHERE, OTHER_CONTAINER, {"host": "elsewhere", **ELSEWHERE}])
def test_owner_elsewhere_is_taken_over_when_its_counter_stands_still(root: UPath, change: dict[str, object]) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    put(root, 1, owner(pid=gone.pid, **change))
    assert driver(root), "at one look it drives"
    start = time.monotonic()
    with DriverLock(root, stale_seconds=0.6) as mine:
        assert mine.held()
    assert time.monotonic() - start > 0.6


def test_owner_elsewhere_whose_counter_moves_is_left_alone(root: UPath, caplog: pytest.LogCaptureFixture) -> None:
    who = owner(host="elsewhere", **ELSEWHERE)
    put(root, 1, who)
    beat = threading.Timer(0.3, put, (root, 1, who.model_copy(update={"counter": 1})))
    beat.start()
    with pytest.raises(WorkspaceError, match="host elsewhere"):
        DriverLock(root, stale_seconds=20).__enter__()
    beat.join()
    assert "seen by its heartbeat only" in caplog.text


def test_who_stood_still_itself_looks_again_before_it_takes_over(root: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """A taker that was stopped for an hour has not watched for an hour."""
    who = owner(**ELSEWHERE)
    put(root, 1, who)
    clock, looks = [0.0], 0

    def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        clock[0] += 3600 if looks == 1 else seconds
        if looks == 3:
            put(root, 1, who.model_copy(update={"counter": 1}))

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(WorkspaceError, match="another driver owns"):
        DriverLock(root).__enter__()
    assert looks == 3


def test_a_look_that_fails_shows_nothing(root: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    who = owner(**ELSEWHERE)
    put(root, 1, who)
    real, looks = Owner.read, 0

    def read(path: UPath) -> Owner:
        nonlocal looks
        looks += 1
        if 1 < looks < 10:
            raise OSError(errno.EIO, "I/O error")
        if looks == 10:
            put(root, 1, who.model_copy(update={"counter": 1}))
        return real(path)

    monkeypatch.setattr(Owner, "read", read)
    with pytest.raises(WorkspaceError, match="another driver owns"):
        DriverLock(root, stale_seconds=0.2).__enter__()
    assert looks > 10


@pytest.mark.parametrize("released", [False, True])
def test_a_lock_of_before_is_one_of_another_machine(root: UPath, released: bool) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    old = {"host": platform.node(), "pid": gone.pid, "started": 5.0, "counter": 3, "released": released}
    (root / "lock.4").write_text(json.dumps(old))
    start = time.monotonic()
    with DriverLock(root, stale_seconds=0.6) as mine:
        assert mine.held()
        assert mine.succeeds, "what it left is not known"
    assert (time.monotonic() - start > 0.6) != released


def _folder(path: Path) -> None:
    (path / "mine").mkdir(parents=True)


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.touch(),
    "truncated": lambda path: path.write_bytes(storage.json_bytes(owner().model_dump(mode="json"))[:40]),
    "garbage": lambda path: path.write_bytes(os.urandom(300)),
    "zeros": lambda path: path.write_bytes(bytes(4096)),
    "other JSON": lambda path: path.write_text('{"sweep": "exposure"}'),
    "a list": lambda path: path.write_text("[1]"),
    "deep": lambda path: path.write_text("[" * 60000),
    "no pid": lambda path: path.write_text('{"host": "a", "pid": -1, "started": 1}'),
    "no time": lambda path: path.write_text('{"host": "a", "pid": 1, "started": 1e999}'),
    "huge": _huge,
    "a folder": _folder,
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a pipe": os.mkfifo,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_lock_counts_as_dead(kind: str, root: UPath, caplog: pytest.LogCaptureFixture) -> None:
    DAMAGE[kind](Path(root.path) / "lock.3")
    assert driver(root) is None
    caplog.clear()
    start = time.monotonic()
    with DriverLock(root) as mine:
        assert mine.held()
        assert mine.succeeds
        assert lock.generations(root) == [4]
    assert time.monotonic() - start < 5
    [line] = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert str(root / "lock.3") in line
    assert "counts as dead" in line


@pytest.mark.parametrize("name", ["lock.007", "lock.0", "lock.٣", "lock.-1", "lock.1.bak", "lock"])
def test_what_is_only_called_like_a_lock_is_none(root: UPath, name: str) -> None:
    (root / name).write_text("{}")
    with DriverLock(root) as mine:
        assert mine.held()
    assert (root / name).exists()


def test_a_hostile_host_name_is_shown_harmless() -> None:
    assert Owner(host="a\x1b[2J\nb", pid=1, started=0.0).name.startswith("host a?[2J?b, pid 1")


def test_wait_waits_for_the_owner_to_end(root: UPath) -> None:
    first = DriverLock(root).__enter__()
    told: list[Owner] = []
    ending = threading.Timer(0.5, first.__exit__, (None, None, None))
    ending.start()
    with DriverLock(root, wait=True, on_wait=told.append) as mine:
        assert mine.held()
    assert [who.host for who in told] == [platform.node()]
    ending.join()


def test_wait_takes_over_one_that_is_killed(root: UPath, other: subprocess.Popen[str]) -> None:
    threading.Timer(0.5, other.kill).start()
    with DriverLock(root, wait=True) as mine:
        assert mine.held()
        assert mine.succeeds


def test_of_many_that_take_over_at_once_one_wins(root: UPath) -> None:
    for generation in (1, 5, 9):
        put(root, generation, owner(ticks=1))

        def enter(_: int) -> bool:
            try:
                DriverLock(root).__enter__()
            except WorkspaceError:
                return False
            return True

        with ThreadPoolExecutor(12) as pool:
            assert list(pool.map(enter, range(12))).count(True) == 1


def test_driver_that_was_taken_over_stops_before_its_next_write(root: UPath) -> None:
    with DriverLock(root) as mine:
        mine.check()
        put(root, 2, owner(host="elsewhere"))
        with pytest.raises(WorkspaceError, match="took over"):
            mine.check()
    assert not Owner.model_validate(storage.get_json(root / "lock.2")).released


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EACCES])
@pytest.mark.parametrize("what", ["list", "read", "write"])
def test_the_heartbeat_outlives_errors_that_pass(
    root: UPath, quick: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str, code: int
) -> None:
    with DriverLock(root) as mine:
        until(lambda: counter(root) > 0)
        with monkeypatch.context() as broken:

            def fail(*_: object) -> None:
                raise OSError(code, os.strerror(code))

            place, name = {"list": (lock, "generations"), "read": (Owner, "read"), "write": (storage, "put")}[what]
            broken.setattr(place, name, fail)
            time.sleep(0.4)
            mine.check()
        before = counter(root)
        until(lambda: counter(root) > before)
        mine.check()
    assert Owner.read(root / "lock.1").released
    assert len([line for line in caplog.messages if "kept alive" in line]) == 1


def test_the_heartbeat_outlives_a_damaged_file_of_its_own(root: UPath, quick: None) -> None:
    with DriverLock(root) as mine:
        (root / "lock.1").write_bytes(b"{")
        until(lambda: mine.held() and (root / "lock.1").stat().st_size > 1)


def test_a_driver_that_could_not_beat_in_time_is_lost_before_another_takes_over_and_for_good(
    root: UPath, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lock.LOST_SECONDS + 5 * lock.HEARTBEAT_SECONDS < lock.STALE_SECONDS
    monkeypatch.setattr(lock, "LOST_SECONDS", 0.5)
    with DriverLock(root) as mine:
        with monkeypatch.context() as broken:

            def fail(*_: object) -> None:
                raise OSError(errno.ETIMEDOUT, "Connection timed out")

            broken.setattr(storage, "put", fail)
            time.sleep(0.4)
            mine.check()
            time.sleep(0.4)
            with pytest.raises(WorkspaceError, match=r"Connection timed out.*may have taken over.*same command again"):
                mine.check()
        time.sleep(0.2)
        assert not mine.held()
        with pytest.raises(WorkspaceError, match="kept alive"):
            mine.check()
    assert not Owner.read(root / "lock.1").released


def test_a_driver_that_slept_is_lost_whatever_the_clock_says(
    root: UPath, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A suspended machine, or a stopped process: the heartbeat must not be the first to wake and hide it."""
    slept = 0.0
    real = time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda which: real(which) + slept)
    with DriverLock(root) as mine:
        monkeypatch.setattr(time, "time", lambda: 4e9)
        until(lambda: counter(root) > 1)
        mine.check()
        slept = 61.0
        time.sleep(0.3)
        with pytest.raises(WorkspaceError, match="this process stood still"):
            mine.check()
    if hasattr(time, "CLOCK_BOOTTIME"):
        assert lock._CLOCK == time.CLOCK_BOOTTIME


def test_a_write_that_hung_is_no_beat(root: UPath, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LOST_SECONDS", 0.5)
    real = storage.put
    with DriverLock(root) as mine:

        def put(path: UPath, data: bytes) -> None:
            time.sleep(0.9)
            real(path, data)

        monkeypatch.setattr(storage, "put", put)
        until(lambda: counter(root) > 0)
        with pytest.raises(WorkspaceError, match="kept alive"):
            mine.check()


def test_two_drivers_never_own_a_workspace_whose_lock_was_deleted(root: UPath, quick: None) -> None:
    first = DriverLock(root).__enter__()
    (root / "lock.1").unlink()
    with DriverLock(root) as second:
        time.sleep(0.3)
        with pytest.raises(WorkspaceError, match="its lock was deleted"):
            first.check()
        second.check()
        first.__exit__(None, None, None)
        assert not Owner.read(root / "lock.1").released


def test_a_lock_that_fails_for_a_moment_is_asked_again(root: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    real, left = lock.generations, [2]

    def generations(folder: UPath) -> list[int]:
        if left[0]:
            left[0] -= 1
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(folder)

    monkeypatch.setattr(lock, "generations", generations)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with DriverLock(root) as mine:
        assert mine.held()


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EIO])
def test_a_folder_that_cannot_be_written_is_one_sentence(
    root: UPath, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(*_: object) -> bool:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(storage, "put_new", fail)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(WorkspaceError, match=rf"cannot be written: .*{os.strerror(code)}.*--workspace"):
        DriverLock(root).__enter__()


def test_without_proc_a_process_that_is_there_is_watched_and_never_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "_PROC", tmp_path / "none")
    monkeypatch.setattr(owners.uuid, "getnode", lambda: 0x001122334455)
    who = Owner.me()
    assert who.boot == "card 001122334455"
    assert who.lives() is True
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: 5.0)
    assert who.lives() is None, "its start moves with the clock"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert who.model_copy(update={"pid": gone.pid}).lives() is False
    monkeypatch.setattr(owners.uuid, "getnode", lambda: 1 << 40)
    assert who.lives() is None
    assert Owner.me().model_copy(update={"pid": gone.pid}).lives() is None, "no card: no machine is told from another"


def test_processes_that_are_hidden_are_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    who = owner()
    (tmp_path / "self").symlink_to("1")
    monkeypatch.setattr(owners, "_here", lambda: (who.boot, who.namespace))
    monkeypatch.setattr(owners, "_PROC", tmp_path)
    assert who.lives() is None, "another namespace's /proc"
    (tmp_path / "self").unlink()
    (tmp_path / "self").symlink_to(str(os.getpid()))
    assert who.lives() is None, "hidepid"


def test_a_driver_whose_lock_was_deleted_says_so_however_late(
    root: UPath, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DriverLock(root) as mine:
        (root / "lock.1").unlink()
        wait(lambda: not mine._beat.is_alive(), 10)
        monkeypatch.setattr(lock, "LOST_SECONDS", 0)
        with pytest.raises(WorkspaceError, match=r"it is another driver's, or was deleted"):
            mine.check()
