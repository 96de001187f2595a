"""A finished study's command says the same again without looking further, until a file is another."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from dfloc import registry
from dfloc.plugin import Plugin
from dfloc.sweep import settled

RESTS = ("trials/a", "trials/b", "sweeps/s")
MAKES = ("reports/s", "mlflow.db")
SAID = ("s: 2 trials, 2 done, 0 to run", "done, 0 to run")


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
    monkeypatch.setattr(settled, "FRESH_SECONDS", 0.1)
    time.sleep(0.2)
    given = {"name": "exposure", "workspace": str(root), "settings": ("trial.epochs=2",), "own": (), "seeds": None}
    settled.keep(given, SAID, RESTS, MAKES)
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


def test_what_changed_a_moment_ago_is_not_noted(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "FRESH_SECONDS", 1.0)
    (Path(asked["workspace"]) / "trials/b/done.json").write_text("now")
    settled.keep(asked, SAID, RESTS, MAKES)
    assert settled.lines(asked) is None
    (Path(asked["workspace"]) / "reports/s/index.html").write_text("a page is always made last")
    time.sleep(settled.FRESH_SECONDS + 0.2)
    settled.keep(asked, SAID, RESTS, MAKES)
    assert settled.lines(asked) == SAID


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"lines": ["other"]}', b"\xff" * 100])
def test_a_damaged_note_stops_nobody(asked: dict[str, Any], content: bytes) -> None:
    [note] = (Path(asked["workspace"]) / "settled").iterdir()
    note.write_bytes(content)
    assert settled.lines(asked) is None


def test_a_changed_line_of_a_note_is_not_said(asked: dict[str, Any]) -> None:
    [note] = (Path(asked["workspace"]) / "settled").iterdir()
    note.write_text(note.read_text().replace("2 trials", "9 trials"))
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


def test_a_thousand_trials_are_looked_at_within_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "FRESH_SECONDS", 0.1)
    names = [f"trials/{number:064x}" for number in range(1000)]
    for name in names:
        folder = tmp_path / name
        for below in ("attempts/0", "rows"):
            (folder / below).mkdir(parents=True)
        for file in ("done.json", *(f"rows/{n}.parquet" for n in range(8)), "attempts/0/best.safetensors"):
            (folder / file).touch()
    given = {"name": "exposure", "workspace": str(tmp_path)}
    time.sleep(settled.FRESH_SECONDS + 0.2)
    settled.keep(given, SAID, names, ())
    before = time.process_time()
    assert settled.lines(given) == SAID
    assert time.process_time() - before < 1
