import errno
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dfloc.logfile import LogFile


@pytest.fixture
def chatterer() -> Iterator[logging.Logger]:
    logger = logging.getLogger("a.library.that.chatters")
    logger.propagate = False
    yield logger
    for handler in logger.handlers:
        handler.close()
    logger.handlers = []


def test_lines_are_appended_with_time_and_name_and_the_file_is_made_by_the_first(
    tmp_path: Path, chatterer: logging.Logger
) -> None:
    path = tmp_path / "logs" / "x.log"
    for number in range(2):
        chatterer.handlers = [LogFile(path)]
        assert path.exists() == bool(number)
        chatterer.warning("line %d of \udcff", number)
    assert [line.partition(" WARNING ")[2] for line in path.read_text().splitlines()] == [
        f"a.library.that.chatters: line {number} of \\udcff" for number in range(2)
    ]


def test_a_line_that_cannot_be_put_together_is_written_as_it_is(
    tmp_path: Path, chatterer: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    chatterer.handlers = [LogFile(tmp_path / "x.log")]
    chatterer.warning("%d apples", "no number")
    assert "'%d apples'" in (tmp_path / "x.log").read_text()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("code", "said"), [(errno.ENOSPC, 0), (errno.EDQUOT, 0), (errno.EIO, 1)])
def test_a_file_that_cannot_be_written_costs_its_lines_alone(
    tmp_path: Path,
    chatterer: logging.Logger,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    code: int,
    said: int,
) -> None:
    chatterer.handlers = [LogFile(tmp_path / "x.log")]
    chatterer.warning("first")
    with monkeypatch.context() as broken:

        def fail(*_: object) -> int:
            raise OSError(code, os.strerror(code))

        broken.setattr(os, "write", fail)
        for _ in range(3):
            chatterer.warning("lost")
    chatterer.warning("last")
    text = (tmp_path / "x.log").read_text()
    assert "first" in text
    assert "last" in text
    assert "lost" not in text
    assert len([line for line in caplog.messages if "its lines are lost" in line]) == said
    assert "Logging error" not in capfd.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_prints_no_traceback_at_the_end_either(tmp_path: Path) -> None:
    code = """if True:
        import logging
        from pathlib import Path
        from dfloc.logfile import LogFile
        from dfloc.tracking_uri import quiet
        quiet(Path("/dev/full"))
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).warning("a line")
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_relative_path_counts_from_where_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    log = LogFile(Path("a.log"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    log.handle(logging.makeLogRecord({"msg": "line"}))
    log.close()
    assert "line" in (tmp_path / "a.log").read_text()
    assert list((tmp_path / "elsewhere").iterdir()) == []
