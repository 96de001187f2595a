"""Files of a workspace, changed, and the commands that read them: the right answer, or an error of two lines."""

import contextlib
import io
import shutil
import signal
import sys
import tempfile
from functools import cache
from pathlib import Path
from random import Random
from typing import NamedTuple
from unittest import mock

from dfloc import cli
from dfloc.record import SweepRecord
from tests.fuzz import mutate
from tests.fuzz.harness import MAX_LINES, Case, Part, WrongError
from tests.fuzz.stored import Small, quiet
from tests.report import studies

ASIDE = ("mlflow.db", "contact_sheet", ".html", ".png")  # made anew by every command, or with times in them
SAYS = ("damaged", "cannot be", "is not", "no JSON", "gone")
"""One of these is in what a command says that goes on without a file."""


class Said(NamedTuple):
    """What a command answered: its exit code, what it wrote to the screen, and the tables that it made."""

    code: int
    out: str
    err: str
    tables: dict[str, bytes]


class Command(NamedTuple):
    """A command, the files that it reads, and its right answer."""

    words: tuple[str, ...]
    files: list[Path]
    answer: Said


class Ready(NamedTuple):
    """A workspace with a finished study and shards, and the commands that read it."""

    root: Path
    commands: list[Command]


@cache
def ready() -> Ready:
    """Return a workspace that was never changed."""
    root = Path(tempfile.mkdtemp(prefix="dfloc-fuzz-command-"))
    small = Small(root)
    maker = studies.Maker(domains=studies.MINI[:2], num_test=12)
    maker.curves([4], epochs=2)
    maker.baselines()
    record: SweepRecord = studies.record(maker, "mini", synthetic=True)
    studies.fill(small.workspace, record)
    record.save(small.workspace.sweep(record.sweep))
    here = ("--workspace", str(root / "workspace"))
    names = [trial.fingerprint for trial in record.trials], [spec.fingerprint for spec in small.specs]
    trials, own = ([f"trials/{name}" for name in each] for each in names)
    one, two = (spec.fingerprint[:12] for spec in small.specs)
    read = {
        ("report", "exposure", "--no-panel", *here): [f"sweeps/{record.sweep}", *trials],
        ("diff", one, two, "--protocol", "dfloc-1", *here): own,
        ("data", "check", str(small.data)): ["shards"],
        ("doctor", *here): ["shards/tiny/tiny/blur", "lists", "features", *own],
    }
    commands = []
    for words, folders in read.items():
        below = (path for folder in folders for path in sorted((root / "workspace" / folder).rglob("*")))
        commands.append(Command(words, [path for path in below if path.is_file()], run(root, words)))
        assert commands[-1].answer.code == 0, commands[-1].answer
    return Ready(root, commands)


def remove() -> None:
    """Delete the workspace, where one was made."""
    if ready.cache_info().currsize:
        shutil.rmtree(ready().root)
        ready.cache_clear()


def run(root: Path, words: tuple[str, ...]) -> Said:
    """Run a command in this process, as from a shell."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    reports = root / "workspace" / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    with (
        quiet(root),
        mock.patch.object(sys, "argv", ["dfloc", *words]),
        mock.patch.object(signal, "signal"),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    made = (path for path in sorted(reports.rglob("*")) if path.is_file() and not path.name.endswith(ASIDE))
    return Said(code, out.getvalue(), err.getvalue(), {str(path.relative_to(root)): path.read_bytes() for path in made})


def examined(found: Said, path: Path) -> str:
    """Return what came of `dfloc doctor` after this file was changed.

    Raises:
        WrongError: it found damage elsewhere, or did not end in the usual way.
    """
    named = any(path.stem in line for line in found.out.splitlines() if line.startswith("damaged"))
    if found.code not in (0, 1) or named != (found.code == 1) or "Traceback" in found.err:
        raise WrongError(f"exit code {found.code}: {found.out[-300:]} {found.err[-300:]}")
    return "said so" if named else "right"


def judge(found: Said, expected: Said) -> str:
    """Return what came of a command: right, or refused.

    Raises:
        WrongError: another answer, without a word; too many words; another exit code.
    """
    if found.code == 0 and (found.out, found.tables) == (expected.out, expected.tables):
        return "right"
    told = found.out + found.err + "".join(data.decode() for data in found.tables.values())
    new = [line for line in told.splitlines() if any(word in line for word in SAYS)]
    if found.code == 0 and not new:
        raise WrongError(f"another answer, and nothing is said: {found.out[:200]}")
    if found.code not in (0, 1, 2) or len(found.err.splitlines()) > MAX_LINES or "Traceback" in told:
        raise WrongError(f"exit code {found.code}: {found.err[-500:]}")
    return "refused" if found.code else "said so"


def _make(rng: Random) -> Case:
    root, commands = ready()
    words, files, answer = rng.choice(commands)
    path = rng.choice(files)
    before = path.read_bytes()

    def read(data: bytes) -> str:
        path.write_bytes(data)
        try:
            found = run(root, words)
        finally:
            path.write_bytes(before)
        return examined(found, path) if words[0] == "doctor" else judge(found, answer)

    return Case(f"dfloc {words[0]}, one bit of a {path.name.split('-')[0]}", mutate.flip(before, rng), read)


PART = Part("commands", 20, _make, shrinks=False)
