"""What the command line does where nobody reads it, or nothing can be written."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dfloc import screen
from tests.command import DFLOC, fresh

LONG = """
import sys
from dfloc import cli
from dfloc.cli import group
group.run = lambda: [print("line", number, flush=True) for number in range(9)] and 7
sys.argv = ["dfloc", "sweep", "anything"]
cli.main()
"""


def shell(line: str) -> tuple[int, str, str]:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, env=fresh(), timeout=100
    )
    return done.returncode, done.stdout, done.stderr


def test_a_reader_that_ends_ends_output_alone() -> None:
    code, out, err = shell(f"{DFLOC} list | head -1")
    assert (code, out, err) == (0, "sweeps:\n", "")
    assert shell(f"{DFLOC} list | true")[::2] == (0, "")
    assert shell(f"{DFLOC} list nonesuch 2>&1 >/dev/null | true")[0] == 2


def test_a_full_disk_is_one_sentence_and_an_exit_code() -> None:
    code, _, err = shell(f"{DFLOC} list > /dev/full")
    assert code == 2
    assert err == "Error: standard output cannot be written (No space left on device); the rest of it is lost\n"
    assert shell(f"{DFLOC} list > /dev/full 2> /dev/full")[0] == 2


@pytest.mark.parametrize("how", ["> /dev/full", "| true", ">&-", "2>&- | true", "< /dev/null >&- 2>&-"])
def test_work_ends_with_its_own_code_whatever_becomes_of_its_output(how: str, tmp_path: Path) -> None:
    script = tmp_path / "long.py"
    script.write_text(LONG)
    code, _, err = shell(f"{sys.executable} {script} {how}")
    assert code == 7
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


def test_closed_descriptors_are_not_given_to_files() -> None:
    code, out, err = shell(f"{DFLOC} list sweeps >&- 2>&-")
    assert (code, out, err) == (0, "", "")
    opens = "from dfloc import screen; screen.occupy(); import os; n = os.open('/', 0); os._exit(n)"
    assert shell(f'{sys.executable} -c "{opens}" >&- 2>&- <&-')[0] == 3


def test_what_is_dropped_counts_as_written() -> None:
    told: list[OSError] = []
    reading, writing = os.pipe()
    os.close(reading)
    gone = screen._Raw(writing, told.append)
    assert gone.write(b"12345") == 5
    assert told == []
    full = screen._Raw(os.open("/dev/full", os.O_WRONLY), told.append)
    assert full.write(b"12345") == 5
    assert [error.errno for error in told] == [errno.ENOSPC]


def test_a_slow_reader_gets_everything() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    size = 1 << 18
    if not os.fork():
        os.close(reading)
        screen._Raw(writing, lambda error: os._exit(1)).write(b"x" * size)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        assert len(file.read()) == size
    assert os.wait()[1] == 0


def test_a_sentence_is_broken_at_the_width_of_a_terminal_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = "- 16 images lift IoU on the new generator from 0.33 to 0.81; fine-tuning forgets"
    assert screen.wrapped(sentence) == sentence
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    assert screen.wrapped(sentence).splitlines() == [
        "- 16 images lift IoU on the new",
        "  generator from 0.33 to 0.81;",
        "  fine-tuning forgets",
    ]
    path = f"report: /{'a' * 50}/index.html    compare: dfloc ui"
    assert screen.wrapped(path) == path
