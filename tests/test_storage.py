import errno
import os
import pickle
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import fsspec
import pyarrow as pa
import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from upath import UPath

from dfloc import disk, storage
from dfloc.errors import DiskFullError, WorkspaceError
from dfloc.ledger import Ledger
from dfloc.lock import DriverLock
from dfloc.owner import Owner
from dfloc.storage import Workspace
from tests.test_ledger import make_spec, records


def test_put_replaces_whole_and_leaves_no_scratch(tmp_path: Path) -> None:
    path = UPath(tmp_path / "a" / "file")
    storage.put(path, b"old")
    storage.put(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_put_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = UPath(tmp_path / "file")
    storage.put(path, b"old")

    def full(self: Path, target: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        storage.put(path, b"new")
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("root", ["file", "memory"])
def test_put_new_creates_once(tmp_path: Path, root: str) -> None:
    path = UPath(tmp_path / "x") if root == "file" else UPath("memory://workspace/x")
    path.unlink(missing_ok=True)
    assert storage.put_new(path, b"first")
    assert not storage.put_new(path, b"second")
    assert path.read_bytes() == b"first"


def test_of_many_that_create_at_once_one_wins(tmp_path: Path) -> None:
    path = UPath(tmp_path / "x")
    won: list[int] = []
    threads = [
        threading.Thread(target=lambda k=k: won.append(k) if storage.put_new(path, str(k).encode()) else None)
        for k in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert path.read_bytes() == str(won[0]).encode()


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe"])
def test_broken_json_is_named(tmp_path: Path, content: bytes) -> None:
    path = UPath(tmp_path / "spec.json")
    path.write_bytes(content)
    with pytest.raises(WorkspaceError, match=r"spec\.json is no JSON"):
        storage.get_json(path)


def test_json_round_trip_and_no_nan(tmp_path: Path) -> None:
    path = UPath(tmp_path / "x.json")
    storage.put_json(path, {"b": [1, 2.5], "a": "ü"})
    assert storage.get_json(path) == {"a": "ü", "b": [1, 2.5]}
    with pytest.raises(ValueError, match="JSON compliant"):
        storage.put_json(path, float("nan"))


def test_workspace_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match="is a file, not a folder; name another by --workspace"):
        Workspace(tmp_path / "file")
    with pytest.raises(WorkspaceError, match="cannot make workspace"):
        Workspace(tmp_path / "file" / "below")


def test_workspace_is_absolute_and_made_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not Workspace("w", create=False).root.exists()
    assert str(Workspace("w").root) == str(tmp_path / "w")
    assert Workspace("w").tracking_uri == f"sqlite:///{tmp_path}/w/mlflow.db"


def test_object_stores_are_not_memory_mapped(tmp_path: Path) -> None:
    assert storage.local(UPath(tmp_path)) == tmp_path
    with pytest.raises(WorkspaceError, match="cannot be memory-mapped"):
        storage.local(UPath("memory://workspace/x.npy"))


@pytest.mark.parametrize("name", ["", "  ", "foo://x"])
def test_workspace_that_is_no_place_is_refused(name: str) -> None:
    with pytest.raises(WorkspaceError, match="workspace"):
        Workspace(name, create=False)


def test_a_damaged_model_is_named(tmp_path: Path) -> None:
    path = UPath(tmp_path / "lock.1")
    path.write_text("{}")
    with pytest.raises(WorkspaceError, match=r"lock\.1 is damaged: Field required"):
        storage.get_model(Owner, path)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the operating system is asked for, in order: what is synced, renamed, linked."""
    seen: list[str] = []
    real = {name: getattr(os, name) for name in ("fsync", "replace", "rename", "link")}

    def fsync(handle: int) -> None:
        place = Path(f"/proc/self/fd/{handle}").readlink()
        seen.append(f"sync {'data' if stat.S_ISREG(os.fstat(handle).st_mode) else place.name}")
        real["fsync"](handle)

    def named(what: str) -> None:
        def call(source: object, target: object, **how: object) -> None:
            if not disk.SCRATCH.fullmatch(Path(str(target)).name):
                seen.append(f"{what} {Path(str(target)).name}")
            real[what](source, target, **how)

        monkeypatch.setattr(os, what, call)

    monkeypatch.setattr(os, "fsync", fsync)
    for what in ("replace", "rename", "link"):
        named(what)
    return seen


def test_data_are_on_the_disk_before_their_name_and_the_name_before_put_returns(
    tmp_path: Path, calls: list[str]
) -> None:
    (tmp_path / "kept").touch()
    storage.put(UPath(tmp_path / "there"), b"1")
    assert [call.replace("rename", "replace") for call in calls] == [
        "sync data",
        "replace there",
        f"sync {tmp_path.name}",
    ]
    calls.clear()
    assert storage.put_new(UPath(tmp_path / "new"), b"1")
    assert calls == ["sync data", "link new", f"sync {tmp_path.name}"]


def test_a_new_folder_is_on_the_disk_before_anything_in_it(tmp_path: Path, calls: list[str]) -> None:
    (tmp_path / "kept").touch()
    storage.put(UPath(tmp_path / "a" / "b" / "file"), b"1")
    assert calls[:3] == [f"sync {tmp_path.name}", "sync a", "sync data"]
    assert calls[-1] == "sync b"
    calls.clear()
    Workspace(tmp_path / "c" / "d")
    assert calls == [f"sync {tmp_path.name}", "sync c"]


@pytest.mark.parametrize("below", ["file", "c/file"])
def test_the_name_of_a_folder_whose_maker_died_is_on_the_disk_before_anything_in_it(
    tmp_path: Path, calls: list[str], below: str
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    storage.put(UPath(tmp_path / "a" / "b" / below), b"1")
    assert calls.index("sync a") < calls.index("sync data")
    calls.clear()
    storage.put(UPath(tmp_path / "a" / "b" / below), b"2")
    assert "sync a" not in calls, "it holds something by now"


def test_the_ledger_puts_data_before_the_name_that_announces_them(tmp_path: Path, calls: list[str]) -> None:
    ledger = Ledger(Workspace(tmp_path))
    attempt = ledger.begin(make_spec())
    attempt.save_epoch(b"state", records(1))
    attempt.finish(b"best", b"last", 1, {})
    ledger.put_rows(make_spec().fingerprint, "k", pa.table({"id": ["a"]}))
    names = [call.split()[1] for call in calls if call.split()[0] in ("rename", "replace", "link")]
    kinds = ["spec.json", "epochs.jsonl", ".state", "epochs.jsonl", "best.safetensors", "last.safetensors"]
    assert [name if name in kinds else Path(name).suffix for name in names] == [*kinds, ".json", ".parquet"]
    assert names[6:] == ["done.json", "k.parquet"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_cannot_sync_a_folder_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    real = os.fsync

    def fsync(handle: int) -> None:
        if Path(f"/proc/self/fd/{handle}").is_dir():
            raise OSError(code, os.strerror(code))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    storage.put(UPath(tmp_path / "x"), b"1")
    assert (tmp_path / "x").read_bytes() == b"1"
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(errno.EIO, "I/O error")))
    with pytest.raises(OSError, match="I/O error"):
        storage.put(UPath(tmp_path / "x"), b"2")
    assert (tmp_path / "x").read_bytes() == b"1"


def test_a_file_system_without_hard_links_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(source: object, target: object, **how: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(WorkspaceError, match=r"no hard links \(Operation not permitted\).* another one by --workspace"):
        storage.put_new(UPath(tmp_path / "x"), b"1")
    with pytest.raises(WorkspaceError, match="no hard links"), DriverLock(UPath(tmp_path)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_link_whose_answer_was_lost_was_made_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def link(source: str, target: str, **how: int) -> None:
        real(source, target, **how)
        if not how:
            real(source, target)  # NFS asks again, and is told that the file exists

    monkeypatch.setattr(os, "link", link)
    assert storage.put_new(UPath(tmp_path / "x"), b"mine")
    assert (tmp_path / "x").read_bytes() == b"mine"
    assert not storage.put_new(UPath(tmp_path / "x"), b"yours")


class Exclusive(MemoryFileSystem):
    """A store that creates exclusively, as S3 does."""

    protocol = "exclusive"
    store: ClassVar[dict[str, object]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    lock = threading.Lock()

    def exists(self, path: str, **how: object) -> bool:
        there = super().exists(path, **how)
        time.sleep(0.002)  # in which others come
        return bool(there)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **how: object) -> None:
        with self.lock:
            super().pipe_file(path, value, mode, **how)


class LooksFirst(Exclusive):
    """One that looks and then writes: of many that create at once, all win."""

    protocol = "looksfirst"
    store: ClassVar[dict[str, object]] = {}

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **how: object) -> None:
        if mode == "create" and self.exists(path):
            raise FileExistsError(path)
        time.sleep(0.02)
        super().pipe_file(path, value)


class Overwrites(Exclusive):
    """One that does not know what create means."""

    protocol = "overwrites"
    store: ClassVar[dict[str, object]] = {}

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **how: object) -> None:
        super().pipe_file(path, value)


class Unknowing(Exclusive):
    """One that leaves creating to fsspec, which looks first."""

    protocol = "unknowing"
    store: ClassVar[dict[str, object]] = {}
    pipe_file = AbstractFileSystem.pipe_file


class Broken(Exclusive):
    """One that cannot be written."""

    protocol = "broken"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **how: object) -> None:
        raise TimeoutError("no answer")


@pytest.fixture
def stores() -> None:
    for kind in (Exclusive, LooksFirst, Overwrites, Unknowing, Broken):
        fsspec.register_implementation(kind.protocol, kind, clobber=True)


@pytest.mark.filterwarnings("ignore:UPath")
def test_a_store_is_a_workspace_if_it_creates_exclusively(stores: None) -> None:
    for kind in (LooksFirst, Overwrites, Unknowing):
        with pytest.raises(WorkspaceError, match=rf"{kind.protocol}://w cannot be a workspace: .* exclusively"):
            Workspace(f"{kind.protocol}://w")
    with pytest.raises(WorkspaceError, match=r"cannot be written \(TimeoutError: no answer\)"):
        Workspace("broken://w")
    root = Workspace("exclusive://w").root
    assert list(root.iterdir()) == [], "the probe leaves nothing behind"
    assert root.fs.storage_options == {"use_listings_cache": False}


@pytest.mark.filterwarnings("ignore:UPath")
def test_of_many_that_create_in_a_store_at_once_one_wins(stores: None) -> None:
    root = Workspace("exclusive://w").root
    for key in range(10):
        with ThreadPoolExecutor(16) as pool:
            won = list(pool.map(lambda k, key=key: storage.put_new(root / f"x{key}", str(k).encode()), range(16)))
        assert won.count(True) == 1
        assert (root / f"x{key}").read_bytes() == str(won.index(True)).encode()


def test_a_record_that_was_sealed_is_what_was_written_or_damaged(tmp_path: Path) -> None:
    path, owner = UPath(tmp_path / "x.json"), Owner(host="ü", pid=12, started=3.5, counter=7)
    storage.put(path, storage.sealed(owner))
    assert storage.get_model(Owner, path) == owner
    data = path.read_bytes()
    outcomes = set()
    for place in range(len(data)):
        for bit in range(8):
            path.write_bytes(data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :])
            try:
                assert storage.get_model(Owner, path) == owner
                outcomes.add("the same")
            except WorkspaceError:
                outcomes.add("refused")
    assert "refused" in outcomes
    path.write_bytes(storage.json_bytes(owner.model_dump(mode="json")))
    assert storage.get_model(Owner, path) == owner, "an older one without a seal"


def test_a_record_that_is_bound_to_its_place_is_damaged_elsewhere(tmp_path: Path) -> None:
    owner = Owner(host="a", pid=12, started=3.5, counter=7)
    path, other = UPath(tmp_path / "one/x.json"), UPath(tmp_path / "two/x.json")
    storage.put(path, storage.sealed(owner, path))
    storage.put(other, path.read_bytes())
    assert storage.get_model(Owner, path) == owner
    with pytest.raises(WorkspaceError, match=r"two/x\.json is damaged: not what was written"):
        storage.get_model(Owner, other)
    moved = (tmp_path / "one").rename(tmp_path / "moved").rename(tmp_path / "new")
    (tmp_path / "elsewhere").mkdir()
    back = UPath(moved.rename(tmp_path / "elsewhere/one") / "x.json")
    assert storage.get_model(Owner, back) == owner, "the folders above do not matter"


@pytest.fixture(params=["a file without a name", "a scratch name"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Local file systems have files without a name; NFS has none."""
    if request.param == "a scratch name":
        monkeypatch.setattr(disk, "_nameless", lambda part, data: False)
    return str(request.param)


PUTS = pytest.mark.parametrize("put", [storage.put, storage.put_new])
CODES = [(errno.ENOSPC, "disk full"), (errno.EDQUOT, "disk quota used up"), (errno.EFBIG, "a file is larger than")]


@PUTS
@pytest.mark.parametrize("call", ["fsync", "write", "link", "replace", "open"])
@pytest.mark.parametrize(("code", "words"), [*CODES, (errno.EIO, "")])
def test_of_a_write_that_fails_nothing_stays_and_a_full_disk_is_one_sentence(
    put: Callable[[UPath, bytes], object],
    call: str,
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    path = UPath(tmp_path / "file")
    if put is storage.put:
        path.write_bytes(b"old")
    calls = {"replace": (Path if put is storage.put else os, "replace" if put is storage.put else "link")}
    place, name = calls.get(call, (os, call))
    real = getattr(place, name)

    def fail(*given: object, **how: object) -> object:
        if name == "open" and not str(given[0]).startswith(str(tmp_path)):
            return real(*given, **how)
        raise OSError(code, os.strerror(code))

    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    with monkeypatch.context() as broken:
        broken.setattr(place, name, fail)
        if (call, put) == ("link", storage.put) and (code == errno.EIO or way == "a scratch name"):
            put(path, b"new")
            before = {"file": b"new"}  # it renames, and does without a link
        else:
            with pytest.raises(DiskFullError if words else OSError) as told:
                put(path, b"new")
            text = rf"{re.escape(words)}.*: [\d.,]+ GB free on /.*; make room .*"
            assert re.fullmatch(text if words else rf".*{os.strerror(code)}.*", str(told.value))
            assert str(pickle.loads(pickle.dumps(told.value))) == str(told.value)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before


@PUTS
def test_of_a_write_that_is_killed_nothing_stays(put: Callable[[UPath, bytes], object], tmp_path: Path) -> None:
    code = f"""if True:
        import os, signal
        from upath import UPath
        from dfloc import storage
        os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
        storage.{put.__name__}(UPath({str(tmp_path / "file")!r}), b"x" * 1_000_000)
    """
    killed = subprocess.run([sys.executable, "-c", code], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


@PUTS
def test_both_ways_write_the_same(put: Callable[[UPath, bytes], object], tmp_path: Path, way: str) -> None:
    for data in (b"", b"x", bytes(3_000_000)):
        path = UPath(tmp_path / str(len(data)))
        put(path, data)
        assert path.read_bytes() == data
        assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()
        assert path.stat().st_nlink == 1
    assert len(list(tmp_path.iterdir())) == 3


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_scratch_file_that_cannot_be_deleted_hides_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: object, **how: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk, "_nameless", lambda part, data: False)
    monkeypatch.setattr(os, "fsync", fail)
    monkeypatch.setattr(Path, "unlink", fail)
    with pytest.raises(DiskFullError, match="disk full"):
        storage.put(UPath(tmp_path / "file"), b"x")


def test_a_full_disk_is_recognised_in_what_libraries_make_of_it(tmp_path: Path) -> None:
    system = OSError(errno.ENOSPC, "No space left on device")
    made = RuntimeError("could not save")
    made.__cause__ = system
    for error in (system, made, sqlite3.OperationalError("database or disk is full")):
        assert str(disk.full_disk(error, tmp_path)).startswith("disk full: ")
    assert disk.full_disk(OSError(errno.EIO, "I/O error"), tmp_path) is None
    assert disk.full_disk(None, tmp_path) is None


def test_scratch_files_that_are_older_are_cleared(tmp_path: Path) -> None:
    names = [".a.json.0123abcd.part", f".seen-{'0' * 32}", f".create-{'a' * 32}"]
    kept = [".a.part", "a.0123abcd.part", ".new.0123abcd.part", ".seen-12"]
    (tmp_path / "in" / "it").mkdir(parents=True)
    for name in [*names, *kept]:
        path = tmp_path / "in" / "it" / name
        path.touch()
        os.utime(path, (0, 2000 if "new" in name else 1000))
    disk.clear(tmp_path, 1500)
    assert {path.name for path in (tmp_path / "in" / "it").iterdir()} == set(kept)


def test_a_folder_in_a_files_place_is_said_and_put_aside(tmp_path: Path) -> None:
    path = UPath(tmp_path / "a.json")
    (tmp_path / "a.json" / "mine").mkdir(parents=True)
    with pytest.raises(WorkspaceError, match=r"a\.json cannot be read \(it is no file\); delete it, it is made again"):
        storage.get_json(path)
    storage.put(path, b"{}")
    assert storage.get_json(path) == {}
    assert [one.name for one in sorted(tmp_path.iterdir())] == ["a.json", "a.json.damaged"]
    assert (tmp_path / "a.json.damaged" / "mine").is_dir()
    assert storage.aside(path).name == "a.json.damaged.1"


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(4 << 40)
    with pytest.raises(WorkspaceError, match="4,398,046,511,104 bytes, of 1,073,741,824 at most"):
        storage.get_json(UPath(path))
