import threading
from pathlib import Path

import pytest
from upath import UPath

from dfloc import storage
from dfloc.errors import WorkspaceError
from dfloc.lock import Owner
from dfloc.storage import Workspace


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
