import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from upath import UPath

from dfloc import storage
from dfloc.errors import WorkspaceError
from dfloc.lock import DriverLock, Owner


def owner(**change: object) -> Owner:
    return Owner.me().model_copy(update=change)


def put(root: UPath, generation: int, who: Owner) -> None:
    storage.put_json(root / f"lock.{generation}", who.model_dump(mode="json"))


@pytest.fixture
def root(tmp_path: Path) -> UPath:
    return UPath(tmp_path)


def test_second_driver_is_refused_with_host_pid_and_start(root: UPath) -> None:
    with DriverLock(root), pytest.raises(WorkspaceError, match=r"host \S+, pid \d+, started 20\d\d-.*--wait"):
        DriverLock(root).__enter__()
    with DriverLock(root) as lock:
        assert lock.held()


def test_dead_owner_of_this_host_is_taken_over_at_once(root: UPath) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    put(root, 7, owner(pid=gone.pid))
    start = time.monotonic()
    with DriverLock(root):
        assert (root / "lock.8").exists()
    assert time.monotonic() - start < 5


def test_pid_that_was_given_anew_is_no_owner(root: UPath) -> None:
    put(root, 1, owner(started=psutil.Process().create_time() - 1000))
    with DriverLock(root) as lock:
        assert lock.held()


def test_owner_elsewhere_is_taken_over_when_its_counter_stands_still(root: UPath) -> None:
    put(root, 1, owner(host="elsewhere"))
    with DriverLock(root, stale_seconds=0.3) as lock:
        assert lock.held()


def test_owner_elsewhere_whose_counter_moves_is_left_alone(root: UPath) -> None:
    put(root, 1, owner(host="elsewhere"))
    beat = threading.Timer(0.3, put, (root, 1, owner(host="elsewhere", counter=1)))
    beat.start()
    with pytest.raises(WorkspaceError, match="host elsewhere"):
        DriverLock(root, stale_seconds=20).__enter__()
    beat.join()


def test_wait_waits_for_the_owner_to_end(root: UPath) -> None:
    first = DriverLock(root).__enter__()
    told: list[Owner] = []
    ending = threading.Timer(0.5, first.__exit__, (None, None, None))
    ending.start()
    with DriverLock(root, wait=True, on_wait=told.append) as lock:
        assert lock.held()
    assert [who.host for who in told] == [socket.gethostname()]
    ending.join()


def test_driver_that_was_taken_over_stops_before_its_next_write(root: UPath) -> None:
    with DriverLock(root) as lock:
        lock.check()
        put(root, 2, owner(host="elsewhere"))
        with pytest.raises(WorkspaceError, match="took over"):
            lock.check()
    assert not Owner.model_validate(storage.get_json(root / "lock.2")).released
