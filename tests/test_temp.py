import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dfloc import temp
from dfloc.errors import ConfigError
from dfloc.temp import TempFolder

HOLDS = "from dfloc.temp import TempFolder; folder = TempFolder(); print(folder.path, flush=True); input()"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's temp folder."""
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(temp, "MAX_BYTES", len(str(tmp_path)))
    return tmp_path


def test_it_is_ours_alone_and_gone_afterwards(place: Path) -> None:
    first, second = TempFolder(), TempFolder()
    assert {first.path.parent, second.path.parent} == {place}
    assert first.path != second.path
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o700
    (first.path / "some" / "thing").mkdir(parents=True)
    first.remove()
    assert list(place.iterdir()) == [second.path]
    second.remove()


def test_a_place_that_is_too_long_or_cannot_be_written_is_not_used(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temp, "MAX_BYTES", len(str(tmp_path)) - 1)
    made = TempFolder()
    assert made.path.parent in (Path("/tmp"), Path("/var/tmp"))
    made.remove()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "gone"))
    monkeypatch.setattr(temp, "MAX_BYTES", 3)
    with pytest.raises(ConfigError, match=rf"at most 3 bytes, .* none of {tmp_path}/gone, {tmp_path}, .*; name one by"):
        TempFolder()


def test_sockets_have_room_below_the_longest_place() -> None:
    below = "/dfloc-abcdefgh/r/session_2026-11-28_21-34-27_123456_4194304/sockets/plasma_store"
    assert temp.MAX_BYTES + len(below) <= 107


def test_what_a_killed_process_left_is_removed_and_nothing_else(place: Path) -> None:
    others = [place / "dfloc-results", place / "dfloc-notes.txt"]
    others[0].mkdir()
    others[1].write_text("mine")
    piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    env = os.environ | {"PYTHONPATH": str(Path(temp.__file__).parent.parent)}
    code = f"from dfloc import temp; temp.MAX_BYTES = 999; {HOLDS}"
    dead, alive = (subprocess.Popen([sys.executable, "-c", code], env=env, **piped) for _ in range(2))
    try:
        held = [Path(process.stdout.readline().strip()) for process in (dead, alive) if process.stdout]
        (held[0] / "r").mkdir()
        linked = place / "dfloc-linked"
        linked.symlink_to(held[0], target_is_directory=True)
        dead.send_signal(signal.SIGKILL)
        dead.wait()
        assert held[0].is_dir()
        mine = TempFolder()
        assert set(place.iterdir()) == {*others, held[1], mine.path, linked}
        assert linked.is_symlink()
    finally:
        for process in (dead, alive):
            process.kill()
            process.communicate()


def test_one_that_was_left_goes_with_the_next(place: Path) -> None:
    first = TempFolder()
    first.leave()
    assert first.path.is_dir()
    second = TempFolder()
    assert list(place.iterdir()) == [second.path]


def test_one_that_was_left_goes_also_without_a_next_one(place: Path) -> None:
    TempFolder().leave()
    temp.clear()
    assert list(place.iterdir()) == []
