"""A finished study's command says the same again without looking further, until a file is another."""

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from upath import UPath

from dfloc import registry
from dfloc.lock import DriverLock
from dfloc.plugin import Plugin
from dfloc.sweep import settled

RESTS = ("trials/a", "trials/b", "sweeps/s")
MAKES = ("reports/s", "mlflow.db")
SAID = ("s: 2 trials, 2 done, 0 to run", "done, 0 to run")


def note(asked: dict[str, Any], rests: Sequence[str] = RESTS, said: Sequence[str] = SAID) -> None:
    settled.keep(asked, said, rests, MAKES, settled.seen(asked, rests, settle=True))


def notes(asked: dict[str, Any]) -> list[Path]:
    return sorted((Path(asked["workspace"]) / "settled").iterdir())


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A command whose study is finished, noted."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / "workspace"
    files = ("trials/a/done.json", "trials/a/rows/1.parquet", "trials/b/done.json", "sweeps/s/plan.json")
    for name in (*files, "reports/s/index.html", "mlflow.db"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    given = {"name": "exposure", "workspace": str(root), "settings": ("trial.epochs=2",), "own": (), "seeds": None}
    note(given)
    return given


def test_says_the_same_while_nothing_changes_and_however_trials_would_run(asked: dict[str, Any]) -> None:
    assert settled.lines(asked) == SAID
    assert settled.lines(asked | {"max_concurrent": 1, "wait": True, "gpus_per_trial": 0.5}) == SAID


@pytest.mark.parametrize(
    "change",
    [
        {"settings": ("trial.epochs=3",)},
        {"name": "losses"},
        {"seeds": 2},
        {"limit": 8},
        {"only": ("base",)},
        {"data": "elsewhere"},
        {"own": ("a/b=DIR,fake=white",)},
        {"tracking": "http://127.0.0.1:1"},
    ],
)
def test_another_question_is_looked_into(asked: dict[str, Any], change: dict[str, Any]) -> None:
    assert settled.lines(asked | change) is None


@pytest.mark.parametrize(
    "name",
    [
        "trials/a/done.json",
        "trials/a/rows/1.parquet",
        "sweeps/s/plan.json",
        "reports/s/index.html",
        "mlflow.db",
    ],
)
@pytest.mark.parametrize("how", ["other bytes of one length", "gone", "put anew"])
def test_a_file_that_changed_is_looked_into(asked: dict[str, Any], name: str, how: str) -> None:
    path = Path(asked["workspace"]) / name
    before = path.stat()
    if how == "put anew":
        twin = path.with_name("twin")
        twin.write_bytes(path.read_bytes())
        twin.replace(path)
    elif how == "gone":
        path.unlink()
    else:
        path.write_text(name.upper())
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # whoever hides it cannot set the time of change
    assert settled.lines(asked) is None


@pytest.mark.parametrize("name", ["trials/b/failed.json", "trials/a/rows/2.parquet", "reports/s/more.csv"])
def test_a_file_that_came_is_looked_into(asked: dict[str, Any], name: str) -> None:
    (Path(asked["workspace"]) / name).write_text("new")
    assert settled.lines(asked) is None


@pytest.mark.parametrize("name", ["trials/b/done.json", "trials/b/failed.json", "sweeps/s/starts/1.json"])
def test_what_changes_while_it_is_read_is_not_noted(asked: dict[str, Any], name: str) -> None:
    [before] = notes(asked)
    before.unlink()
    seen = settled.seen(asked, RESTS, settle=True)
    path = Path(asked["workspace"]) / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("now")
    settled.keep(asked, SAID, RESTS, MAKES, seen)
    assert notes(asked) == []


def test_what_has_just_changed_is_looked_at_again_until_a_later_change_would_show(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settled, "TICK_SECONDS", 0.3)
    before = time.time()
    (Path(asked["workspace"]) / "trials/b/done.json").write_text("now")
    settled.seen(asked, RESTS, settle=True)
    assert 0.3 <= time.time() - before < 2


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"lines": ["other"]}', b"\xff" * 100])
def test_a_damaged_note_stops_nobody(asked: dict[str, Any], content: bytes) -> None:
    [path] = notes(asked)
    path.write_bytes(content)
    assert settled.lines(asked) is None


def test_a_changed_line_of_a_note_is_not_said(asked: dict[str, Any]) -> None:
    [path] = notes(asked)
    path.write_text(path.read_text().replace("2 trials", "9 trials"))
    assert settled.lines(asked) is None


def test_other_code_or_another_store_looks_further(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(registry, "plugins", lambda: (Plugin("my.py", "DECODERS = {}"),))
        assert settled.lines(asked) is None
    with monkeypatch.context() as patch:
        patch.setattr("dfloc.__file__", str(Path(asked["workspace"]) / "__init__.py"))
        assert settled.lines(asked) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert settled.lines(asked) is None


def test_a_thousand_trials_are_looked_at_within_a_second(tmp_path: Path) -> None:
    names = [f"trials/{number:064x}" for number in range(1000)]
    for name in names:
        folder = tmp_path / name
        for below in ("attempts/0", "rows"):
            (folder / below).mkdir(parents=True)
        for file in ("done.json", *(f"rows/{n}.parquet" for n in range(8)), "attempts/0/best.safetensors"):
            (folder / file).touch()
    given = {"name": "exposure", "workspace": str(tmp_path)}
    note(given, names)
    before = time.process_time()
    assert settled.lines(given) == SAID
    assert time.process_time() - before < 1


@pytest.mark.parametrize("how", ["other folder", "other home", "other Ray"])
def test_what_names_are_understood_by_is_part_of_the_question(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "other folder":
        monkeypatch.chdir(tmp_path)
    else:
        monkeypatch.setenv("HOME" if how == "other home" else "RAY_ADDRESS", str(tmp_path))
    assert settled.lines(asked) is None


def test_options_that_are_wrong_are_looked_into(asked: dict[str, Any]) -> None:
    for change in ({"tracking": ""}, {"data": ""}, {"address": "ray://head:10001"}, {"new_identity": True}):
        assert settled.lines(asked | change) is None


def test_data_behind_a_link_that_points_elsewhere_or_is_gone(asked: dict[str, Any], tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "data").symlink_to("one")
    given = asked | {"data": str(tmp_path / "data")}
    note(given)
    assert settled.lines(given) == SAID
    (tmp_path / "one").rename(tmp_path / "away")
    assert settled.lines(given) is None
    (tmp_path / "away").rename(tmp_path / "one")
    assert settled.lines(given) == SAID
    (tmp_path / "data").unlink()
    (tmp_path / "data").symlink_to("two")
    assert settled.lines(given) is None


def test_a_moved_or_copied_workspace_is_looked_into(asked: dict[str, Any], tmp_path: Path) -> None:
    root = Path(asked["workspace"])
    shutil.copytree(root, tmp_path / "copy")
    assert settled.lines(asked | {"workspace": str(tmp_path / "copy")}) is None
    root.rename(tmp_path / "moved")
    assert settled.lines(asked | {"workspace": str(tmp_path / "moved")}) is None
    (tmp_path / "copy").rename(root)
    assert settled.lines(asked) is None, "another one in its place"


def test_links_that_lead_back_are_looked_at_once(asked: dict[str, Any]) -> None:
    root = Path(asked["workspace"])
    for number in range(12):
        (root / "trials/a" / f"{number}").symlink_to("..")
    before = time.process_time()
    note(asked)
    assert settled.lines(asked) == SAID
    assert time.process_time() - before < 1


def test_a_driver_at_work_is_not_passed_by(asked: dict[str, Any]) -> None:
    with DriverLock(UPath(asked["workspace"])):
        assert settled.lines(asked) is None
    assert settled.lines(asked) == SAID


def test_the_notes_do_not_grow_without_bound(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("dfloc.__version__", "other code")
        note(asked)
    assert len(notes(asked)) == 1, "one of each command, whatever code it was"
    for number in range(settled.MAX_NOTES + 5):
        note(asked | {"seeds": number + 1})
    assert len(notes(asked)) == settled.MAX_NOTES
    assert settled.lines(asked | {"seeds": settled.MAX_NOTES + 5}) == SAID


@pytest.mark.parametrize("where", ["a file in its place", "no leave"])
def test_where_nothing_can_be_noted_no_command_ends(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    root = Path(asked["workspace"])
    shutil.rmtree(root / "settled")
    if where == "no leave":
        monkeypatch.setattr("dfloc.storage.put", Mock(side_effect=PermissionError("no leave")))
    else:
        (root / "settled").write_text("")
    note(asked)
    assert settled.lines(asked) is None
