import json
import os
import shutil
import socket
from pathlib import Path

import pytest

from dfloc import identity, storage
from dfloc.errors import WorkspaceError
from dfloc.frozen import Frozen
from dfloc.identity import identify
from dfloc.storage import Workspace


@pytest.fixture
def first(tmp_path: Path) -> Path:
    identify(Workspace(tmp_path / "first"))
    return tmp_path / "first"


def id_of(root: Path) -> str:
    return str(json.loads((root / "workspace.json").read_bytes())["id"])


def test_a_workspace_gets_one_id_and_keeps_it(tmp_path: Path) -> None:
    (one, _), (again, _), (two, _) = (identify(Workspace(tmp_path / name)) for name in ("one", "one", "two"))
    assert one == again
    assert one.id != two.id
    assert (one.id, one.place) == (id_of(tmp_path / "one"), f"{socket.gethostname()}:{tmp_path}/one")
    assert identify(Workspace(tmp_path / "one"), new=True) == (one, None), "it has one of its own already"


def test_a_moved_one_is_the_same(first: Path, tmp_path: Path) -> None:
    before = id_of(first)
    moved = first.rename(tmp_path / "moved")
    found, original = identify(Workspace(moved))
    assert (found.id, found.path, original) == (before, str(moved), None)
    shutil.copytree(moved, first)
    assert identify(Workspace(moved)) == (found, None), "the place where it was once is forgotten"


def test_one_by_another_name_is_no_copy(first: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(first)
    found, original = identify(Workspace(tmp_path / "link"))
    assert (found.id, original) == (id_of(first), None)


@pytest.mark.parametrize("copy", [shutil.copy2, os.link])
def test_a_copy_is_told_until_it_has_its_own_id(first: Path, tmp_path: Path, copy: object) -> None:
    shutil.copytree(first, tmp_path / "copy", copy_function=copy)  # type: ignore[type-var]
    before = (first / "workspace.json").read_bytes()
    for _ in range(2):
        found, original = identify(Workspace(tmp_path / "copy"))
        assert (found.id, original) == (id_of(first), first)
    own, original = identify(Workspace(tmp_path / "copy"), new=True)
    assert (own.id != id_of(first), original) == (True, None)
    assert identify(Workspace(tmp_path / "copy")) == (own, None)
    assert identify(Workspace(tmp_path / "copy"), new=True) == (own, None), "the same command again changes nothing"
    assert (first / "workspace.json").read_bytes() == before
    assert identify(Workspace(first))[1] is None


def test_a_copy_whose_original_is_gone_was_moved(first: Path, tmp_path: Path) -> None:
    shutil.copytree(first, tmp_path / "copy")
    (first / "workspace.json").write_text("{}")
    found, original = identify(Workspace(tmp_path / "copy"))
    assert (found.path, original) == (str(tmp_path / "copy"), None)


def test_a_copy_that_ran_where_its_original_is_not_seen_gets_its_own_id_when_asked(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = identify(Workspace(first))[0]
    shutil.copytree(first, tmp_path / "copy")
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    monkeypatch.setattr("dfloc.identity._still_at", lambda *_: None)
    assert identify(Workspace(tmp_path / "copy"))[0].id == before.id, "it may have been moved"
    own = identify(Workspace(tmp_path / "copy"), new=True)[0]
    assert own.id != before.id
    assert identify(Workspace(tmp_path / "copy"), new=True) == (own, None), "the same command again changes nothing"


def test_equal_paths_on_two_machines(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = id_of(first)
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    assert identify(Workspace(first))[0].place == f"elsewhere:{first}"
    assert id_of(first) == before
    monkeypatch.setattr(socket, "gethostname", lambda: "third")
    assert identify(Workspace(first), new=True)[0].id != before


def test_a_copy_that_ran_on_another_machine_gets_its_own_id_when_it_is_told(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(first, tmp_path / "copy")
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    before = id_of(first)
    first.rename(tmp_path / "not to be seen from there")
    assert identify(Workspace(tmp_path / "copy"))[0].id == before
    own, original = identify(Workspace(tmp_path / "copy"), new=True)
    assert (own.id != before, original) == (True, None)
    assert identify(Workspace(tmp_path / "copy"), new=True) == (own, None), "the same command again changes nothing"


def test_an_identity_that_does_not_say_where_it_was_given_is_read_and_replaced_once(first: Path) -> None:
    class Old(Frozen):
        id: str
        host: str
        path: str

    old = Old(id="0" * 32, host=socket.gethostname(), path=str(first))
    (first / "workspace.json").write_bytes(storage.sealed(old))
    assert identify(Workspace(first))[0].id == old.id == id_of(first)
    own, _ = identify(Workspace(first), new=True)
    assert own.id != old.id
    assert identify(Workspace(first), new=True) == (own, None)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": "x"}', '{"id": "x", "host": "h", "path": "/p"}', "\0"])
def test_a_damaged_identity_is_an_error(first: Path, text: str) -> None:
    (first / "workspace.json").write_text(text)
    with pytest.raises(WorkspaceError, match=r"workspace\.json .*put it back from a backup; or delete it") as told:
        identify(Workspace(first))
    assert "\n" not in str(told.value)
    assert identity.CURE in str(told.value)


def test_another_s_identity_file_in_its_place(first: Path, tmp_path: Path) -> None:
    told = json.loads((first / "workspace.json").read_bytes()) | {"path": f"{tmp_path}/else"}
    (first / "workspace.json").write_text(json.dumps(told))
    with pytest.raises(WorkspaceError, match="not what was written"):
        identify(Workspace(first))
